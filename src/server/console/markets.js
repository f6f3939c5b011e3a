// One market: its book by the stream, its trades, orders into it, and an account's orders in it.

import { $, brief, clock, decimal, el, fill, grouped, lookup, say, units } from "./dom.js";
import { Backoff, ask, assets, freshId, get, lastOf, socket } from "./api.js";
import { Depth } from "./chart.js";
import { Book } from "./book.js";

const DEPTH = 200;
const LADDER = 13;
const TRADES = 15;
const OWN_EVERY_MS = 5000;
const WORDS = { connecting: "connecting to the stream", live: "live", again: "stream lost, connecting again", rebuilding: "asking for the book anew" };

/** Prices and quantities of a market, between people and smallest units. All exact. */
export class Scale {
  constructor(market) {
    [this.base, this.quote] = [market.base, market.quote];
    [this.tick, this.lot] = [BigInt(market.tick_size), BigInt(market.lot_size)];
    [this.baseDecimals, this.quoteDecimals] = [assets.known.get(market.base) ?? 0, assets.known.get(market.quote) ?? 0];
    [this.up, this.down] = [10n ** BigInt(this.baseDecimals), this.lot * 10n ** BigInt(this.quoteDecimals)];
    this.pricePlaces = places(this.tick * this.up, this.down);
    this.quantityPlaces = places(this.lot, this.up);
  }
  price(raw) {
    return fixed(BigInt(raw) * this.up, this.down, this.pricePlaces);
  }
  priceNumber(raw) {
    return Number(raw) * (Number(this.up) / Number(this.down));
  }
  quantity(raw) {
    return fixed(BigInt(raw), this.up, this.quantityPlaces);
  }
  quantityNumber(raw) {
    return Number(raw) / Number(this.up);
  }
  notional(price, quantity) {
    return (price * quantity) / this.lot;
  }
  /** What was typed, in quote's smallest units per lot. Throws what is wrong with it. */
  priceOf(text) {
    return this.read(text, "price", this.down, this.up, this.tick, () => this.price(this.tick) + " " + this.quote);
  }
  quantityOf(text) {
    return this.read(text, "quantity", this.up, 1n, this.lot, () => this.quantity(this.lot) + " " + this.base);
  }
  fundsOf(text) {
    return this.read(text, "amount", 10n ** BigInt(this.quoteDecimals), 1n, 1n, () => units("1", this.quoteDecimals) + " " + this.quote);
  }
  read(text, what, up, down, step, words) {
    const read = decimal(text);
    if (!read || read[0] === 0n) throw new Error(text.trim() ? `The ${what} is not a number above 0.` : `The ${what} is missing.`);
    const [raw, rest] = [(read[0] * up) / (read[1] * down), (read[0] * up) % (read[1] * down)];
    if (rest !== 0n || raw % step !== 0n) throw new Error(`The ${what} has to be a multiple of ${words()}.`);
    return raw;
  }
}

/** How many decimals show `n / d` exactly; 12 where none do. */
function places(n, d) {
  for (let count = 0; count < 12; count++) if ((n * 10n ** BigInt(count)) % d === 0n) return count;
  return 12;
}

function fixed(n, d, count) {
  const scaled = (n * 10n ** BigInt(count) * 2n + d) / (d * 2n);
  const text = scaled.toString().padStart(count + 1, "0");
  return grouped(text.slice(0, text.length - count)) + (count ? "." + text.slice(-count) : "");
}

export class Markets {
  constructor(live) {
    this.live = live;
    [this.name, this.market, this.book, this.prints, this.socket] = [null, null, null, [], null];
    [this.backoff, this.unknown] = [new Backoff(), null];
    this.depth = new Depth($("depth-chart"), "Depth of the book: what stands up to each price");
    $("market").addEventListener("change", () => (location.hash = "markets=" + $("market").value));
    $("order").addEventListener("submit", (event) => this.place(event));
    $("order").addEventListener("input", () => this.formChanged());
    $("o-account").addEventListener("change", () => this.own(true));
    $("cancel-all").addEventListener("click", () => this.cancelAll());
    $("o-account").value = sessionStorage.getItem("crosslatch-account") || "";
    for (const side of ["asks", "bids"]) {
      const row = () => el("tr", {}, ["n", "n", "n"].map((kind, place) => el("td", { class: kind }, place === 2 ? el("span", { class: "fill" }) : null, el("span"))));
      $(side).append(...Array.from({ length: LADDER }, row));
      $(side).addEventListener("click", (event) => this.pick(event.target.closest("tr")?.dataset.price));
    }
    live.onRestart(() => this.isShown && this.reload());
  }

