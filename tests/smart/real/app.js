/* A SMART app on the stock client: ?start begins a standalone launch, ?iss=&launch= one from an EHR. */
(async () => {
  const query = new URLSearchParams(location.search);
  const redirectUri = location.origin + "/cb";
  const clientId = "page";
  try {
    if (query.has("start") || query.has("launch")) {
      const scope = query.get("scope");
      const options = { clientId, scope, redirectUri };
      if (query.has("start")) options.iss = query.get("iss");
      await FHIR.oauth2.authorize(options);
      return;
    }
    const client = await FHIR.oauth2.ready();
    const patient = await client.patient.read();
    const before = client.state.tokenResponse.access_token;
    if (client.state.tokenResponse.refresh_token) await client.refresh();
    const found = await client.request("Observation?_count=2", { flat: true, pageLimit: 0 });
    window.result = {
      patient: patient.id,
      encounter: client.encounter.id,
      user: client.user.fhirUser,
      observations: found.length,
      refreshed: before !== client.state.tokenResponse.access_token,
      token: client.state.tokenResponse.access_token,
    };
  } catch (error) {
    window.result = { error: String(error) };
  }
  document.title = "done";
})();
