// A book as /v1/stream tells it: levels, their sequence, their checksum.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

/** CRC-32 (IEEE) of ASCII text. */
export function crc32(text) {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i++) crc = (crc >>> 8) ^ TABLE[(crc ^ text.charCodeAt(i)) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/** One market's levels. `take` says whether the book is still to be trusted: else it has to be asked for anew. */
export class Book {
  constructor(depth) {
    this.depth = depth;
    this.forget();
  }

  /** Nothing is known until the next snapshot. */
  forget() {
    [this.seq, this.bids, this.asks] = [null, new Map(), new Map()];
  }

  take(message) {
    if (message.type === "snapshot") {
      this.forget();
    } else if (this.seq === null) {
      // What comes before the snapshot that was asked for is of no use.
      return true;
    } else if (message.previous_seq !== this.seq) {
      return false;
    }
    this.apply(this.bids, message.bids);
    this.apply(this.asks, message.asks);
    this.seq = message.seq;
    return this.checksum() === message.checksum;
  }

  apply(side, levels) {
    for (const [price, quantity, orders] of levels) {
      if (quantity === "0") side.delete(price);
      else side.set(price, { price: BigInt(price), quantity: BigInt(quantity), orders });
    }
  }

  /** A side, best first. */
  side(name) {
    const better = name === "bids" ? -1 : 1;
    const levels = [...this[name].values()];
    return levels.sort((a, b) => (a.price < b.price ? -better : a.price > b.price ? better : 0));
  }

  checksum() {
    const words = (name) => this.side(name).slice(0, Math.min(10, this.depth)).map((level) => `${level.price}:${level.quantity}:${level.orders}`).join("|");
    return crc32(words("bids") + "/" + words("asks"));
  }
}
