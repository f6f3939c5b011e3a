// What became of a request; what an account has, what happened to it, what it has open.

import { $, brief, clock, el, fill, lookup, say, units, when } from "./dom.js";
import { assets, get, lastOf } from "./api.js";

const PAGE = 25;
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const n = (text) => ({ text, class: "n" });

/** An amount with its asset. */
function amount(digits, asset) {
  const decimals = assets.known.get(asset);
  return decimals === undefined ? `${digits} ${asset}` : `${units(digits, decimals)} ${asset}`;
}

export class Lookup {
  constructor(live) {
    this.live = live;
    this.what = "";
    $("find").addEventListener("submit", (event) => {
      event.preventDefault();
      const what = $("q").value.trim();
      if (location.hash === "#lookup=" + what) this.find(what);
      else location.hash = "lookup=" + what;
    });
  }

  show(what = "") {
    if (what && what !== $("q").value) $("q").value = what;
    if (what) this.find(what);
    else $("q").focus();
  }

  async find(what) {
    this.what = what;
    const found = $("found");
    try {
      await assets.load();
      if (/^\d+$/.test(what)) found.replaceChildren(...(await this.account(what)));
      else if (UUID.test(what)) found.replaceChildren(...(await request(what)));
      else found.replaceChildren(note("That is neither the number of an account nor an id."));
    } catch (problem) {
      found.replaceChildren(note(problem.message || String(problem)));
    }
  }

  async account(number) {
    const path = `v1/accounts/${number}`;
    const [links, balances, open] = await Promise.allSettled([get(path), get(path + "/balances"), get(`v1/orders?account=${number}&status=open&limit=100`)]);
    if (balances.status === "rejected") throw balances.reason;
    const head = card(`Account ${number}`, `as of seq ${balances.value.seq}`);
    const rows = balances.value.balances.map((it) => {
      const of = (digits) => n(amount(digits, it.asset).split(" ")[0]);
      return [it.asset, of(it.available), of(it.held), n(it.version)];
    });
    head.append(table("Balances", [["Asset"], ["Available", "n"], ["Held", "n"], ["Changed at seq", "n"]], rows, "It has nothing."));
    if (links.status === "fulfilled" && links.value.links.length) {
      head.append(table("Linked addresses", [["Chain", ""], ["Address"]], links.value.links.map((it) => [String(it.chain_id), { text: it.address, class: "mono" }])));
    }
    const orders = card("Open orders", "");
    const listed = open.status === "fulfilled" ? open.value.orders : [];
    orders.append(await ordersTable(listed, open.reason?.message || "None is open."));
    return [head, orders, await this.history(number)];
  }

  async history(number) {
    const section = card("History", "newest first");
    const holder = el("div");
    const [newer, older] = ["Newer", "Older"].map((text) => el("button", { type: "button", class: "small" }, text));
    const said = el("span", { class: "muted", role: "status" });
    section.append(holder, el("div", { class: "pager" }, newer, older, said));
    const heads = [["Seq", "n"], ["Time"], ["Cause"], ["Asset"], ["Change", "n"], ["Available", "n"], ["Held", "n"], ["Request"]];
    const body = table("", heads, []);
    holder.append(body);
    // Where each page that was seen ends.
    const ends = [];
    const page = async (after) => {
      const told = await get(`v1/accounts/${number}/history?limit=1000&after=${after}`);
      return { items: told.changes, next: told.next };
    };
    const show = async (upto) => {
      try {
        const { items, more } = await lastOf(page, upto, PAGE);
        fill(body.querySelector("tbody"), items.reverse().map(change), { columns: 8, empty: "Nothing has changed yet." });
        newer.disabled = ends.length === 0;
        older.disabled = !more || items.length === 0;
        this.oldest = items.length ? BigInt(items.at(-1).seq) : 0n;
        say(said, items.length ? `seq ${items.at(-1).seq} to ${items[0].seq}` : "");
      } catch (problem) {
        say(said, problem.message);
      }
    };
    const balances = await get(`v1/accounts/${number}/balances`);
    let upto = BigInt(balances.seq);
    older.addEventListener("click", () => {
      ends.push(upto);
      // A seq with many changes may have been cut: it is shown again.
      upto = this.oldest < upto ? this.oldest : upto - 1n;
      show(upto);
    });
    newer.addEventListener("click", () => show((upto = ends.pop() ?? upto)));
    await show(upto);
    return section;
  }
}

function change(it) {
  const decimals = assets.known.get(it.asset) ?? 0;
  const total = (available, held) => BigInt(available) + BigInt(held);
  const moved = total(it.available, it.held) - total(it.available_before, it.held_before);
  const text = (moved > 0n ? "+" : "") + units(moved, decimals);
  const kind = moved > 0n ? "n buy-text" : moved < 0n ? "n sell-text" : "n";
  const cause = moved === 0n && it.available !== it.available_before ? it.kind + ", held" : it.kind;
  return [n(it.seq), when(it.time), cause.replaceAll("_", " "), it.asset, { text, class: kind }, n(units(it.available, decimals)), n(units(it.held, decimals)), lookup(it.request_id, brief(it.request_id))];
}

/** The receipt or the refusal of a request, and how what it made stands now. */
async function request(id) {
  const [outcome, order] = await Promise.allSettled([get("v1/requests/" + id), get("v1/orders/" + id)]);
  const body = outcome.status === "fulfilled" ? outcome.value : outcome.reason.body;
  if (!body || body.code === "unknown_request" || body.code === "unreachable" || !body.status) throw outcome.reason;
  const cards = [await verdict(id, body)];
  if (order.status === "fulfilled") {
    const now = card("How the order stands now", "");
    now.append(await ordersTable([order.value], ""));
    cards.push(now);
  }
  if (body.token) cards.push(...(await hold(body.token)));
  return cards;
}

