/* Opens a page in Chromium, walks through login, picker and consent, prints what the app found. */
import puppeteer from "puppeteer-core";

const given = JSON.parse(process.argv[2]);
const browser = await puppeteer.launch({
  executablePath: given.chromium,
  args: ["--no-sandbox", "--disable-gpu"],
});
const page = await browser.newPage();
const said = [];
page.on("console", (message) => said.push(message.text()));
page.on("pageerror", (error) => said.push(String(error)));
const press = async (selector) =>
  Promise.all([page.waitForNavigation({ timeout: 20000 }), page.click(selector)]);
try {
  await page.goto(given.url);
  await page.waitForSelector("#username", { timeout: 20000 });
  await page.type("#username", given.user);
  await page.type("#password", given.password);
  await press("button");
  const choice = await page.$(`input[name=patient][value="${given.patient}"]`);
  if (choice) {
    await choice.click();
    await press("form[action$=patient] button");
  }
  await press("button[value=approve]");
  await page.waitForFunction(() => window.result !== undefined, { timeout: 30000 });
  console.log(JSON.stringify(await page.evaluate(() => window.result)));
} catch (error) {
  const text = await page.evaluate(() => document.body.innerText.slice(0, 300));
  console.log(JSON.stringify({ error: String(error), url: page.url(), text, said }));
} finally {
  await browser.close();
}
