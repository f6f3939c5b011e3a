// What the venue does now and did in the last five minutes.

import { $, count, el, fill, left, lookup, brief, ms, say, short, units, when } from "./dom.js";
import { Backoff, assets, get } from "./api.js";
import { Lines } from "./chart.js";

const EVERY_MS = 1000;
/** How often what changes is told to readers of screens. */
const SPOKEN_EVERY_MS = 30000;
const ROWS = 8;

const TILES = [
  { id: "conflicts", name: "Conflicts", unit: "/s", of: (s) => s.conflicts_per_second, more: share },
  { id: "lag", name: "Durability lag D−A", unit: "", of: (s) => s.lag, more: (_, told) => "D " + count(Number(told.durable_seq)), warn: 500000 },
  { id: "flight", name: "In flight", unit: "", of: (s) => s.in_flight, more: () => "not yet answered" },
  { id: "holds", name: "Open holds", unit: "", of: (s) => s.holds, more: (s) => (s.parked ? count(s.parked) + " wait for locks" : "nobody waits for locks") },
  { id: "orders", name: "Open orders", unit: "", of: (s) => s.open_orders, more: () => "in all markets" },
  { id: "fsync", name: "fsync p99", unit: "", of: (s) => s.fsync_p99_ms, text: ms, more: () => "of the journal" },
];

function share(sample) {
  const all = sample.settled_per_second + sample.rejected_per_second;
  return all > 0 ? ((100 * sample.conflicts_per_second) / all).toFixed(1) + "% of requests" : "no requests";
}

export class Live {
  constructor(link) {
    this.link = link;
    this.backoff = new Backoff();
    [this.samples, this.started, this.seq, this.spoken, this.lost] = [[], null, 0n, 0, null];
    this.restarts = new Set();
    this.throughput = new Lines($("throughput-chart"), {
      label: "Settled and refused requests a second, over five minutes",
      lines: [
        { name: "settled/s", class: 1, of: (s) => s.settled_per_second },
        { name: "refused/s", class: 2, of: (s) => s.rejected_per_second },
      ],
      floor: 10,
    });
    this.latency = new Lines($("latency-chart"), {
      label: "Latency of requests in milliseconds, p50 and p99, over five minutes",
      lines: [
        { name: "p99", class: 3, of: (s) => s.p99_ms },
        { name: "p50", class: 1, of: (s) => s.p50_ms },
      ],
      format: (value) => (value >= 1000 ? short(value / 1000) + " s" : value === 0 ? "0" : short(value) + " ms"),
      floor: 1,
    });
    this.tiles = TILES.map((tile) => this.tile(tile));
    this.boxes = null;
  }

  tile(tile) {
    const [value, more, figure] = [el("span", {}, "–"), el("p", { class: "more" }), el("figure", { class: "chart" })];
    const line = el("p", { class: "value", id: "tile-" + tile.id }, value, tile.unit ? el("small", {}, " " + tile.unit) : null);
    $("tiles").append(el("article", { class: "card tile" }, el("h2", {}, tile.name), line, more, figure));
    const chart = new Lines(figure, { label: tile.name + " over five minutes", small: true, lines: [{ class: 1, of: tile.of }] });
    return { ...tile, value, more: more, words: tile.more, line, chart };
  }

  show() {
    this.isShown = true;
    this.draw();
  }

  hide() {
    this.isShown = false;
  }

  /** Tells whoever listens that the server was started anew, or is back. */
  onRestart(what) {
    this.restarts.add(what);
  }

  /** Asks at once. */
  wake() {
    this.samples = [];
    this.started = null;
    this.backoff.reset();
    this.woken?.();
  }

  async run() {
    document.addEventListener("visibilitychange", () => document.hidden || this.woken?.());
    for (;;) {
      const wait = await this.turn();
      await new Promise((done) => {
        this.woken = done;
        setTimeout(() => (document.hidden ? null : done()), wait);
      });
    }
  }

  async turn() {
    const began = performance.now();
    try {
      const last = this.samples.at(-1)?.number ?? 0;
      this.take(await get("v1/stats?after=" + last));
      if (this.isShown) await this.due();
      return Math.max(100, EVERY_MS - (performance.now() - began));
    } catch (problem) {
      return this.fail(problem);
    }
  }

  take(told) {
    if (this.started !== null && this.started !== told.started_at) {
      this.samples = [];
      this.started = told.started_at;
      this.backAgain("The server was started anew " + when(told.started_at) + ".");
      // What was told is only what came after a look of the server before.
      return;
    }
    if (this.lost) this.backAgain("The server answers again.");
    this.started = told.started_at;
    this.backoff.reset();
    this.told = told;
    this.seq = BigInt(told.durable_seq);
    this.samples = [...this.samples, ...told.samples].slice(-300);
    if (!this.said || performance.now() > this.said) {
      const is = told.operation === "normal";
      this.link.set(is ? "good" : "wait", is ? "Live" : "Venue: " + told.operation.replaceAll("_", " "));
    }
    $("live").classList.remove("stale");
    if (this.isShown) this.draw();
    this.speak();
  }

  backAgain(words) {
    this.lost = null;
    this.said = performance.now() + 4000;
    this.link.set("good", "Live", words);
    say($("spoken"), words);
    for (const what of this.restarts) what();
  }

