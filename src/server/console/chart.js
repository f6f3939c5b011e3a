// Lines over time, and the depth of a book, as SVG. Each chart is drawn anew when it has something new.

import { svg, el, short } from "./dom.js";

const PAD = { left: 50, right: 4, top: 8, bottom: 20 };

/** Seconds that there is room for at least. */
const LEAST = 60;

/** A round number at or above `value`, of which the half is round enough to be written. */
export function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].map((n) => n * power).find((n) => n >= value * 0.999999);
}

/**
 * A chart of lines. `lines` are {name, class: 1..3, of: sample => number|null}; `small` has neither axes nor
 * words. Samples are a second apart; `span` says how many there is room for.
 */
export class Lines {
  constructor(figure, { lines, label, small = false, span = 300, format = short, floor = 0 }) {
    Object.assign(this, { figure, lines, small, most: span, span: LEAST, format, floor, samples: [], cursor: null });
    this.svg = svg("svg", { role: "img", "aria-label": label, preserveAspectRatio: "none" });
    figure.replaceChildren(this.svg);
    if (!small) {
      this.tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
      figure.append(this.tip);
      figure.addEventListener("pointermove", (event) => this.point(event));
      figure.addEventListener("pointerleave", () => this.point(null));
    }
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  show(samples) {
    this.samples = samples.slice(-this.most);
    // A server that has just started fills the chart sooner.
    this.span = Math.max(LEAST, this.samples.length);
    this.draw();
  }

  /** Where a value lies. */
  place(width, height, top) {
    const pad = this.small ? { left: 0, right: 0, top: 2, bottom: 2 } : PAD;
    const [w, h] = [width - pad.left - pad.right, height - pad.top - pad.bottom];
    const offset = this.span - this.samples.length;
    return {
      pad,
      x: (i) => pad.left + ((i + offset) / (this.span - 1)) * w,
      y: (value) => pad.top + h - (value / top) * h,
    };
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.figure;
    if (!width || !height) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const values = this.lines.flatMap((line) => this.samples.map(line.of)).filter((v) => v !== null);
    const top = nice(Math.max(this.floor, ...values, 0));
    const { pad, x, y } = this.place(width, height, top);
    const parts = this.small ? [] : this.axes(width, height, top, y, pad);
    for (const line of this.lines) parts.push(...this.line(line, x, y));
    if (this.cursor !== null && this.cursor < this.samples.length) {
      const at = x(this.cursor);
      parts.push(svg("line", { class: "cursor", x1: at, x2: at, y1: pad.top, y2: height - pad.bottom }));
    }
    this.svg.replaceChildren(...parts);
  }

  axes(width, height, top, y, pad) {
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(top * share)) + 0.5;
      parts.push(svg("line", { class: "grid", x1: pad.left, x2: width - pad.right, y1: at, y2: at }));
      const text = this.format(top * share);
      parts.push(svg("text", { x: pad.left - 7, y: at + 4, "text-anchor": "end" }, text));
    }
    const ago = (share) => (this.span < 120 ? `−${Math.round(this.span * share)} s` : `−${(this.span * share / 60).toFixed(1).replace(".0", "")} min`);
    for (const [share, text, anchor] of [[0, ago(1), "start"], [0.5, ago(0.5), "middle"], [1, "now", "end"]]) {
      const at = pad.left + share * (width - pad.left - pad.right);
      parts.push(svg("text", { x: at, y: height - 4, "text-anchor": anchor }, text));
    }
    return parts;
  }

  /** A line with the ground below it; where nothing was measured there is a gap. */
  line({ class: kind, of }, x, y) {
    let [line, area, from] = ["", "", null];
    const close = (to) => {
      if (from !== null) area += `L${x(to).toFixed(1)} ${y(0).toFixed(1)}L${x(from).toFixed(1)} ${y(0).toFixed(1)}Z`;
      from = null;
    };
    this.samples.forEach((sample, i) => {
      const value = of(sample);
      if (value === null) return close(i - 1);
      const at = `${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      line += (from === null ? "M" : "L") + at;
      area += (from === null ? "M" : "L") + at;
      if (from === null) {
        from = i;
        // A point alone is seen as well.
        line += "h.01";
      }
    });
    close(this.samples.length - 1);
    return [svg("path", { class: `area a${kind}`, d: area }), svg("path", { class: `line s${kind}`, d: line })];
  }

  point(event) {
    const width = this.figure.clientWidth;
    if (!event || !this.samples.length) {
      this.cursor = null;
      this.tip.hidden = true;
      return this.draw();
    }
    const at = event.clientX - this.figure.getBoundingClientRect().left;
    const share = (at - PAD.left) / (width - PAD.left - PAD.right);
    const index = Math.round(share * (this.span - 1)) - (this.span - this.samples.length);
    this.cursor = Math.max(0, Math.min(this.samples.length - 1, index));
    const sample = this.samples[this.cursor];
    const said = this.lines.map((line) => `${line.name} ${line.of(sample) === null ? "–" : this.format(line.of(sample))}`);
    this.tip.textContent = said.join("   ") + `   ${this.samples.length - 1 - this.cursor} s ago`;
    this.tip.hidden = false;
    const x = Math.min(Math.max(at - this.tip.offsetWidth / 2, 0), width - this.tip.offsetWidth);
    this.tip.style.left = x + "px";
    this.draw();
  }
}

/** What stands up to each price: bids to the left of the middle, asks to the right. */
export class Depth {
  constructor(figure, label) {
    this.figure = figure;
    this.svg = svg("svg", { role: "img", "aria-label": label });
    this.last = null;
    figure.replaceChildren(this.svg);
    new ResizeObserver(() => this.last && this.show(this.last)).observe(figure);
  }

  /** `bids` and `asks`, best first: [price, quantity] as numbers; `words` of a price. */
  show(book) {
    this.last = book;
    const { clientWidth: width, clientHeight: height } = this.figure;
    if (!width || !height) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { bids, asks, words } = book;
    if (!bids.length && !asks.length) {
      const text = svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Nothing stands in this market.");
      return this.svg.replaceChildren(text);
    }
    const [best, least] = [bids[0]?.[0] ?? asks[0][0], asks[0]?.[0] ?? bids[0][0]];
    const middle = (best + least) / 2;
    const far = (side) => (side.length ? Math.abs(side[side.length - 1][0] - middle) : 0);
    const reach = Math.max(far(bids), far(asks), Math.abs(best - least), middle * 1e-4) * 1.04;
    const sum = (side) => side.reduce((all, level) => all + level[1], 0);
    const top = nice(Math.max(sum(bids), sum(asks)));
    const pad = { left: 46, right: 10, top: 8, bottom: 20 };
    const x = (price) => pad.left + ((price - middle + reach) / (2 * reach)) * (width - pad.left - pad.right);
    const y = (total) => pad.top + (1 - total / top) * (height - pad.top - pad.bottom);
    const parts = [0, 0.5, 1].flatMap((share) => {
      const at = Math.round(y(top * share)) + 0.5;
      return [
        svg("line", { class: "grid", x1: pad.left, x2: width - pad.right, y1: at, y2: at }),
        svg("text", { x: pad.left - 7, y: at + 4, "text-anchor": "end" }, short(top * share)),
      ];
    });
    for (const [kind, side, edge] of [["bid", bids, pad.left], ["ask", asks, width - pad.right]]) {
      const line = steps(side, x, y, edge);
      parts.push(svg("path", { class: `area ${kind}`, d: line && `${line}V${y(0).toFixed(1)}Z` }), svg("path", { class: `line ${kind}`, d: line }));
    }
    for (const [price, anchor] of [[middle - reach, "start"], [middle, "middle"], [middle + reach, "end"]]) {
      if (price >= 0) parts.push(svg("text", { x: x(price), y: height - 4, "text-anchor": anchor }, words(price)));
    }
    this.svg.replaceChildren(...parts);
  }
}

function steps(side, x, y, edge) {
  if (!side.length) return "";
  let total = 0;
  let path = `M${x(side[0][0]).toFixed(1)} ${y(0).toFixed(1)}`;
  for (const [price, quantity] of side) {
    path += `H${x(price).toFixed(1)}`;
    total += quantity;
    path += `V${y(total).toFixed(1)}`;
  }
  return path + `H${edge}`;
}
