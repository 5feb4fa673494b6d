
"use strict";
// What is shown is the address's fragment, so a view can be kept and sent:
// #sort=-loss&is.seed=1&q=relu1&view=pictures&compare=3,7&at=40

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const marks = { done: "✓ done", not_finite: "⚠ not finite", failed: "✕ failed" };

/** Build an element; whatever comes from the data goes in as text, never as markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Let long values break where a reader would break them. */
function soft(text) {
  return String(text).split(/(?<=[+/=,])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

/** Numbers that JSON lacks come as text. */
const number = (value) => (typeof value === "string" ? Number(value) : value);

function short(value) {
  if (value == null) return "";
  const real = number(value);
  if (!Number.isFinite(real)) return Number.isNaN(real) ? "NaN" : real > 0 ? "∞" : "−∞";
  if (Number.isInteger(real) && Math.abs(real) < 1e6) return String(real);
  return Math.abs(real) >= 1e-3 && Math.abs(real) < 1e6
    ? String(Number(real.toPrecision(4))) : real.toExponential(2);
}

const swept = (cell, key) => (cell.values[key] < 0 ? "" : data.keys[key].labels[cell.values[key]]);
const assignment = (cell) => data.keys
  .map((key, i) => (cell.values[i] < 0 ? null : `${key.name}=${swept(cell, i)}`))
  .filter((text) => text !== null).join(", ");

// Columns: a name for the address, a heading, the value to sort by, and the text shown.
const columns = [
  { id: "index", title: "#", number: true, value: (cell) => cell.index },
  ...data.keys.map((key, i) => ({
    id: key.id, title: key.name, number: key.numeric, long: !key.numeric,
    value: (cell) => (cell.values[i] < 0 ? null : cell.values[i]),
    text: (cell) => swept(cell, i),
    exact: (cell) => (cell.values[i] < 0 ? "" : key.texts[cell.values[i]]),
  })),
  { id: "status", title: "status", value: (cell) => cell.status },
  ...data.metrics.map((metric, i) => ({
    id: metric.name, title: metric.title, number: true, extra: metric.extra,
    value: (cell) => number(cell.metrics[i]),
    text: (cell) => short(cell.metrics[i]),
  })),
  { id: "steps", title: "steps", number: true, value: (cell) => cell.steps },
  { id: "seconds", title: "seconds", number: true, value: (cell) => number(cell.seconds) },
  { id: "name", title: "name", value: (cell) => cell.name, long: true, extra: true },
];
for (const column of columns) {
  column.text ??= (cell) => (column.number ? short(column.value(cell)) : column.value(cell));
}

const words = new Map(data.cells.map((cell) => [cell, [
  `#${cell.index}`, cell.name, cell.status, marks[cell.status], cell.message, assignment(cell),
  ...data.keys.map((key, i) => `${key.key}=${swept(cell, i)}`),
].join("\n").toLowerCase()]));

const byIndex = new Map(data.cells.map((cell) => [cell.index, cell]));
const state = {};

function readState() {
  const from = new URLSearchParams(location.hash.slice(1));
  const indices = (name) => (from.get(name) ?? "").split(",").filter(Boolean).map(Number)
    .filter((index) => byIndex.has(index));
  const sort = from.get("sort") ?? "index";
  state.descending = sort.startsWith("-") && !columns.some((column) => column.id === sort);
  const id = state.descending ? sort.slice(1) : sort;
  state.sort = columns.some((column) => column.id === id) ? id : "index";
  state.query = from.get("q") ?? "";
  state.status = new Set(from.getAll("status"));
  state.is = data.keys.map((key) => new Set(from.getAll(`is.${key.key}`)));
  state.view = from.get("view") ?? (innerWidth < 640 ? "pictures" : "table");
  state.terms = from.get("terms") === "1";
  state.picked = indices("pick").slice(0, 2);
  const pair = indices("compare");
  state.compare = pair.length === 2 ? pair : null;
  state.at = Math.min(100, Math.max(0, Number(from.get("at") ?? 50) || 0));
  state.zoom = indices("zoom")[0] ?? null;
}

let writing = 0;
/** Put the state into the address, but not at each pixel of a drag: browsers limit that. */
function writeState() {
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", `#${stateText()}`), 150);
}

function stateText() {
  const to = new URLSearchParams();
  if (state.sort !== "index" || state.descending) {
    to.set("sort", (state.descending ? "-" : "") + state.sort);
  }
  if (state.query) to.set("q", state.query);
  for (const status of state.status) to.append("status", status);
  state.is.forEach((set, i) => set.forEach((text) => to.append(`is.${data.keys[i].key}`, text)));
  if (state.view !== (innerWidth < 640 ? "pictures" : "table")) to.set("view", state.view);
  if (state.terms) to.set("terms", "1");
  if (state.picked.length) to.set("pick", state.picked.join(","));
  if (state.compare) {
    to.set("compare", state.compare.join(","));
    to.set("at", state.at);
  }
  if (state.zoom !== null) to.set("zoom", state.zoom);
  return to.toString();
}

/** The cells to show, in order. What has no value comes last, whichever the direction. */
function shownCells() {
  const needed = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const cells = data.cells.filter((cell) =>
    (!state.status.size || state.status.has(cell.status))
    && state.is.every((set, i) => !set.size || set.has(swept(cell, i)))
    && needed.every((word) => words.get(cell).includes(word)));
  const { value } = columns.find((column) => column.id === state.sort);
  const sign = state.descending ? -1 : 1;
  const missing = (x) => x == null || Number.isNaN(x);
  return cells.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a.index - b.index;
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true })
      : x < y ? -1 : x > y ? 1 : 0;
    return sign * order || a.index - b.index;
  });
}