  async show(what) {
    this.isShown = true;
    if (what) this.name = what;
    await this.reload();
  }

  hide() {
    this.isShown = false;
    this.close();
    clearInterval(this.timer);
  }

  async reload() {
    this.close();
    clearInterval(this.timer);
    try {
      await assets.load();
      const { markets } = await get("v1/markets");
      if (!this.isShown) return;
      $("no-markets").hidden = markets.length > 0;
      $("trading").hidden = markets.length === 0;
      if (!markets.length) return;
      $("market").replaceChildren(...markets.map(({ market }) => el("option", { value: market }, market)));
      this.market = markets.find(({ market }) => market === this.name) || markets[0];
      this.name = $("market").value = this.market.market;
      this.begin();
    } catch (problem) {
      say($("feed"), problem.message);
    }
  }

  begin() {
    const { market } = this;
    this.scale = new Scale(market);
    [this.book, this.prints, this.isTold] = [new Book(DEPTH), [], false];
    say($("h-price"), "Price, " + market.quote);
    say($("h-quantity"), "Quantity, " + market.base);
    say($("u-quantity"), market.base);
    say($("entry-note"), market.halted ? "halted: only cancellations" : `fee ${market.taker_fee_bps / 100}% taking, ${market.maker_fee_bps / 100}% making`);
    say($("book-note"), `tick ${this.scale.price(this.scale.tick)}, lot ${this.scale.quantity(this.scale.lot)}`);
    this.formChanged();
    this.draw();
    this.connect();
    this.own(true);
    this.timer = setInterval(() => document.hidden || this.own(false), OWN_EVERY_MS);
  }

  // The stream.

  connect() {
    this.close();
    const mine = (this.socket = socket());
    say($("feed"), WORDS.connecting);
    mine.onopen = () => {
      mine.send(JSON.stringify({ subscribe: [this.entry("book"), this.entry("trades")] }));
    };
    mine.onmessage = (event) => mine === this.socket && this.hear(JSON.parse(event.data));
    mine.onclose = (event) => mine === this.socket && this.lost(event);
  }

  entry(channel) {
    return channel === "book" ? { channel, market: this.name, depth: DEPTH } : { channel, market: this.name };
  }

  close() {
    clearTimeout(this.retry);
    const old = this.socket;
    this.socket = null;
    old?.close();
  }

  lost(event) {
    this.socket = null;
    say($("feed"), WORDS.again + (event.reason ? `: ${event.reason}` : ""));
    this.book.forget();
    // What is seen is not what is there any more.
    $("trading").classList.add("stale");
    this.retry = setTimeout(() => this.isShown && this.connect(), this.backoff.next());
  }

  hear(message) {
    switch (message.type) {
      case "snapshot":
      case "update":
        if (this.book.take(message)) {
          this.backoff.reset();
          if (this.book.seq !== null) {
            say($("feed"), WORDS.live);
            $("trading").classList.remove("stale");
          }
        } else {
          this.rebuild();
        }
        return this.redraw();
      case "subscribed":
        return this.printsUpTo(BigInt(message.seq));
      case "trades":
        this.print(message);
        return this.redraw();
      case "error":
        return say($("feed"), message.detail);
      default:
    }
  }

  /** Something was missed, or the checksum is another: the book is asked for anew. */
  rebuild() {
    say($("feed"), WORDS.rebuilding);
    this.book.forget();
    this.socket.send(JSON.stringify({ unsubscribe: [{ channel: "book", market: this.name }], subscribe: [this.entry("book")] }));
  }

