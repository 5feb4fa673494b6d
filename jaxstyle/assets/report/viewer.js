
// The large picture, the comparison of two, and what starts everything.

/** The whole picture where its file is beside the page, the small one inside the page elsewhere. */
function largePicture(cell, note) {
  if (!cell.thumb && !cell.picture) {
    return make("div", { class: "tile" }, marks[cell.status] ?? cell.status);
  }
  const image = make("img", { alt: `cell ${cell.index}: ${assignment(cell)}` });
  image.src = cell.picture ?? cell.thumb;
  image.addEventListener("error", () => {
    if (cell.thumb && image.src !== cell.thumb) image.src = cell.thumb;
    find(note).textContent = "The whole pictures are not beside this page; this is a small copy.";
  }, { once: true });
  return image;
}

function fact(name, value, wide = false) {
  return make("div", { class: wide ? "wide" : "" }, make("dt", {}, name), make("dd", {}, ...soft(value)));
}

let zoomed = null;
function showZoom() {
  const cell = byIndex.get(state.zoom);
  const dialog = find("zoom");
  if (!cell) {
    zoomed = null;
    if (dialog.open) dialog.close();
    return;
  }
  find("zoom-pick").setAttribute("aria-pressed", state.picked.includes(cell.index));
  if (zoomed !== cell) {
    zoomed = cell;
    find("zoom-title").textContent = `#${cell.index}   ${assignment(cell)}`;
    find("zoom-note").textContent = "";
    find("zoom-stage").replaceChildren(largePicture(cell, "zoom-note"));
    find("zoom-facts").replaceChildren(
      ...columns.filter((column) => column.id !== "index" && column.text(cell) !== "")
        .map((column) => fact(column.title, column.id === "status" ? marks[cell.status]
          : (column.exact ?? column.text)(cell), column.long)),
      ...(cell.message ? [fact("message", cell.message, true)] : []));
  }
  if (!dialog.open) {
    dialog.showModal();
    find("zoom-stage").focus();
  }
}

function step(by) {
  const cells = shownCells();
  const at = cells.findIndex((cell) => cell.index === state.zoom);
  if (cells.length) change({ zoom: cells[(at + by + cells.length) % cells.length].index });
}

function differences(left, right) {
  const heads = ["", `#${left.index}`, `#${right.index}`, "ratio"];
  const lines = columns.filter((column) => column.id !== "index").map((column) => {
    const [a, b] = [left, right].map((cell) => (column.id === "status" ? marks[cell.status]
      : column.text(cell)));
    const [x, y] = [column.value(left), column.value(right)];
    const isMetric = data.metrics.some((metric) => metric.name === column.id);
    const ratio = isMetric && x && Number.isFinite(y / x) ? `×${short(y / x)}` : "";
    return make("tr", { class: a === b ? "" : "differs" }, make("th", { scope: "row" },
      column.title), ...[a, b, ratio].map((text) => make("td", {}, ...soft(text))));
  });
  return [make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head))), ...lines];
}

let compared = "";
function showCompare() {
  const dialog = find("compare");
  if (!state.compare) {
    compared = "";
    if (dialog.open) dialog.close();
    return;
  }
  const [left, right] = state.compare.map((index) => byIndex.get(index));
  if (compared !== state.compare.join()) {
    compared = state.compare.join();
    find("compare-title").textContent = `#${left.index} and #${right.index}`;
    find("compare-note").textContent = "";
    find("left").replaceChildren(largePicture(left, "compare-note"));
    find("right").replaceChildren(largePicture(right, "compare-note"));
    const differ = (cell) => data.keys.map((key, i) => [key.name, swept(cell, i), i])
      .filter(([, , i]) => left.values[i] !== right.values[i])
      .map(([name, text]) => `${name}=${text}`).join(", ");
    find("left-tag").textContent = `#${left.index} ${differ(left)}`;
    find("right-tag").textContent = `#${right.index} ${differ(right)}`;
    find("differences").replaceChildren(...differences(left, right));
  }
  find("slider").value = state.at;
  find("pair").style.setProperty("--at", `${state.at}%`);
  if (!dialog.open) dialog.showModal();
}

function show() {
  showCells();
  showZoom();
  showCompare();
}

function change(values) {
  Object.assign(state, values);
  writeState();
  show();
}

function buildHeader() {
  const counts = Object.entries(marks)
    .map(([status, text]) => [data.cells.filter((cell) => cell.status === status).length, text])
    .filter(([count]) => count).map(([count, text]) => `${count} ${text}`);
  const cells = data.cells.length === 1 ? "1 cell" : `${data.cells.length} cells`;
  const shared = data.keys.filter((key) => key.labels.length === 1)
    .map((key) => `${key.name}=${key.labels[0]}`);
  find("summary").textContent = [`${cells}: ${counts.join(", ")}`, ...shared].join(" · ");
  for (const { label, src } of data.given) {
    find("given").append(make("figure", {}, make("img", { src, alt: label }),
      make("figcaption", {}, label)));
  }
  for (const [name, text] of data.details) {
    find("details").append(make("dt", {}, name), make("dd", {}, text));
  }
  find("about").hidden = !data.details.length;
}

function slide(event) {
  const box = find("pair").getBoundingClientRect();
  const at = Math.round(100 * (event.clientX - box.left) / box.width);
  change({ at: Math.min(100, Math.max(0, at)) });
}

function listen() {
  const on = (id, event, action) => find(id).addEventListener(event, action);
  on("controls", "submit", (event) => event.preventDefault());
  on("query", "input", (event) => change({ query: event.target.value }));
  on("sort", "change", (event) => change({ sort: event.target.value }));
  on("direction", "click", () => change({ descending: !state.descending }));
  on("terms", "click", () => change({ terms: !state.terms }));
  on("reset", "click", () => change({
    query: "", status: new Set(), is: data.keys.map(() => new Set()),
  }));
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => change({ view: button.dataset.view }));
  }
  on("compare-picked", "click", () => change({ compare: [...state.picked], at: 50 }));
  on("clear-picked", "click", () => change({ picked: [] }));
  on("zoom-previous", "click", () => step(-1));
  on("zoom-next", "click", () => step(1));
  on("zoom-pick", "click", () => pick(state.zoom));
  on("zoom-stage", "click", () => find("zoom-actual").click());
  on("zoom-actual", "click", () => {
    const actual = find("zoom-stage").classList.toggle("actual");
    find("zoom-actual").setAttribute("aria-pressed", actual);
  });
  on("zoom", "close", () => state.zoom !== null && change({ zoom: null }));
  on("zoom", "keydown", (event) => {
    const scrolls = find("zoom-stage").classList.contains("actual");
    if (event.key === "ArrowLeft" && !scrolls) step(-1);
    else if (event.key === "ArrowRight" && !scrolls) step(1);
    else return;
    event.preventDefault();
  });
  on("swap", "click", () => change({ compare: [...state.compare].reverse() }));
  on("slider", "input", (event) => change({ at: Number(event.target.value) }));
  on("compare", "close", () => state.compare && change({ compare: null }));
  on("compare", "keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.target === find("slider")) return;
    event.preventDefault();
    change({ at: Math.min(100, Math.max(0, state.at + by)) });
  });
  on("compare-stage", "pointerdown", (event) => {
    find("compare-stage").setPointerCapture(event.pointerId);
    slide(event);
  });
  on("compare-stage", "pointermove", (event) => event.buttons && slide(event));
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  addEventListener("hashchange", () => { readState(); show(); });
}

readState();
buildHeader();
buildFilters();
buildTable();
listen();
show();