async function hold(token) {
  const tries = [["Prepared swap", "v1/prepared/"], ["Withdrawal", "v1/withdrawals/"]];
  for (const [name, path] of tries) {
    try {
      const told = await get(path + token);
      const now = card(name + " now", "");
      now.append(facts({ state: told.state, expires_at: told.expires_at, ended_at_seq: told.commit_seq, ended: told.time }));
      return [now];
    } catch (problem) {
      if (!["unknown_token", "forbidden"].includes(problem.code)) throw problem;
    }
  }
  return [];
}

/** Members that are shown apart, or say nothing more. */
const APART = ["status", "legs", "trades", "makers", "order", "orders", "writes", "hold", "links", "title", "detail", "settlement", "results"];

async function verdict(id, body) {
  const kinds = { settled: ["good", "Settled"], pending: ["wait", "Pending"], rejected: ["bad", "Refused"] };
  const [kind, word] = kinds[body.status] || ["bad", body.status];
  const section = card("Request", "");
  section.append(el("p", { class: "verdict" }, el("span", { class: "pill " + kind }, word), body.title ? el("span", {}, body.title) : null));
  if (body.detail) section.append(el("p", { class: "note bad" }, body.detail));
  const market = body.market && (await get("v1/markets/" + body.market).catch(() => null));
  const members = Object.fromEntries(Object.entries(body).filter(([name]) => !APART.includes(name)));
  if (market && body.fee !== undefined) members.fee = amount(body.fee, market.quote);
  section.append(facts(members));
  if (body.legs?.length) section.append(legsTable(body.legs));
  if (body.order) section.append(await ordersTable([{ ...body.order, market: body.market, time: body.time }], "", "Order"));
  if (body.trades?.length && market) section.append(tradesTable(body.trades, market));
  if (body.orders?.length) section.append(await ordersTable(body.orders.map((it) => ({ ...it, market: body.market })), "", "Orders"));
  section.append(el("details", {}, el("summary", {}, "As JSON"), el("pre", {}, JSON.stringify(body, null, 2))));
  return section;
}

function legsTable(legs) {
  const rows = legs.map((leg) => {
    const decimals = assets.known.get(leg.asset) ?? 0;
    const pair = (before, after) => n(before === undefined ? "" : `${units(before, decimals)} → ${units(after, decimals)}`);
    return [lookup(String(leg.from)), lookup(String(leg.to)), n(units(leg.amount, decimals)), leg.asset, pair(leg.from_before, leg.from_after), pair(leg.to_before, leg.to_after)];
  });
  return table("Legs", [["From"], ["To"], ["Amount", "n"], ["Asset"], ["Payer's balance", "n"], ["Receiver's balance", "n"]], rows);
}

function tradesTable(trades, market) {
  const rows = trades.map((it) => [
    lookup(it.maker_order_id, brief(it.maker_order_id)), lookup(String(it.maker_account)), n(amount(it.quantity, market.base)), n(amount(it.notional, market.quote)), n(amount(it.taker_fee, market.quote)), n(amount(it.maker_fee, market.quote)),
  ]);
  return table("Trades", [["Maker's order"], ["Maker"], ["Quantity", "n"], ["For", "n"], ["Taker's fee", "n"], ["Maker's fee", "n"]], rows);
}

async function ordersTable(orders, empty, title = "") {
  const markets = new Map();
  for (const { market } of orders) {
    if (market && !markets.has(market)) markets.set(market, await get("v1/markets/" + market).catch(() => null));
  }
  const rows = orders.map((it) => {
    const market = markets.get(it.market);
    const of = (digits, asset) => n(digits === undefined || !market ? "" : amount(digits, market[asset]));
    return [
      lookup(it.order_id, brief(it.order_id)), it.market || "", `${it.side || ""} ${(it.type || "").replaceAll("_", " ")}`.trim(),
      it.status.replaceAll("_", " ") + (it.reason && it.reason !== "asked" ? `: ${it.reason.replaceAll("_", " ")}` : ""),
      of(it.filled, "base"), of(it.remaining, "base"), of(it.notional, "quote"), it.time ? clock(it.time) : "",
    ];
  });
  return table(title, [["Order"], ["Market"], ["Kind"], ["Status"], ["Filled", "n"], ["Remaining", "n"], ["For", "n"], ["Placed"]], rows, empty);
}

function note(text) {
  return el("p", { class: "note bad", role: "alert" }, text);
}

function card(title, aside) {
  return el("article", { class: "card" }, el("header", {}, el("h2", {}, title), el("p", { class: "aside" }, aside)));
}

/** What is said in one line each. */
function facts(members) {
  const list = el("dl", { class: "facts" });
  for (const [name, value] of Object.entries(members)) {
    if (value === undefined || value === null || typeof value === "object") continue;
    const isTime = typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value);
    const isLink = ["account", "request_id", "order_id", "token"].includes(name);
    const asset = members.asset;
    let shown = isTime ? when(value) : asset && ["amount", "short_by"].includes(name) ? amount(value, asset) : String(value);
    if (isLink) shown = el("a", { href: "#lookup=" + value, class: UUID.test(value) ? "mono" : undefined }, shown);
    list.append(el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, shown));
  }
  return list;
}

/** A table with its title; `heads` are [text, class]. */
function table(title, heads, rows, empty = "") {
  const head = el("tr", {}, heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)));
  const body = el("tbody");
  fill(body, rows, { columns: heads.length, empty });
  const made = el("table", { class: "data" }, title ? el("caption", { class: "hidden" }, title) : null, el("thead", {}, head), body);
  return el("div", {}, title ? el("h3", {}, title) : null, el("div", { class: "scroll" }, made));
}
