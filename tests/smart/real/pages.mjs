/* Walks through every page in Chromium at two widths; axe-core looks at each, and a picture of
   each is kept where it is asked for. Prints the names of the pages and what is wrong with them. */
import { createHash, createHmac, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const given = JSON.parse(process.argv[2]);
const axe = readFileSync(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const WIDTHS = { desktop: [1280, 800], phone: [390, 844] };
const browser = await puppeteer.launch({
  executablePath: given.chromium,
  args: ["--no-sandbox", "--disable-gpu"],
});
const found = { seen: [], wrong: [] };
const wait = { waitUntil: "load", timeout: 20000 };

async function look(page, name) {
  for (const [kind, [width, height]] of Object.entries(WIDTHS)) {
    await page.setViewport({ width, height });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (over > 0) found.wrong.push(`${name} ${kind}: ${over} pixels too wide`);
    if (given.shots)
      await page.screenshot({ path: `${given.shots}/${name}-${given.language}-${kind}.png`, fullPage: true });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run(document));
    for (const rule of violations)
      found.wrong.push(`${name} ${kind}: ${rule.id}: ${rule.nodes.map((n) => n.html).join(" ")}`);
  }
  found.seen.push(name);
}
const press = async (page, selector) => {
  await Promise.all([page.waitForNavigation(wait), page.click(selector)]);
};
async function signIn(page, user, password) {
  await page.$eval("#username", (field) => (field.value = ""));
  await page.type("#username", user);
  await page.type("#password", password);
  await press(page, "main form button");
}
function code(key) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...key.replaceAll(" ", "")].map((c) => letters.indexOf(c).toString(2).padStart(5, "0"));
  const bytes = Buffer.from(bits.join("").match(/.{8}/g).map((b) => parseInt(b, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000)));
  const mac = createHmac("sha1", bytes).update(step).digest();
  const place = mac[19] & 15;
  return String((mac.readUInt32BE(place) & 0x7fffffff) % 1e6).padStart(6, "0");
}
const verifier = randomBytes(40).toString("base64url");
const challenge = createHash("sha256").update(verifier).digest("base64url");
const asked = (more) =>
  `${given.root}/auth/authorize?` +
  new URLSearchParams({
    response_type: "code",
    client_id: given.client,
    redirect_uri: given.redirect,
    scope: given.scope,
    state: "s",
    aud: `${given.root}/fhir`,
    code_challenge: challenge,
    code_challenge_method: "S256",
    ...more,
  });

async function opened() {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.setBypassCSP(true);
  await page.setExtraHTTPHeaders({ "Accept-Language": given.language });
  return page;
}

try {
  let page = await opened();
  await page.goto(asked({ client_id: "nobody" }), wait);
  await look(page, "error");
  await page.goto(asked({}), wait);
  await look(page, "login");
  await signIn(page, given.user, "not the password");
  await look(page, "login-wrong");
  await signIn(page, given.user, given.password);
  await look(page, "patient");
  await page.click(`input[name=patient][value="${given.patient}"]`);
  await press(page, "form[action$=patient] button");
  if (await page.$("form[action$=encounter]")) {
    await look(page, "encounter");
    await page.click("input[name=encounter]");
    await press(page, "form[action$=encounter] button");
  }
  await look(page, "consent");
  for (const closed of await page.$$("summary")) await closed.click();
  await look(page, "consent-open");
  let back = "";
  page.on("request", (r) => r.url().startsWith(given.redirect) && (back = r.url()));
  await page.click("button[value=approve]");
  for (let n = 0; n < 100 && !back; n++) await new Promise((done) => setTimeout(done, 100));
  const form = {
    grant_type: "authorization_code",
    client_id: given.client,
    redirect_uri: given.redirect,
    code: new URL(back).searchParams.get("code"),
    code_verifier: verifier,
  };
  const answer = await fetch(`${given.root}/auth/token`, { method: "POST", body: new URLSearchParams(form) });
  found.token = answer.status;
  for (const [place, name] of [["", "home"], ["/apps", "apps"]]) {
    await page.goto(`${given.root}/auth${place}`, wait);
    await look(page, name);
  }
  await press(page, "button.danger");
  await look(page, "apps-none");
  await page.goto(`${given.root}/auth/factor`, wait);
  await look(page, "enrol");
  await page.type("#otp", "000000");
  await press(page, "main form button");
  await look(page, "enrol-wrong");
  const left = 30000 - (Date.now() % 30000); // a code that is about to pass may be late
  if (left < 5000) await new Promise((done) => setTimeout(done, left + 200));
  await page.type("#otp", code(await page.$eval("code.key", (e) => e.textContent)));
  await press(page, "main form button");
  await look(page, "recovery");
  const spare = await page.$$eval(".codes code", (all) => all.map((e) => e.textContent));
  await press(page, "a.button");
  await page.goto(`${given.root}/auth/factor`, wait);
  await look(page, "factor");
  await page.goto(`${given.root}/auth/logout`, wait);
  await look(page, "logout");
  await press(page, "main form button");
  await look(page, "logout-done");
  await page.goto(`${given.root}/auth`, wait);
  await signIn(page, given.user, given.password);
  await look(page, "otp");
  await page.type("#otp", "123");
  await press(page, "main form button");
  await look(page, "otp-wrong");
  await page.type("#otp", spare[0]);
  await press(page, "main form button");
  await page.goto(`${given.root}/auth/factor`, wait);
  await page.type("#otp", spare[1]);
  await press(page, "button.danger");
  await look(page, "factor-removed");
} catch (error) {
  found.wrong.push(String(error.stack));
} finally {
  console.log(JSON.stringify(found));
  await browser.close();
}