  /** What was traded before the stream began. */
  async printsUpTo(seq) {
    const [name, path] = [this.name, `v1/markets/${this.name}/trades?limit=1000&after=`];
    const page = async (after) => {
      const told = await get(path + after);
      return { items: told.trades, next: told.next };
    };
    try {
      const { items } = await lastOf(page, seq, TRADES);
      if (name !== this.name) return;
      const before = items.reverse().map(({ time, side, price, quantity, seq: at }) => ({ time, side, price, quantity, at: BigInt(at) }));
      this.isTold = true;
      // Of a stream that broke, the rest is told as well.
      this.prints = [...this.prints.filter((print) => print.at > seq), ...before].slice(0, TRADES);
      this.redraw();
    } catch (problem) {
      say($("feed"), problem.message);
    }
  }

  print({ time, side, trades, seq }) {
    const made = trades.map(({ price, quantity }) => ({ time, side, price, quantity, at: BigInt(seq) }));
    this.prints = [...made.reverse(), ...this.prints].slice(0, TRADES);
  }

  redraw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.draw();
    });
  }

  draw() {
    const { scale, book } = this;
    const [bids, asks] = [book.side("bids"), book.side("asks")];
    const total = (side) => side.slice(0, LADDER).reduce((all, level) => all + level.quantity, 0n);
    const most = [total(bids), total(asks)].reduce((a, b) => (a > b ? a : b), 1n);
    this.ladder("asks", asks, most);
    this.ladder("bids", bids, most);
    const last = this.prints[0];
    say($("last"), last ? `${scale.price(last.price)} ${scale.quote}` : "–");
    $("last").className = last ? last.side + "-text" : "";
    const spread = bids.length && asks.length ? asks[0].price - bids[0].price : null;
    const middle = spread === null ? 0 : scale.priceNumber(asks[0].price + bids[0].price) / 2;
    const share = spread === null ? "" : ` (${((100 * scale.priceNumber(spread)) / middle).toFixed(2)}%)`;
    const words = spread === null ? "no spread" : `spread ${scale.price(spread)}${share}`;
    say($("spread"), words);
    say($("mid"), words);
    const points = (side) => side.map((level) => [scale.priceNumber(level.price), scale.quantityNumber(level.quantity)]);
    const digits = Math.min(6, scale.pricePlaces);
    this.depth.show({ bids: points(bids), asks: points(asks), words: (price) => price.toLocaleString("en", { maximumFractionDigits: digits }) });
    const rows = this.prints.map(({ time, side, price, quantity }) => [
      { text: clock(time), class: "muted" }, { text: side, class: side + "-text" }, { text: scale.price(price), class: "n" }, { text: scale.quantity(quantity), class: "n" },
    ]);
    fill($("trades").tBodies[0], rows, { columns: 4, empty: this.isTold ? "Nothing was traded yet." : "…", least: TRADES });
  }

  /** The best levels of a side, of asks the best at the bottom. Rows stay; what is in them changes. */
  ladder(name, levels, most) {
    const rows = [...$(name).rows];
    let sum = 0n;
    for (let place = 0; place < LADDER; place++) {
      const row = rows[name === "asks" ? LADDER - 1 - place : place];
      const level = levels[place];
      sum += level?.quantity ?? 0n;
      const texts = level ? [this.scale.price(level.price), this.scale.quantity(level.quantity), this.scale.quantity(sum)] : ["", "", ""];
      [...row.cells].forEach((cell, at) => say(cell.lastElementChild, texts[at]));
      // In the last of three cells, across all of them.
      row.cells[2].firstElementChild.style.width = level ? ((300 * Number(sum)) / Number(most)).toFixed(1) + "%" : "0";
      row.className = level ? "level" : "";
      if (level) row.dataset.price = texts[0];
      else delete row.dataset.price;
      row.title = level ? `${level.orders} ${level.orders === 1 ? "order" : "orders"}` : "";
    }
  }

  pick(price) {
    if (!price || $("o-type").value === "market") return;
    $("o-price").value = price.replaceAll(",", "");
    this.formChanged();
  }

  // Orders.

  /** What the form says. */
  get form() {
    const side = document.querySelector("[name=side]:checked").value;
    return { side, type: $("o-type").value, spends: side === "buy" && $("o-type").value === "market" };
  }

  formChanged() {
    const { side, type, spends } = this.form;
    const isMarket = type === "market";
    const tif = $("o-tif");
    for (const option of tif.options) {
      const fits = isMarket ? ["ioc", "fok"] : type === "post_only" ? ["gtc", "gtd"] : ["gtc", "gtd", "ioc", "fok"];
      option.hidden = option.disabled = !fits.includes(option.value);
    }
    if (tif.selectedOptions[0]?.disabled) tif.value = isMarket ? "ioc" : "gtc";
    $("f-price").hidden = isMarket;
    $("f-expires").hidden = tif.value !== "gtd";
    const label = $("o-quantity").labels[0].firstChild;
    label.data = spends ? "Spend at most " : "Quantity ";
    if (!this.scale) return;
    say($("u-price"), this.scale.quote);
    say($("u-quantity"), spends ? this.scale.quote : this.scale.base);
    say($("place"), `${side === "buy" ? "Buy" : "Sell"} ${this.scale.base}`);
    for (const input of $("order").querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    let sum = "";
    try {
      if (!isMarket) sum = `${units(this.scale.notional(this.scale.priceOf($("o-price").value), this.scale.quantityOf($("o-quantity").value)).toString(), this.scale.quoteDecimals)} ${this.scale.quote}`;
    } catch {
      // It is said when the order is to be placed.
    }
    say($("notional"), sum && "= " + sum);
    this.showAvailable();
  }

  showAvailable() {
    const asset = this.form.side === "buy" ? this.scale.quote : this.scale.base;
    const found = this.balances?.find((it) => it.asset === asset);
    const has = found ? found.available : "0";
    const rows = [this.scale.base, this.scale.quote].map((name) => {
      const { available = "0", held = "0" } = this.balances?.find((it) => it.asset === name) ?? {};
      const of = (digits) => ({ text: this.balances ? units(digits, assets.known.get(name) ?? 0) : "–", class: "n" });
      return [name, of(available), of(held)];
    });
    fill($("funds").tBodies[0], rows, { columns: 3 });
    say($("available"), this.balances ? `${units(has, assets.known.get(asset) ?? 0)} ${asset} available` : "");
  }

  /** The order that the form says; throws what is wrong, with the field. */
  read() {
    const { side, type, spends } = this.form;
    const wrong = (id, why) => Object.assign(new Error(why), { field: id });
    const within = (id, read) => {
      try {
        return read($(id).value).toString();
      } catch (error) {
        throw wrong(id, error.message);
      }
    };
    const order = { market: this.name, side, type, time_in_force: $("o-tif").value };
    order.account = $("o-account").value.trim();
    if (!/^\d+$/.test(order.account)) throw wrong("o-account", "Give the number of an account.");
    if (type !== "market") order.price = within("o-price", (text) => this.scale.priceOf(text));
    if (spends) order.funds = within("o-quantity", (text) => this.scale.fundsOf(text));
    else order.quantity = within("o-quantity", (text) => this.scale.quantityOf(text));
    if (order.time_in_force === "gtd") {
      const seconds = decimal($("o-expires").value);
      if (!seconds || seconds[0] === 0n) throw wrong("o-expires", "Say for how many seconds the order stands.");
      order.expires_in_ms = ((seconds[0] * 1000n) / seconds[1]).toString();
    }
    return order;
  }

  async place(event) {
    event.preventDefault();
    this.formChanged();
    let order;
    try {
      order = this.read();
    } catch (wrong) {
      return this.refused(wrong.message, wrong.field);
    }
    // The same order again, of which it is not known what came of it, goes under the same id: it happens once.
    const text = JSON.stringify(order);
    const id = this.unknown?.text === text ? this.unknown.id : freshId();
    $("place").disabled = true;
    this.saidOf("", "Placing…");
    try {
      const receipt = await ask("POST", "v1/orders", { request_id: id, ...order });
      this.unknown = null;
      this.settled(receipt);
    } catch (problem) {
      const isUnknown = problem.status === 0 || problem.code === "stopped" || problem.status === 500;
      this.unknown = isUnknown ? { text, id } : null;
      const fields = { account: "o-account", price: "o-price", quantity: "o-quantity", funds: "o-quantity", expires_in_ms: "o-expires" };
      const again = isUnknown ? " Whether it was placed is not known. Press again: the same request is sent, and happens once." : "";
      this.refused(reason(problem, this.scale) + again, fields[problem.body.field]);
    }
    $("place").disabled = false;
    this.own(true);
  }

  saidOf(kind, ...parts) {
    $("order-said").className = "said " + kind;
    $("order-said").replaceChildren(...parts);
  }

  refused(words, field) {
    this.saidOf("bad", words);
    if (!field) return;
    $(field).setAttribute("aria-invalid", "true");
    $(field).focus();
  }

  settled({ order, trades, request_id: id }) {
    const { scale } = this;
    const filled = BigInt(order.filled);
    const did = order.side === "buy" ? "Bought" : "Sold";
    const words = [];
    if (filled > 0n) {
      const price = fixed(BigInt(order.notional) * scale.up, filled * 10n ** BigInt(scale.quoteDecimals), scale.pricePlaces);
      words.push(`${did} ${scale.quantity(order.filled)} ${scale.base} at ${price} ${scale.quote} in ${trades.length} ${trades.length === 1 ? "trade" : "trades"}.`);
    }
    const rests = order.status === "new" || order.status === "partially_filled";
    if (rests && order.remaining) words.push(`${scale.quantity(order.remaining)} ${scale.base} stands in the book.`);
    if (!rests && order.status !== "filled") words.push(`The rest is ${order.status.replaceAll("_", " ")}${order.reason ? `: ${order.reason.replaceAll("_", " ")}` : ""}.`);
    this.saidOf("good", words.join(" ") + " ", el("a", { href: "#lookup=" + id }, "Receipt"));
  }

  /** The account's orders and balances; `now` also says what is wrong with it. */
  async own(now) {
    const account = $("o-account").value.trim();
    sessionStorage.setItem("crosslatch-account", account);
    const body = $("own").tBodies[0];
    if (!/^\d+$/.test(account)) {
      this.balances = null;
      say($("own-note"), "of no account");
      $("cancel-all").hidden = true;
      this.scale && this.showAvailable();
      return fill(body, [], { columns: 7, empty: "Give an account to see what it has open." });
    }
    try {
      const [orders, balances] = await Promise.all([get(`v1/orders?account=${account}&market=${this.name}&status=open&limit=50`), get(`v1/accounts/${account}/balances`)]);
      if (account !== $("o-account").value.trim()) return;
      this.balances = balances.balances;
      this.showAvailable();
      say($("own-note"), `of account ${account}` + (orders.next ? ", the last 50" : ""));
      $("cancel-all").hidden = orders.orders.length === 0;
      fill(body, orders.orders.map((order) => this.ownRow(order)), { columns: 7, empty: "Nothing is open here." });
    } catch (problem) {
      if (!now) return;
      this.balances = null;
      this.showAvailable();
      say($("own-note"), `of account ${account}`);
      fill(body, [], { columns: 7, empty: problem.message });
    }
  }

  ownRow(order) {
    const { scale } = this;
    const type = order.type.replaceAll("_", " ") + (order.time_in_force === "gtc" ? "" : `, ${order.time_in_force}`);
    const press = () => this.change("DELETE", `v1/orders/${order.order_id}`);
    return [
      { text: order.side, class: order.side + "-text" }, type, { text: order.price ? scale.price(order.price) : "", class: "n" },
      { text: scale.quantity(order.remaining), class: "n" }, { text: scale.quantity(order.filled), class: "n" },
      { ...lookup(order.order_id, clock(order.time)), class: "" },
      { text: "Cancel", class: "n", press, title: `Cancel the order ${brief(order.order_id)}` },
    ];
  }

  cancelAll() {
    const account = $("o-account").value.trim();
    return this.change("DELETE", `v1/orders?account=${account}&market=${this.name}`);
  }

  async change(method, path) {
    try {
      await ask(method, path, { request_id: freshId() });
      this.saidOf("good", "Canceled.");
    } catch (problem) {
      this.saidOf("bad", reason(problem, this.scale));
    }
    this.own(true);
  }
}

/** Why an order was refused, in the market's words. */
function reason(problem, scale) {
  const { code, body } = problem;
  if (code === "insufficient_funds") {
    const decimals = assets.known.get(body.asset) ?? 0;
    return `Account ${body.account} has too little: ${units(body.short_by, decimals)} ${body.asset} are missing.`;
  }
  const words = { market_halted: "The market is halted.", would_take: "It would trade at once, and is post only: it was not placed." };
  return words[code] || `${body.title || code}: ${problem.message}.`.replace(/\.\.$/, ".");
}
