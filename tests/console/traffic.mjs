// A venue with something going on in it: people, money, a market, swaps, prepared swaps, orders.

import { randomBytes } from "node:crypto";

export const ACCOUNTS = 24;
const ETH = 10n ** 18n;
const USDC = 10n ** 6n;

export function id() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6] & 15) | 112;
  bytes[8] = (bytes[8] & 63) | 128;
  return bytes.toString("hex").replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

/** A seeded sequence of numbers: what is shown is the same each time. */
function chance(seed) {
  return (n) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
}

export class Venue {
  constructor(url, token) {
    Object.assign(this, { url, token, below: chance(7), isOn: false, middle: 2480, open: [] });
  }

  async ask(method, path, body) {
    const headers = { "content-type": "application/json" };
    if (this.token) headers.authorization = "Bearer " + this.token;
    const sent = body && JSON.stringify({ request_id: id(), ...body });
    const response = await fetch(this.url + path, { method, headers, body: sent });
    return { status: response.status, ...(await response.json()) };
  }

  async must(method, path, body) {
    const answer = await this.ask(method, path, body);
    if (answer.code) throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
    return answer;
  }

  async populate() {
    for (const [name, decimals] of [["ETH", 18], ["USDC", 6], ["SOL", 9]]) {
      await this.must("PUT", "/v1/assets/" + name, { chain_id: 900, chain_kind: "other", token: name.toLowerCase(), decimals });
    }
    for (let account = 1; account <= ACCOUNTS; account++) {
      await this.must("PUT", "/v1/accounts/" + account, { links: [{ chain_id: 900, address: "wallet-" + account }] });
      for (const [asset, amount] of [["ETH", 5000n * ETH], ["USDC", 20_000_000n * USDC], ["SOL", 90_000n * 10n ** 9n]]) {
        await this.must("POST", "/v1/deposits", { account, asset, amount: String(amount), reference: `${asset}-${account}` });
      }
    }
    // A price is in millionths of a dollar for a thousandth of an ETH; a tick is a cent an ETH.
    const market = { base: "ETH", quote: "USDC", tick_size: "10", lot_size: String(ETH / 1000n), maker_fee_bps: 2, taker_fee_bps: 8, fee_account: ACCOUNTS };
    await this.must("PUT", "/v1/markets/ETH-USDC", market);
    await this.must("PUT", "/v1/markets/SOL-USDC", { ...market, base: "SOL", tick_size: "10", lot_size: "10000000" });
    for (let step = 1; step <= 30; step++) {
      for (const side of ["buy", "sell"]) await this.order(side, this.middle + (side === "buy" ? -step : step) * 0.35, 1 + this.below(40));
    }
  }

  order(side, price, quantity, more = {}) {
    const body = { account: 2 + this.below(ACCOUNTS - 3), market: "ETH-USDC", side, type: "limit", price: String(Math.round(price * 100) * 10), quantity: String((BigInt(Math.round(quantity * 20)) * ETH) / 20n), ...more };
    return this.must("POST", "/v1/orders", body);
  }

  /** Goes on until `stop`. */
  start() {
    this.isOn = true;
    this.loops = [this.loop(() => this.swaps()), this.loop(() => this.prepares()), this.loop(() => this.trade())];
  }

  async stop() {
    this.isOn = false;
    await Promise.all(this.loops);
  }

  async loop(step) {
    while (this.isOn) {
      // The server is killed meanwhile.
      await step().catch(() => {});
      await new Promise((done) => setTimeout(done, 15 + this.below(30)));
    }
  }

  swaps() {
    const swap = () => {
      // Account 1 has part in a third of all; some pay more than they have.
      const [from, to] = this.below(3) === 0 ? [1, 2 + this.below(ACCOUNTS - 2)] : [2 + this.below(10), 12 + this.below(10)];
      const amount = this.below(60) === 0 ? 10n ** 30n : (ETH * BigInt(1 + this.below(9))) / 100n;
      const legs = [{ from, to, asset: "ETH", amount: String(amount) }, { from: to, to: from, asset: "SOL", amount: String(1 + this.below(10 ** 9)) }];
      return { request_id: id(), legs };
    };
    return this.ask("POST", "/v1/swaps:batch", { request_id: undefined, swaps: Array.from({ length: 20 + this.below(60) }, swap) });
  }

  async prepares() {
    const [from, to] = [2 + this.below(10), 12 + this.below(10)];
    const legs = [{ from, to, asset: "USDC", amount: String(BigInt(1 + this.below(900)) * USDC) }, { from: to, to: from, asset: "ETH", amount: String(ETH / 20n) }];
    const made = await this.ask("POST", "/v1/prepared", { legs, expires_in_ms: 3000 + this.below(50000) });
    if (made.token && this.below(8) > 0) await this.ask("POST", `/v1/prepared/${made.token}/${this.below(4) ? "commit" : "rollback"}`, {});
  }

  async trade() {
    const side = this.below(2) ? "buy" : "sell";
    this.middle += (this.below(3) - 1) * 0.05;
    if (this.below(4) === 0) return this.order(side, this.middle + (side === "buy" ? 3 : -3), 0.2 + this.below(30) / 10, { time_in_force: "ioc" });
    const away = 0.3 + this.below(28) * 0.35;
    const placed = await this.order(side, this.middle + (side === "buy" ? -away : away), 0.5 + this.below(200) / 10, { type: "post_only" });
    this.open.push(placed.order_id);
    if (this.open.length > 80) await this.ask("DELETE", "/v1/orders/" + this.open.splice(this.below(40), 1)[0], {});
  }
}
