// Draws the dashboards of this directory as SVG, from the files themselves and from what a Prometheus answers
// to their queries: the same panels in the same places, with the same queries, titles, units and thresholds.
//
//   node draw.mjs http://127.0.0.1:9090 MINUTES DIRECTORY
//
// It draws the last MINUTES. For looking at panels where there is no Grafana, and for the pictures in README.md.

import { readFileSync, writeFileSync } from 'node:fs';

const BOARDS = ['overview', 'two-phase-commit', 'storage', 'markets'];
const WIDTH = 1680;
const GAP = 8;
const CELL = { width: (WIDTH + GAP) / 24, height: 38 };
const COLORS = ['#73bf69', '#f2cc0c', '#5794f2', '#ff9830', '#f2495c', '#b877d9', '#37872d', '#fade2a', '#447ebc', '#e0752d', '#bf1b00', '#705da0', '#8ab8ff', '#ca95e5', '#ffb357', '#96d98d'];
const NAMED = { green: '#73bf69', yellow: '#f2cc0c', orange: '#ff9830', red: '#f2495c' };
const INK = { page: '#111217', panel: '#181b1f', border: '#2b2e34', grid: '#26292e', text: '#ccccdc', dim: '#8e8e9a' };
const SAMPLES = 180;

const [url, minutes, directory] = process.argv.slice(2);
if (!directory) {
  console.error('usage: node draw.mjs http://127.0.0.1:9090 MINUTES DIRECTORY');
  process.exit(2);
}
const to = Date.now() / 1000;
const from = to - Number(minutes) * 60;
const step = (to - from) / SAMPLES;