  fail(problem) {
    $("live").classList.add("stale");
    const wait = this.backoff.next();
    this.lost ??= new Date();
    this.said = null;
    const since = this.lost.toLocaleTimeString("en-GB");
    switch (problem.code) {
      case "unreachable":
        this.link.set("wait", "Reconnecting", `No answer from the server since ${since}. Trying again.`);
        return wait;
      case "recovering":
        this.link.set("wait", "Recovering", problem.message);
        return EVERY_MS;
      case "unauthenticated":
        this.lost = null;
        this.link.set("bad", "Key needed");
        return 5000;
      case "forbidden":
        this.lost = null;
        this.link.set("wait", "No live numbers");
        say($("about"), "Live numbers need a key with the scope read.");
        return 15000;
      case "stopped":
        this.link.set("bad", "Stopped", problem.message);
        return wait;
      default:
        this.link.set("wait", "Waiting", problem.message);
        return wait;
    }
  }

  draw() {
    const { samples, told } = this;
    const now = samples.at(-1);
    if (!now) return;
    say($("settled"), count(now.settled_per_second));
    say($("p50"), ms(now.p50_ms));
    say($("p99"), ms(now.p99_ms));
    this.throughput.show(samples);
    this.latency.show(samples);
    for (const tile of this.tiles) {
      const value = tile.of(now);
      say(tile.value, (tile.text || count)(value));
      say(tile.more, tile.words(now, told));
      tile.line.classList.toggle("warn", Boolean(tile.warn && value > tile.warn));
      tile.chart.show(samples);
    }
    this.drawHot(told.hot_accounts);
    this.drawBoxes(now);
    this.drawCounts();
    say($("about"), `Crosslatch ${told.version}, started ${when(told.started_at)}. One look a second; durable seq ${Number(told.durable_seq).toLocaleString("en")}, version store at ${Number(told.applied_seq).toLocaleString("en")}.`);
  }

  drawHot(hot) {
    const body = $("hot").tBodies[0];
    if (!hot) return fill(body, [], { columns: 3, empty: "For keys of all accounts." });
    const all = Math.max(1, hot.commits);
    say($("hot-note"), hot.commits ? `of ${count(hot.commits)} recent commits` : "");
    const rows = hot.accounts.slice(0, ROWS).map(({ account, commits }) => [
      lookup(String(account)), { share: commits / all }, { text: ((100 * commits) / all).toFixed(1), class: "n" },
    ]);
    fill(body, rows, { columns: 3, empty: "Nothing was committed lately.", least: ROWS });
  }

  drawBoxes(now) {
    const { actors } = this.told;
    const body = $("boxes").tBodies[0];
    if (this.boxes?.names.join() !== actors.join()) {
      body.replaceChildren();
      const charts = actors.map((name, place) => {
        const [value, figure] = [el("td", { class: "n" }), el("figure", { class: "chart" })];
        body.append(el("tr", {}, el("td", {}, name), el("td", { class: "wide" }, figure), value));
        const of = (sample) => sample.mailboxes[place] ?? null;
        return { value, chart: new Lines(figure, { label: `Mailbox of ${name} over five minutes`, small: true, floor: 4, lines: [{ class: 1, of }] }) };
      });
      this.boxes = { names: actors, charts };
    }
    this.boxes.charts.forEach(({ value, chart }, place) => {
      say(value, count(now.mailboxes[place]));
      chart.show(this.samples);
    });
  }

  drawCounts() {
    const { requests, rejects, conflicts } = this.told;
    const n = (text) => ({ text, class: "n" });
    const kinds = requests.map((it) => [it.kind.replaceAll("_", " "), n(count(it.settled_per_second)), n(count(it.rejected_per_second)), n(ms(it.p50_ms)), n(ms(it.p99_ms))]);
    fill($("kinds").tBodies[0], kinds, { columns: 5, empty: "No request has come yet." });
    const named = (kind) => (it) => [kind + it.name.replaceAll("_", " "), n(count(it.per_second)), n(count(it.total))];
    const reasons = [...rejects.map(named("")), ...conflicts.map(named("conflict: "))];
    fill($("reasons").tBodies[0], reasons, { columns: 3, empty: "None." });
  }

  async due() {
    let told;
    try {
      told = await get("v1/prepared?limit=" + ROWS);
    } catch (problem) {
      if (problem.code !== "forbidden") throw problem;
      return fill($("due").tBodies[0], [], { columns: 3, empty: problem.message });
    }
    if (assets.known.size === 0) await assets.load();
    const now = Date.parse(told.time);
    say($("due-note"), told.prepared.length ? (told.complete ? "all of them" : "the first") : "");
    const rows = told.prepared.map((hold) => {
      const millis = Date.parse(hold.expires_at) - now;
      return [lookup(hold.token, brief(hold.token)), pays(hold.legs), { text: left(millis), class: millis < 10000 ? "n soon" : "n" }];
    });
    fill($("due").tBodies[0], rows, { columns: 3, empty: "Nothing is prepared that expires.", least: ROWS });
  }

  speak() {
    const [now, sample] = [performance.now(), this.samples.at(-1)];
    if (!this.isShown || !sample || now - this.spoken < SPOKEN_EVERY_MS) return;
    this.spoken = now;
    say($("spoken"), `${count(sample.settled_per_second)} settled a second, p99 ${ms(sample.p99_ms)}, ${count(sample.conflicts_per_second)} conflicts a second, lag ${short(sample.lag)}.`);
  }
}

function pays(legs) {
  const [{ from, asset, amount }, ...more] = legs;
  const decimals = assets.decimals(asset);
  const text = decimals === undefined ? "…" : units(amount, decimals);
  return `${from}: ${text} ${asset}` + (more.length ? ` +${more.length}` : "");
}
