// Requests: with the key that was given, within a time, and problems in words.

const KEY = "crosslatch-key";
const PATIENCE_MS = 15000;

/** The token, which this tab alone knows; "" without one. */
export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (token) => (token ? sessionStorage.setItem(KEY, token) : sessionStorage.removeItem(KEY)),
};

/** An answer that is a refusal, or none. `code` is "unreachable" where nobody answers. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || body.code || "no answer");
    this.status = status;
    this.code = body.code || "unknown";
    this.body = body;
  }
}

/** Makes a call; a key that is missing or wrong is told to whoever listens for `key-needed`. */
export async function ask(method, path, body) {
  const headers = {};
  if (key.get()) headers.Authorization = "Bearer " + key.get();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const json = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(path, { method, headers, body: json, signal, cache: "no-store", credentials: "omit" });
    text = await response.text();
  } catch {
    throw new Problem(0, { code: "unreachable", detail: "the server does not answer" });
  }
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Problem(response.status, { detail: "what answered is no server of this kind" });
  }
  if (response.ok) return answer;
  const problem = new Problem(response.status, answer);
  if (problem.code === "unauthenticated") {
    dispatchEvent(new CustomEvent("key-needed", { detail: problem.message }));
  }
  throw problem;
}

export const get = (path) => ask("GET", path);

/** A fresh request id (UUIDv7), also where the page came without TLS. */
export function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const now = Date.now();
  for (let i = 0; i < 6; i++) bytes[i] = Math.floor(now / 2 ** (8 * (5 - i))) & 255;
  bytes[6] = (bytes[6] & 15) | 112;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** A WebSocket for market data. A browser sends no headers with it: the key is among the protocols. */
export function socket() {
  const url = new URL("v1/stream", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const protocols = ["crosslatch.v1"];
  if (key.get()) protocols.push("crosslatch.bearer." + key.get());
  return new WebSocket(url, protocols);
}

/** Waits that grow: half a second, then twice as long each time, up to 15 s. */
export class Backoff {
  constructor() {
    this.tries = 0;
  }
  next() {
    const wait = Math.min(15000, 500 * 2 ** this.tries++);
    return wait * (0.8 + 0.4 * Math.random());
  }
  reset() {
    this.tries = 0;
  }
}

/**
 * The last `want` things, at or before the seq `upto`, of a list that is told oldest first: `page(after)` gives
 * {items, next} of what comes behind a seq. Looks back further and further; where that is too much, less far.
 */
export async function lastOf(page, upto, want) {
  let [few, many, floor] = [upto, null, 0n];
  let best = [];
  for (let back = 256n, steps = 0; steps < 80; steps++) {
    let after = many === null ? upto - back : (few + many) / 2n;
    if (after < floor) after = floor;
    let told;
    try {
      told = await page(after);
    } catch (problem) {
      if (problem.code !== "history_expired" || floor > 0n) throw problem;
      floor = BigInt(problem.body.oldest);
      continue;
    }
    const items = told.items.filter((item) => BigInt(item.seq) <= upto);
    const isAll = told.next === null || BigInt(String(told.next).split(".")[0]) >= upto;
    if (isAll && items.length >= best.length) best = items;
    const isDone = isAll && (items.length >= want || after === floor);
    if (isDone || (many !== null && few - many <= 1n)) return { items: best.slice(-want), more: !(isDone && after === floor && best.length <= want) };
    if (!isAll) many = after;
    else few = after;
    back *= 8n;
  }
  return { items: best.slice(-want), more: true };
}

/** What there is of assets: decimals by name. Asked for again when one comes that is not known. */
export const assets = {
  known: new Map(),
  async load() {
    const { assets: all } = await get("v1/assets");
    this.known = new Map(all.map((asset) => [asset.asset, asset.decimals]));
  },
  decimals(name) {
    if (!this.known.has(name) && !this.loading) {
      this.loading = this.load().catch(() => {}).finally(() => setTimeout(() => (this.loading = null), 5000));
    }
    return this.known.get(name);
  },
};
