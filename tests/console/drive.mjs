// Drives the console in a real browser: `node drive.mjs SCENARIO URL PICTURES [TOKEN...]`.
//
// What it wants of whoever started it, it says in a line (`kill`, `start`) and reads a line when it is done.
// It ends with status 0 when everything was as it must be, and says what was not.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { id, Venue } from "./traffic.mjs";

const { chromium } = createRequire(process.env.PLAYWRIGHT + "/")("playwright-core");
const [scenario, url, pictures, ...tokens] = process.argv.slice(2);
const DESKTOP = { width: 1440, height: 960 };
const PHONE = { width: 390, height: 844 };

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function tell(word) {
  console.log(word);
  const { value } = await lines.next();
  assert.equal(value, "done", word);
}

/** A page that may not complain, nor ask anybody else. */
async function open(browser, { viewport = DESKTOP, colorScheme = "light", at = "/console", quiet = () => false } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: viewport === PHONE ? 2 : 1, hasTouch: viewport === PHONE });
  const page = await context.newPage();
  const seen = { errors: [], asked: [] };
  page.on("console", (message) => message.type() === "error" && !quiet(message.text()) && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (request) => seen.asked.push(request.url()));
  page.on("websocket", (socket) => seen.asked.push(socket.url().replace("ws", "http")));
  await page.addInitScript(() => {
    window.shifts = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => entry.hadRecentInput || (window.shifts += entry.value))).observe({ type: "layout-shift", buffered: true });
  });
  await page.goto(url + at);
  return { page, seen, context };
}

function clean({ errors, asked }) {
  assert.deepEqual(errors, []);
  assert.deepEqual(asked.filter((one) => new URL(one).origin !== url), [], "only this server is asked");
}

const text = (page, selector) => page.locator(selector).innerText();
async function picture(page, name, fullPage = true) {
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: `${pictures}/${name}.png`, fullPage });
}

async function until(page, what, check, argument) {
  await page.waitForFunction(check, argument, { timeout: 30000 }).catch((error) => {
    throw new Error(`${what}: ${error.message}`);
  });
}

const isLive = (page) => until(page, "live", () => document.getElementById("link-text").textContent === "Live");

/** Nothing is wider than the screen. */
async function fits(page, name) {
  const { wide, width } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, width: innerWidth }));
  assert.ok(wide <= width, `${name} is ${wide} wide on a screen of ${width}`);
}

/** Every control can be pressed on, and says what it is. */
async function labelled(page) {
  const unnamed = await page.evaluate(() => [...document.querySelectorAll("button, input, select, a[href]")]
    .filter((it) => it.checkVisibility() && !(it.getAttribute("aria-label") || it.labels?.length || it.innerText?.trim()))
    .map((it) => it.outerHTML));
  assert.deepEqual(unnamed, []);
  const headless = await page.evaluate(() => [...document.querySelectorAll("table")].filter((it) => !it.tHead || [...it.tHead.querySelectorAll("th")].some((th) => th.scope !== "col")).length);
  assert.equal(headless, 0, "tables have heads");
}

async function live(browser, venue) {
  const { page, seen } = await open(browser);
  await isLive(page);
  await until(page, "throughput", () => Number(document.getElementById("settled").textContent.replaceAll(",", "")) > 50);
  const number = () => page.evaluate(() => document.querySelectorAll("#throughput-chart path.line")[0].getAttribute("d").length);
  const before = await number();
  await until(page, "hot account", () => document.querySelector("#hot tbody a")?.textContent === "1");
  await until(page, "holds", () => document.querySelectorAll("#due tbody a").length === 8);
  const left = await page.locator("#due tbody tr:first-child td:last-child").innerText();
  assert.match(left, /^[\d.]+ (s|min)$/);
  await until(page, "mailboxes", () => document.querySelectorAll("#boxes tbody tr").length >= 4);
  await page.waitForTimeout(Number(process.env.SHOWN_MS || 0));
  assert.ok((await number()) > before, "the chart grows");
  assert.ok((await page.evaluate(() => window.shifts)) < 0.1, "nothing jumps");
  await labelled(page);
  await picture(page, "live-light");
  // The focus stays where it is while what is around it changes.
  await page.locator("#hot tbody a").first().focus();
  const told = await text(page, "#about");
  await until(page, "another look", (told) => document.getElementById("about").textContent !== told, told);
  assert.equal(await page.evaluate(() => document.activeElement.closest("table")?.id), "hot");
  await page.locator("#theme").click();
  await page.locator("#theme").click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await picture(page, "live-dark");
  clean(seen);
  await page.context().close();
}

