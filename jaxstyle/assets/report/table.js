
// The table and the wall of pictures: built once, then ordered and hidden as the state says.

const rows = new Map();
const cards = new Map();

function picture(cell) {
  const inside = cell.thumb
    ? make("img", { src: cell.thumb, alt: "", width: cell.width, height: cell.height,
      decoding: "async" })
    : make("span", { class: "tile" }, cell.status === "failed" ? "failed" : "no picture");
  return make("button", {
    type: "button", class: `open ${cell.status}`, "aria-label": `cell ${cell.index}, enlarge`,
    onclick: () => change({ zoom: cell.index }),
  }, inside);
}

function picker(cell) {
  return make("input", {
    type: "checkbox", "aria-label": `compare cell ${cell.index}`, title: "compare",
    onchange: () => pick(cell.index),
  });
}

function pick(index) {
  const others = state.picked.filter((other) => other !== index);
  const removed = others.length < state.picked.length;
  change({ picked: removed ? others : [...others, index].slice(-2) });
}

function statusMark(cell) {
  return make("span", { class: `mark ${cell.status}` }, marks[cell.status] ?? cell.status);
}

function makeRow(cell) {
  const row = make("tr", { "data-index": cell.index }, make("td", { class: "first" },
    make("div", {}, picker(cell), picture(cell))));
  for (const column of columns) {
    const classes = [column.number && "number", column.long && "text", column.extra && "extra",
      column.id === "status" && "status"];
    const entry = make("td", { class: classes.filter(Boolean).join(" ") });
    if (column.id === "status") {
      entry.append(statusMark(cell));
      if (cell.message) entry.append(make("span", { class: "message" }, ...soft(cell.message)));
    } else {
      const value = column.value(cell);
      if (typeof value === "number" && !Number.isFinite(value)) entry.classList.add("odd");
      entry.append(...soft(column.text(cell)));
    }
    row.append(entry);
  }
  return row;
}

function makeCard(cell) {
  const loss = data.metrics.length ? short(cell.metrics[0]) : "";
  return make("figure", { class: "card", "data-index": cell.index }, picture(cell),
    make("figcaption", {},
      make("label", {}, picker(cell), make("span", {}, `#${cell.index}`),
        make("span", {}, loss && `loss ${loss}`)),
      cell.status === "done" ? null : statusMark(cell),
      make("div", {}, ...soft(assignment(cell)))));
}

function buildTable() {
  const heads = columns.map((column) => make("th", {
    scope: "col", "data-column": column.id,
    class: [column.number && "number", column.extra && "extra"].filter(Boolean).join(" "),
  }, make("button", {
    type: "button", title: column.id,
    onclick: () => change({
      sort: column.id, descending: state.sort === column.id && !state.descending,
    }),
  }, column.title, make("span", { "aria-hidden": "true" }, ""))));
  document.querySelector("#table thead").append(
    make("tr", {}, make("th", { scope: "col", class: "first" }, "picture"), ...heads));
  for (const cell of data.cells) rows.set(cell, makeRow(cell));
  const first = data.cells.find((cell) => cell.thumb);
  if (first) find("pictures").style.setProperty("--shape", `${first.width} / ${first.height}`);
  for (const column of columns) {
    find("sort").append(make("option", { value: column.id },
      column.id === "index" ? "number" : column.title));
  }
}

function chips(title, texts, labels, chosen) {
  const toggle = (text) => {
    const set = new Set(chosen());
    if (!set.delete(text)) set.add(text);
    return set;
  };
  const field = make("fieldset", {}, make("legend", {}, title));
  if (texts.length > 12) {
    const select = make("select", { "aria-label": title },
      make("option", { value: "-1" }, "any"),
      ...texts.map((text, i) => make("option", { value: String(i) }, labels[i])));
    select.addEventListener("change", () => {
      const text = texts[Number(select.value)];
      chosen(new Set(text === undefined ? [] : [text]));
    });
    field.append(select);
    field.refresh = () => { select.value = String(texts.indexOf([...chosen()][0])); };
    return field;
  }
  const buttons = texts.map((text, i) => make("button", {
    type: "button", class: "chip", "aria-pressed": "false", onclick: () => chosen(toggle(text)),
  }, labels[i]));
  field.append(...buttons);
  field.refresh = () => buttons.forEach((button, i) =>
    button.setAttribute("aria-pressed", chosen().has(texts[i])));
  return field;
}

const fields = [];
function buildFilters() {
  data.keys.forEach((key, i) => {
    if (key.labels.length < 2) return;
    fields.push(chips(key.name, key.labels, key.labels, (set) => {
      if (set) change({ is: state.is.map((old, j) => (j === i ? set : old)) });
      return state.is[i];
    }));
  });
  const found = Object.keys(marks).filter((s) => data.cells.some((cell) => cell.status === s));
  if (found.length > 1) {
    fields.push(chips("status", found, found.map((status) => marks[status]), (set) => {
      if (set) change({ status: set });
      return state.status;
    }));
  }
  find("filters").append(...fields);
  find("choices").hidden = !fields.length;
  find("choices").open = innerWidth >= 640;
}

function showControls(count) {
  fields.forEach((field) => field.refresh());
  if (find("query").value !== state.query) find("query").value = state.query;
  find("sort").value = state.sort;
  find("direction").textContent = state.descending ? "↓" : "↑";
  find("direction").title = state.descending ? "largest first" : "smallest first";
  find("direction").setAttribute("aria-label", find("direction").title);
  find("terms").setAttribute("aria-pressed", state.terms);
  find("terms").hidden = state.view !== "table" || !columns.some((column) => column.extra);
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", button.dataset.view === state.view);
  }
  find("count").textContent = count === data.cells.length
    ? `${count} cells` : `${count} of ${data.cells.length} cells`;
  for (const head of document.querySelectorAll("[data-column]")) {
    const sorted = head.dataset.column === state.sort;
    const order = state.descending ? "descending" : "ascending";
    if (sorted) head.setAttribute("aria-sort", order);
    else head.removeAttribute("aria-sort");
    head.querySelector("span").textContent = sorted ? (state.descending ? " ↓" : " ↑") : "";
  }
  for (const entry of document.querySelectorAll(".extra")) entry.hidden = !state.terms;
}

function showCells() {
  const cells = shownCells();
  const asTable = state.view !== "pictures";
  if (!asTable && !cards.size) for (const cell of data.cells) cards.set(cell, makeCard(cell));
  const [place, elements] = asTable
    ? [document.querySelector("#table tbody"), rows] : [find("pictures"), cards];
  const wanted = cells.map((cell) => elements.get(cell));
  // What is moved loses the focus, so nothing is moved without need.
  if (wanted.length !== place.children.length
    || wanted.some((element, i) => element !== place.children[i])) place.replaceChildren(...wanted);
  find("scroll").hidden = !asTable || !cells.length;
  find("pictures").hidden = asTable;
  find("nothing").hidden = cells.length > 0;
  for (const [cell, element] of [...rows, ...cards]) {
    const chosen = state.picked.includes(cell.index);
    element.classList.toggle("picked", chosen);
    element.querySelector("input").checked = chosen;
  }
  showControls(cells.length);
  find("tray").hidden = !state.picked.length;
  find("picked").textContent = state.picked.map((index) => `#${index}`).join(" and ")
    + (state.picked.length === 1 ? ": choose another to compare" : "");
  find("compare-picked").hidden = state.picked.length < 2;
}