for (const name of BOARDS) {
  const board = JSON.parse(readFileSync(new URL(`${name}.json`, import.meta.url)));
  const rows = Math.max(...board.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  const height = rows * CELL.height + 64;
  const drawn = [];
  for (const panel of board.panels) drawn.push(await draw(panel));
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH + 32} ${height}" font-family="Inter, Helvetica, Arial, sans-serif" font-size="12">
<rect width="100%" height="100%" fill="${INK.page}"/>
${words(16, 32, board.title, { size: 18, color: INK.text, weight: 600 })}
<g transform="translate(16 52)">
${drawn.join('\n')}
</g>
</svg>
`;
  writeFileSync(`${directory}/${name}.svg`, svg);
}

/** What Prometheus answers to a panel's queries. */
async function ask(panel) {
  const all = [];
  for (const target of panel.targets) {
    const expr = target.expr
      .replaceAll('$__rate_interval', `${Math.max(20, Math.ceil(step * 4))}s`)
      .replaceAll('$instance', '.*')
      .replaceAll('$market', '.*');
    const query = new URLSearchParams({ query: expr, start: from, end: to, step });
    const answer = await (await fetch(`${url}/api/v1/query_range`, { method: 'POST', body: query })).json();
    if (answer.status !== 'success') throw new Error(`${panel.title}: ${answer.error}`);
    for (const { metric, values } of answer.data.result) {
      const label = target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_, key) => metric[key] ?? '').trim();
      all.push({ metric, label, samples: values.map(([at, value]) => [at, Number(value)]) });
    }
  }
  return all;
}

async function draw(panel) {
  const { x, y, w, h } = panel.gridPos;
  const box = { x: x * CELL.width, y: y * CELL.height, width: w * CELL.width - GAP, height: h * CELL.height - GAP };
  if (panel.type === 'row') return words(box.x + 4, box.y + 22, `⌄ ${panel.title}`, { size: 15, color: INK.text, weight: 600 });
  const series = await ask(panel);
  const kinds = { stat, table, timeseries, heatmap };
  return `<g transform="translate(${n(box.x)} ${n(box.y)})">
<title>${escape(panel.description)}</title>
<rect width="${n(box.width)}" height="${n(box.height)}" rx="3" fill="${INK.panel}" stroke="${INK.border}"/>
${words(10, 20, panel.title, { size: 13, color: INK.text, weight: 500 })}
${kinds[panel.type](panel, series, box)}
</g>`;
}

function stat(panel, series, box) {
  const { defaults } = panel.fieldConfig;
  const samples = series[0]?.samples.filter(([, value]) => Number.isFinite(value)) ?? [];
  const last = samples.at(-1)?.[1];
  const mapped = defaults.mappings?.[0]?.options[String(last)];
  const color = mapped ? NAMED[mapped.color] : colorAt(defaults.thresholds.steps, last ?? 0);
  const text = mapped?.text ?? (last === undefined ? defaults.noValue : shown(last, defaults.unit));
  let spark = '';
  if (panel.options.graphMode === 'area' && samples.length > 1) {
    const area = { x: 0, y: box.height - 40, width: box.width, height: 38 };
    const scale = scales(area, [0, Math.max(...samples.map(([, value]) => value)) || 1], false);
    spark = `<path d="${line(samples, scale)} L${n(area.width)} ${n(box.height)} L0 ${n(box.height)} Z" fill="${color}" fill-opacity=".12"/>
<path d="${line(samples, scale)}" fill="none" stroke="${color}" stroke-opacity=".6"/>`;
  }
  return spark + words(box.width / 2, box.height / 2 + 22, text, { size: Math.min(34, (box.width / text.length) * 1.5), color, weight: 600, anchor: 'middle' });
}

function table(panel, series, box) {
  const { excludeByName } = panel.transformations[0].options;
  const now = series.filter(({ samples }) => samples.at(-1)[0] > to - 2 * step);
  const names = [...new Set(now.flatMap(({ metric }) => Object.keys(metric)))].filter((name) => !excludeByName[name]);
  if (!now.length) return words(box.width / 2, box.height / 2 + 10, 'No data', { size: 14, color: INK.dim, anchor: 'middle' });
  const width = (box.width - 20) / names.length;
  const row = (cells, y, style) => cells.map((cell, column) => words(10 + column * width, y, cell ?? '', style)).join('');
  return row(names, 48, { color: INK.dim, weight: 600 }) + now.map(({ metric }, index) => row(names.map((name) => metric[name]), 72 + 22 * index, { color: INK.text })).join('');
}

function timeseries(panel, series, box) {
  const { custom, unit, thresholds, min, max } = panel.fieldConfig.defaults;
  const shownSeries = series.filter(({ samples }) => samples.some(([, value]) => Number.isFinite(value)));
  if (!shownSeries.length) return words(box.width / 2, box.height / 2 + 10, 'No data', { size: 14, color: INK.dim, anchor: 'middle' });
  const last = ({ samples }) => samples.findLast(([, value]) => Number.isFinite(value))?.[1] ?? NaN;
  const most = ({ samples }) => Math.max(...samples.map(([, value]) => value).filter(Number.isFinite));
  const colored = shownSeries.map((it, index) => ({ ...it, color: COLORS[index % COLORS.length] }));
  const room = Math.max(2, Math.floor((box.height - 150) / 17));
  const legend = [...colored].sort((a, b) => last(b) - last(a)).slice(0, Math.min(room, 6));
  const area = { x: 58, y: 32, width: box.width - 72, height: box.height - 32 - 26 - 17 * (legend.length + 1) };
  const isStacked = custom.stacking.mode === 'normal';
  const isLog = custom.scaleDistribution.type === 'log';
  const layers = isStacked ? stacked(colored) : colored;
  const values = layers.flatMap(({ samples }) => samples.map(([, value]) => value)).filter((value) => Number.isFinite(value) && (!isLog || value > 0));
  const low = isLog ? Math.min(...values) / 1.5 : Math.min(min ?? Infinity, ...values);
  const top = Math.max(max ?? -Infinity, ...values);
  const high = isLog ? top * 1.5 : max ?? (top > low ? low + (top - low) * 1.08 : low + 1);
  const scale = scales(area, [low, high], isLog);
  const ticks = isLog ? decades(low, high) : round(low, high);
  let out = ticks.map((tick) => `<path d="M${area.x} ${n(scale.y(tick))} h${n(area.width)}" stroke="${INK.grid}"/>${words(area.x - 6, scale.y(tick) + 4, shown(tick, unit), { size: 10, color: INK.dim, anchor: 'end' })}`).join('');
  for (let index = 0; index <= 4; index++) {
    const at = from + ((to - from) * index) / 4;
    const anchor = index === 4 ? 'end' : 'middle';
    out += words(scale.x(at), area.y + area.height + 16, new Date(at * 1000).toISOString().slice(11, 19), { size: 10, color: INK.dim, anchor });
  }
  if (custom.thresholdsStyle.mode !== 'off') {
    for (const { value, color } of thresholds.steps) {
      if (value !== null && value > low && value < high) out += `<path d="M${area.x} ${n(scale.y(value))} h${n(area.width)}" stroke="${NAMED[color]}" stroke-dasharray="6 4" stroke-opacity=".7"/>`;
    }
  }
  for (const { samples, below, color } of [...layers].reverse()) {
    if (isStacked) out += `<path d="${line(samples, scale)} ${line([...below].reverse(), scale).replace('M', 'L')} Z" fill="${color}" fill-opacity=".3"/>`;
    out += `<path d="${line(samples, scale)}" fill="none" stroke="${color}" stroke-width="1.4" stroke-linejoin="round"/>`;
  }
  const under = area.y + area.height + 38;
  out += words(box.width - 90, under, 'Last', { size: 10, color: INK.dim, anchor: 'end' }) + words(box.width - 14, under, 'Max', { size: 10, color: INK.dim, anchor: 'end' });
  legend.forEach((it, index) => {
    const y = under + 17 * (index + 1);
    const more = index === legend.length - 1 && colored.length > legend.length ? `  (and ${colored.length - legend.length} more)` : '';
    out += `<rect x="12" y="${n(y - 5)}" width="14" height="3" fill="${it.color}"/>` + words(32, y, it.label + more, { size: 11, color: INK.text }) + words(box.width - 90, y, shown(last(it), unit), { size: 11, color: INK.text, anchor: 'end' }) + words(box.width - 14, y, shown(most(it), unit), { size: 11, color: INK.text, anchor: 'end' });
  });
  return out;
}

function heatmap(panel, series, box) {
  const bound = ({ metric }) => (metric.le === '+Inf' ? Infinity : Number(metric.le));
  const bounds = [...series].sort((a, b) => bound(a) - bound(b));
  const cells = bounds.map(({ samples }, index) => samples.map(([at, value], place) => [at, value - (bounds[index - 1]?.samples[place]?.[1] ?? 0)]));
  const most = Math.max(1e-9, ...cells.flatMap((row) => row.map(([, value]) => value)));
  const used = cells.map((row) => row.some(([, value]) => value > 0));
  const [first, end] = [Math.max(0, used.indexOf(true) - 1), Math.min(cells.length, used.lastIndexOf(true) + 2)];
  const area = { x: 58, y: 32, width: box.width - 72, height: box.height - 62 };
  const height = area.height / Math.max(1, end - first);
  const x = (at) => area.x + (area.width * (at - from)) / (to - from);
  let out = '';
  for (let row = first; row < end; row++) {
    const y = area.y + area.height - (row - first + 1) * height;
    out += words(area.x - 6, y + 4, shown(bound(bounds[row]), 's'), { size: 10, color: INK.dim, anchor: 'end' });
    for (const [at, value] of cells[row]) {
      if (value > 0) out += `<rect x="${n(x(at))}" y="${n(y)}" width="${n((area.width / SAMPLES) * 1.02)}" height="${n(height - 1)}" fill="#ff780a" fill-opacity="${n(0.1 + 0.9 * Math.sqrt(value / most))}"/>`;
    }
  }
  return out;
}

/** Each series on top of the ones before it. */
function stacked(series) {
  const total = new Map();
  return series.map((it) => {
    const below = it.samples.map(([at]) => [at, total.get(at) ?? 0]);
    const samples = it.samples.map(([at, value], index) => [at, below[index][1] + (Number.isFinite(value) ? value : 0)]);
    samples.forEach(([at, value]) => total.set(at, value));
    return { ...it, samples, below };
  });
}

function scales(area, [low, high], isLog) {
  const part = (value) => (isLog ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low));
  return { x: (at) => area.x + (area.width * (at - from)) / (to - from), y: (value) => area.y + area.height * (1 - part(value)) };
}

function line(samples, scale) {
  let out = '';
  let pen = 'M';
  for (const [at, value] of samples) {
    if (!Number.isFinite(value)) pen = 'M';
    else {
      out += `${pen}${n(scale.x(at))} ${n(scale.y(value))}`;
      pen = 'L';
    }
  }
  return out;
}

/** Round numbers between two others. */
function round(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const out = [];
  for (let tick = Math.ceil(low / size) * size; tick <= high; tick += size) out.push(Math.abs(tick) < size / 1e6 ? 0 : tick);
  return out;
}

function decades(low, high) {
  const out = [];
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) out.push(10 ** power);
  return out.length > 1 ? out : [low, Math.sqrt(low * high), high];
}

function colorAt(steps, value) {
  return NAMED[steps.findLast((step) => step.value === null || value >= step.value).color];
}

function shown(value, unit) {
  if (!Number.isFinite(value)) return '–';
  const scaled = (units, base) => {
    let index = 0;
    let left = Math.abs(value);
    while (left >= base && index < units.length - 1) [left, index] = [left / base, index + 1];
    return `${value < 0 ? '-' : ''}${digits(left)}${units[index]}`;
  };
  switch (unit) {
    case 's':
      if (value >= 86400) return `${digits(value / 86400)} d`;
      if (value >= 3600) return `${digits(value / 3600)} h`;
      if (value >= 60) return `${digits(value / 60)} min`;
      if (value >= 1 || value === 0) return `${digits(value)} s`;
      return value >= 1e-3 ? `${digits(value * 1e3)} ms` : `${digits(value * 1e6)} µs`;
    case 'percentunit':
      return `${digits(value * 100)}%`;
    case 'bytes':
      return scaled([' B', ' KiB', ' MiB', ' GiB', ' TiB'], 1024);
    case 'Bps':
      return scaled([' B/s', ' kB/s', ' MB/s', ' GB/s'], 1000);
    case 'none':
      return String(Number(value.toPrecision(9)));
    case 'reqps':
    case 'ops':
      return `${scaled(['', 'K', 'M', 'G'], 1000)}/s`;
    default:
      return scaled(['', ' K', ' Mil', ' Bil'], 1000);
  }
}

function digits(value) {
  return String(Number(value.toPrecision(3)));
}

function words(x, y, text, { size = 12, color, weight = 400, anchor = 'start' }) {
  return `<text x="${n(x)}" y="${n(y)}" font-size="${n(size)}" fill="${color}" font-weight="${weight}" text-anchor="${anchor}">${escape(text)}</text>`;
}

function escape(text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function n(value) {
  return Number(value.toFixed(1));
}