async function key(page, ...keys) {
  for (const one of keys) await page.keyboard.press(one);
}

/** With the keyboard alone: to the market, an order, its place in the book, and out again. */
async function trade(browser, venue) {
  const { page, seen } = await open(browser);
  await isLive(page);
  await key(page, "Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await key(page, "Tab", "Tab", "Enter");
  await until(page, "book", () => document.querySelectorAll("#bids tr.level").length === 13);
  await until(page, "trades", () => document.querySelectorAll("#trades .buy-text, #trades .sell-text").length > 10);
  await until(page, "feed", () => document.getElementById("feed").textContent === "live");
  const name = () => page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.textContent);
  for (let i = 0; i < 40 && (await name()) !== "o-account"; i++) await key(page, "Tab");
  await page.keyboard.type("1");
  await key(page, "Tab", "ArrowRight");
  assert.equal(await page.locator("[name=side]:checked").inputValue(), "sell");
  for (const [to, typed] of [["o-price", "2500.123"], ["o-quantity", "0.777"]]) {
    for (let i = 0; i < 9 && (await name()) !== to; i++) await key(page, "Tab");
    await page.keyboard.type(typed);
  }
  await key(page, "Enter");
  assert.equal(await text(page, "#order-said"), "The price has to be a multiple of 0.01 USDC.");
  assert.equal(await name(), "o-price");
  await page.keyboard.press("Control+A");
  // Nobody takes it while the others rest: below the best ask, above the best bid.
  await venue.stop();
  const best = () => page.evaluate(() => ["#asks tr:last-child td", "#bids tr td"].map((it) => Number(document.querySelector(it).textContent.replaceAll(",", ""))));
  const [ask, bid] = await best();
  const price = (ask - 0.01 > bid ? ask - 0.01 : ask + 0.01).toFixed(2);
  await page.keyboard.type(price);
  await key(page, "Enter");
  await until(page, "placed", () => document.getElementById("order-said").textContent.startsWith("0.777 ETH stands in the book."));
  const level = (price) => [...document.querySelectorAll("#asks tr")].some((row) => row.cells[0].textContent.replaceAll(",", "") === price && row.cells[1].textContent === "0.777");
  await until(page, "in the book", level, price);
  await until(page, "own order", () => document.querySelector("#own tbody td:nth-child(4)")?.textContent === "0.777");
  await picture(page, "markets-light");
  await page.locator("#own tbody button").first().click();
  await until(page, "canceled", () => document.getElementById("order-said").textContent === "Canceled.");
  await until(page, "gone", () => /Nothing is open/.test(document.querySelector("#own tbody").textContent));
  assert.equal(await page.evaluate(level, price), false);
  venue.start();
  await clearly(page);
  assert.ok((await page.evaluate(() => window.shifts)) < 0.1, "nothing jumps");
  await labelled(page);
  await page.emulateMedia({ colorScheme: "dark" });
  await picture(page, "markets-dark");
  clean({ ...seen, errors: seen.errors.filter((error) => !/status of 422/.test(error)) });
  await page.context().close();
}

