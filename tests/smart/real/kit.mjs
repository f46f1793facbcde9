/* fhir-kit-client: discovery, create, read, search with paging, vread, transaction. */
import * as kit from "fhir-kit-client";

const given = JSON.parse(process.argv[2]);
const Made = kit.Client ?? kit.default;
const client = new Made({ baseUrl: given.base });
const metadata = await client.smartAuthMetadata();
client.bearerToken = given.token;
const created = await client.create({
  resourceType: "Patient",
  body: { resourceType: "Patient", name: [{ family: "Kit" }] },
});
const read = await client.read({ resourceType: "Patient", id: created.id });
const version = await client.vread({ resourceType: "Patient", id: created.id, version: "1" });
const first = await client.search({ resourceType: "Patient", searchParams: { _count: 1 } });
const next = await client.nextPage({ bundle: first });
const bundle = {
  resourceType: "Bundle",
  type: "transaction",
  entry: [
    {
      resource: { resourceType: "Patient", name: [{ family: "Kit2" }] },
      request: { method: "POST", url: "Patient" },
    },
  ],
};
const done = await client.transaction({ body: bundle });
console.log(
  JSON.stringify({
    token: metadata.tokenUrl.href,
    read: read.name[0].family,
    version: version.meta.versionId,
    next: next.entry.length,
    done: done.entry[0].response.status,
  }),
);
