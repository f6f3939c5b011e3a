// Elements, and numbers as people read them. Nothing here makes HTML of a string.

export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** An element: `el("td", {class: "n"}, "5")`. Members of `props` that are functions are listened with. */
export function el(name, props = {}, ...children) {
  return dress(document.createElement(name), props, children);
}

/** The same in SVG. */
export function svg(name, props = {}, ...children) {
  return dress(document.createElementNS(SVG, name), props, children);
}

function dress(element, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Writes text where it differs: what stays is not touched, and readers of screens are not disturbed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Puts rows into a table's body, in elements that stay: who has the focus there keeps it. A cell is text, or
 * {text, class, href, title, share, press}: a link, a bar of that share, or a button. Rows are filled up to `least`.
 */
export function fill(body, rows, { columns, empty = "", least = 0 } = {}) {
  const all = rows.length ? [...rows] : [[{ text: empty, class: "empty", span: columns }]];
  while (all.length < least) all.push(Array(columns).fill(""));
  while (body.rows.length > all.length) body.deleteRow(-1);
  all.forEach((cells, index) => {
    const row = body.rows[index] || body.insertRow();
    while (row.cells.length > cells.length) row.deleteCell(-1);
    cells.forEach((cell, place) => put(row.cells[place] || row.insertCell(), cell));
  });
}

function put(td, cell) {
  const { text = "", class: kind = "", href, title, share, level = "", press, span = 1 } = typeof cell === "object" ? cell : { text: cell };
  if (td.className !== kind) td.className = kind;
  if (td.colSpan !== span) td.colSpan = span;
  const name = share !== undefined ? "SPAN" : press ? "BUTTON" : href ? "A" : null;
  if (!name) return td.firstElementChild ? td.replaceChildren(text) : say(td, text);
  if (td.firstElementChild?.nodeName !== name) td.replaceChildren(el(name.toLowerCase()));
  const inner = td.firstElementChild;
  if (share !== undefined) return bar(inner, share, level);
  say(inner, text);
  if (title && inner.title !== title) inner.title = title;
  if (href && inner.getAttribute("href") !== href) inner.setAttribute("href", href);
  if (press) dress(inner, { type: "button", class: "small", "aria-label": title }, []).onclick = press;
}

function bar(meter, share, level) {
  meter.className = "meter " + level;
  const inner = meter.firstElementChild || meter.appendChild(el("span"));
  inner.style.width = (100 * Math.min(1, share)).toFixed(1) + "%";
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** A count or a rate. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e9) return tenth.format(value / 1e9) + "B";
  if (value >= 1e8) return tenth.format(value / 1e6) + "M";
  if (value > 0 && value < 10 && !Number.isInteger(value)) return tenth.format(value);
  return whole.format(value);
}

/** The same where there is little room. */
export function short(value) {
  if (value >= 1e9) return trim(value / 1e9) + "B";
  if (value >= 1e6) return trim(value / 1e6) + "M";
  if (value >= 1e4) return trim(value / 1e3) + "k";
  return trim(value);
}
const trim = (value) => String(Number(value.toPrecision(3)));

/** Milliseconds. */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return Math.round(value * 1000) + " µs";
  if (value < 10) return value.toFixed(2) + " ms";
  if (value < 100) return value.toFixed(1) + " ms";
  if (value < 10000) return Math.round(value) + " ms";
  return (value / 1000).toFixed(1) + " s";
}

/** How long something still takes. */
export function left(millis) {
  if (millis <= 0) return "over";
  const s = millis / 1000;
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 120) return Math.floor(s) + " s";
  if (s < 7200) return Math.floor(s / 60) + " min";
  return Math.floor(s / 3600) + " h";
}

/** Digits in groups of three. */
export function grouped(digits) {
  return digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** `digits` of an asset's smallest units in whole ones: exact. */
export function units(digits, decimals, keep = 0) {
  const negative = String(digits).startsWith("-");
  const text = String(digits).replace("-", "").padStart(decimals + 1, "0");
  const integer = text.slice(0, text.length - decimals);
  let fraction = decimals > 0 ? text.slice(-decimals).replace(/0+$/, "") : "";
  if (fraction.length < keep) fraction = fraction.padEnd(keep, "0");
  return (negative ? "-" : "") + grouped(integer) + (fraction ? "." + fraction : "");
}

/** The reverse: what a person typed, as a rational number [numerator, denominator], or null. */
export function decimal(text) {
  const match = /^(\d*)(?:\.(\d*))?$/.exec(text.trim().replaceAll(",", ""));
  if (!match || !(match[1] || match[2])) return null;
  const fraction = match[2] || "";
  return [BigInt((match[1] || "0") + fraction), 10n ** BigInt(fraction.length)];
}

/** The beginning and the end of an id. */
export function brief(id) {
  return id.length > 13 ? id.slice(0, 4) + "…" + id.slice(-6) : id;
}

/** A time of today, by the clock here. */
export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** A time. */
export function when(time) {
  return new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** A cell that leads to what the lookup says of something. */
export function lookup(what, text = what) {
  return { text, href: "#lookup=" + what, title: what, class: text === what ? "" : "mono" };
}