/** What is refused is refused in words that say what to do. */
async function clearly(page) {
  await page.locator("#o-quantity").fill("999999999");
  await page.locator("#o-price").fill("2480");
  await page.locator("#place").click();
  await until(page, "refused", () => /^Account 1 has too little: [\d,.]+ ETH are missing\.$/.test(document.getElementById("order-said").textContent));
  await page.locator("#o-type").selectOption("post_only");
  await page.locator("#o-quantity").fill("1");
  await page.locator("#o-price").fill("2400");
  await page.locator("#place").click();
  await until(page, "would take", () => /post only/.test(document.getElementById("order-said").textContent));
  assert.deepEqual(await page.evaluate(() => [...document.getElementById("o-tif").options].filter((it) => !it.disabled).map((it) => it.value)), ["gtc", "gtd"]);
  await page.locator("#o-type").selectOption("market");
  await page.locator("[name=side][value=buy]").check({ force: true });
  await page.locator("#o-quantity").fill("100");
  await page.locator("#place").click();
  await until(page, "bought", () => /^Bought 0\.0\d+ ETH at 2,\d+\.\d\d USDC in \d+ trade/.test(document.getElementById("order-said").textContent));
}

/** What is shown is what the server says, once nothing happens. */
async function agree(browser, venue) {
  const { page, seen } = await open(browser, { at: "/console#markets=ETH-USDC" });
  await until(page, "book", () => document.querySelectorAll("#bids tr.level").length === 13);
  await until(page, "trades", () => document.querySelectorAll("#trades .buy-text, #trades .sell-text").length === 15);
  const book = await venue.must("GET", "/v1/markets/ETH-USDC/book?depth=13");
  const rows = (side) => page.evaluate((side) => [...document.querySelectorAll(`#${side} tr`)].map((row) => [row.cells[0].textContent, row.cells[1].textContent].map((it) => Number(it.replaceAll(",", "")))), side);
  const told = (side) => side.map(({ price, quantity }) => [Number(price) / 1000, Number(BigInt(quantity) / 10n ** 15n) / 1000]);
  assert.deepEqual(await rows("bids"), told(book.bids));
  assert.deepEqual((await rows("asks")).reverse(), told(book.asks));
  const last = Number((await text(page, "#last")).replaceAll(",", "").split(" ")[0]);
  assert.equal(last, Number(book.last_price) / 1000);
  clean(seen);
  await page.context().close();
}

async function find(browser, venue) {
  const { page, seen } = await open(browser, { at: "/console#lookup" });
  const look = async (what) => {
    await page.locator("#q").fill(what);
    await page.keyboard.press("Enter");
  };
  await page.locator("#q").focus();
  const legs = [{ from: 3, to: 4, asset: "ETH", amount: "1500000000000000000" }, { from: 4, to: 3, asset: "SOL", amount: "7" }];
  const settled = await venue.must("POST", "/v1/swaps", { legs });
  await look(settled.request_id);
  await until(page, "receipt", () => /Settled/.test(document.getElementById("found").textContent));
  assert.match(await text(page, "#found"), /1\.5\tETH/);
  await picture(page, "lookup-receipt-light");
  const refused = await venue.ask("POST", "/v1/swaps", { legs: [{ ...legs[0], amount: "9".repeat(30) }, legs[1]] });
  assert.equal(refused.code, "insufficient_funds");
  await look(refused.request_id);
  await until(page, "refusal", () => /Refused/.test(document.getElementById("found").textContent));
  const order = await venue.must("POST", "/v1/orders", { account: 5, market: "ETH-USDC", side: "buy", type: "market", funds: "90000000000" });
  await look(order.request_id);
  await until(page, "order", () => /How the order stands now/.test(document.getElementById("found").textContent));
  await picture(page, "lookup-order-light");
  const prepared = await venue.must("POST", "/v1/prepared", { legs, expires_in_ms: 60000 });
  await look(prepared.token);
  await until(page, "hold", () => /Prepared swap now[\s\S]*open/.test(document.getElementById("found").textContent));
  await look(id());
  await until(page, "unknown", () => /no request was seen/.test(document.getElementById("found").textContent));
  await look("nonsense");
  await until(page, "nonsense", () => /neither/.test(document.getElementById("found").textContent));
  // Somebody with more than two pages of history.
  await venue.must("PUT", "/v1/accounts/99", { links: [{ chain_id: 900, address: "wallet-99" }] });
  await venue.must("POST", "/v1/deposits", { account: 99, asset: "ETH", amount: "5000000000000000000", reference: "ETH-99" });
  for (let i = 1; i < 30; i++) await venue.must("POST", "/v1/swaps", { legs: [{ from: 99, to: 3, asset: "ETH", amount: String(i * 10 ** 15) }, { from: 3, to: 99, asset: "SOL", amount: String(i) }] });
  await look("99");
  await until(page, "account", () => /Account 99/.test(document.getElementById("found").textContent) && document.querySelectorAll("#found tbody tr").length > 20);
  // Back through all of it: no change is left out, none is told twice.
  const told = await venue.must("GET", "/v1/accounts/99/history?limit=1000");
  assert.equal(told.next, null, "it fits a page");
  await until(page, "newest", (seq) => document.querySelector("#found .pager").textContent.includes(`to ${seq}`), told.changes.at(-1).seq);
  await picture(page, "lookup-account-light");
  const seqs = () => page.evaluate(() => [...document.querySelector("#found .pager").parentElement.querySelectorAll("tbody tr")].map((row) => row.cells[0].textContent + row.cells[3].textContent));
  const all = new Set(await seqs());
  const older = page.getByRole("button", { name: "Older" });
  while (await older.isEnabled()) {
    const before = await text(page, "#found .pager");
    await older.click();
    await until(page, "older", (before) => document.querySelector("#found .pager").innerText !== before, before);
    (await seqs()).forEach((seq) => all.add(seq));
  }
  const expected = told.changes.map((it) => it.seq + it.asset);
  assert.deepEqual([...all].sort(), [...new Set(expected)].sort());
  clean({ ...seen, errors: seen.errors.filter((error) => !/status of 4(04|22|09)/.test(error)) });
  await page.context().close();
}

async function restart(browser, venue) {
  const quiet = (text) => /ERR_CONNECTION_REFUSED|WebSocket connection|status of 503|ERR_SOCKET|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/.test(text);
  const { page, seen } = await open(browser, { at: "/console#markets", quiet });
  await until(page, "feed", () => document.getElementById("feed").textContent === "live");
  await tell("kill");
  await until(page, "said", () => document.getElementById("link-text").textContent === "Reconnecting");
  await until(page, "feed", () => /lost/.test(document.getElementById("feed").textContent));
  await picture(page, "restart-light", false);
  await tell("start");
  await until(page, "again", () => /started anew/.test(document.getElementById("banner").textContent));
  await isLive(page);
  await until(page, "feed", () => document.getElementById("feed").textContent === "live");
  await until(page, "book", () => document.querySelectorAll("#bids tr.level").length === 13);
  await page.locator('[data-part="live"]').click();
  await until(page, "numbers", () => document.querySelectorAll("#throughput-chart path.line")[0]?.getAttribute("d").length > 20);
  await until(page, "banner", () => document.getElementById("banner").hidden);
  clean(seen);
  await page.context().close();
}

async function phone(browser) {
  for (const colorScheme of ["light", "dark"]) {
    const { page, seen } = await open(browser, { viewport: PHONE, colorScheme });
    await isLive(page);
    await until(page, "numbers", () => document.getElementById("settled").textContent !== "–");
    await until(page, "hot account", () => document.querySelector("#hot tbody a"));
    for (const part of ["live", "markets", "lookup"]) {
      await page.locator(`[data-part="${part}"]`).click();
      if (part === "markets") await until(page, "book", () => document.querySelectorAll("#bids tr.level").length === 13);
      if (part === "lookup") {
        await page.locator("#q").fill("4");
        await page.keyboard.press("Enter");
        await until(page, "account", () => /Account 4/.test(document.getElementById("found").textContent) && document.querySelector("#found .pager"));
      }
      await fits(page, part);
      await picture(page, `phone-${part}-${colorScheme}`);
    }
    clean(seen);
    await page.context().close();
  }
}

/** Pages of another origin get no market data of a venue without keys. */
async function strangers(browser) {
  const other = url.replace("127.0.0.1", "localhost");
  const page = await browser.newPage();
  await page.goto(other + "/livez");
  const of = (target) => page.evaluate((target) => new Promise((done) => {
    const socket = new WebSocket(target.replace("http", "ws") + "/v1/stream", ["crosslatch.v1"]);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  }), target);
  assert.equal(await of(other), "open");
  assert.equal(await of(url), "refused");
  await page.close();
}

async function keyed(browser, venue) {
  const [operator, desk] = tokens;
  const quiet = (text) => /status of 40[13]/.test(text);
  const { page, seen } = await open(browser, { quiet });
  await page.locator("#key-dialog[open]").waitFor();
  await picture(page, "key-light", false);
  await page.keyboard.type("xl_nonsense");
  await page.keyboard.press("Enter");
  await until(page, "form", () => /no token/.test(document.getElementById("key-said").textContent));
  const use = async (token) => {
    await page.locator("#key").fill(token);
    await page.keyboard.press("Enter");
  };
  await use(operator.slice(0, -1) + (operator.endsWith("A") ? "B" : "A"));
  await until(page, "wrong", () => /token|key/.test(document.getElementById("key-said").textContent));
  assert.equal(await page.evaluate(() => sessionStorage.getItem("crosslatch-key")), null);
  await use(operator);
  await isLive(page);
  await until(page, "numbers", () => document.getElementById("settled").textContent !== "–");
  await page.locator('[data-part="markets"]').click();
  await until(page, "stream with a key", () => document.getElementById("feed").textContent === "live");
  const kept = await page.evaluate(() => [JSON.stringify(localStorage), location.href, document.cookie].join());
  assert.ok(!kept.includes(operator.slice(-20)), "the key is in this tab alone");
  assert.ok(!seen.asked.some((one) => one.includes(operator.slice(-20))), "no address has it");
  const second = await page.context().newPage();
  await second.goto(url + "/console");
  await second.locator("#key-dialog[open]").waitFor();
  await second.close();
  // A key of some accounts sees these alone, and is told so.
  await page.locator("#key-button").click();
  await use(desk);
  await page.locator("#key-dialog").waitFor({ state: "hidden" });
  await page.locator("#o-account").fill("2");
  await page.keyboard.press("Tab");
  await until(page, "own account", () => /USDC available/.test(document.getElementById("available").textContent));
  await page.locator("#o-account").fill("3");
  await page.keyboard.press("Tab");
  await until(page, "another's", () => /forbidden|not/i.test(document.querySelector("#own tbody").textContent));
  await page.locator('[data-part="live"]').click();
  await until(page, "not for it", () => /all accounts/.test(document.querySelector("#hot tbody").textContent));
  await page.locator("#key-button").click();
  await page.locator("#key-forget").click();
  await until(page, "forgotten", () => document.getElementById("link-text").textContent === "Key needed");
  clean(seen);
}

const SCENARIOS = {
  async open(browser, venue) {
    await venue.populate();
    venue.start();
    await live(browser, venue);
    await trade(browser, venue);
    await strangers(browser);
    await phone(browser);
    await restart(browser, venue);
    await venue.stop();
    await find(browser, venue);
    await agree(browser, venue);
  },
  async keyed(browser, venue) {
    venue.token = tokens[0];
    await venue.populate();
    venue.start();
    await keyed(browser, venue);
    await venue.stop();
  },
  /** The report of a load, which is a file. */
  async report(browser) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport: { width: 1100, height: 900 }, colorScheme });
      const page = await context.newPage();
      const errors = [];
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      page.on("pageerror", (error) => errors.push(String(error)));
      await page.goto(url);
      await picture(page, `report-${colorScheme}`);
      await page.setViewportSize(PHONE);
      await fits(page, "report");
      await picture(page, `report-phone-${colorScheme}`);
      assert.deepEqual(errors, []);
      await context.close();
    }
  },
};

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
try {
  await SCENARIOS[scenario](browser, new Venue(url));
} catch (error) {
  for (const context of browser.contexts()) {
    for (const page of context.pages()) await page.screenshot({ path: `${pictures}/failed-${scenario}.png`, fullPage: true }).catch(() => {});
  }
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit();
}
