
"use strict";
(() => {
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const settings = read("settings");
const utterances = read("records");
const STEP = 100; // rows that are shown at a time
const byId = (id) => document.getElementById(id);
const words = (text) =>
  settings.separator === "" ? Array.from(text) : text === "" ? [] : text.split(settings.separator);

/** An element; every text becomes a text node, so that no hypothesis is ever HTML. */
const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick" || name === "onchange") node[name] = value;
    else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};

const KINDS = { S: "mark", I: "ins", D: "del" };
const errorsOf = (hyp) => hyp.e.length - hyp.e.split("=").length + 1;

/** The steps of an alignment: [letter, reference word, hypothesis word]. */
const steps = (ref, hyp) => {
  const refs = words(ref), hyps = words(hyp.w);
  let r = 0, h = 0;
  return Array.from(hyp.e, (letter) => [
    letter, letter === "I" ? "" : refs[r++], letter === "D" ? "" : hyps[h++],
  ]);
};

const stepNode = ([letter, ref, hyp]) => {
  if (letter === "=") return document.createTextNode(hyp);
  const title = { S: `in place of ${ref}`, I: "inserted", D: "left out" }[letter];
  return element(KINDS[letter], { title }, letter === "D" ? ref : hyp);
};

const line = (ref, hyp) => {
  const nodes = [];
  for (const step of steps(ref, hyp)) nodes.push(stepNode(step), settings.separator);
  return nodes;
};

/** Columns of the reference, with what was inserted before each word: {inserted, cells}. */
const slots = (ref, hyp) => {
  const inserted = [[]], cells = [];
  for (const step of steps(ref, hyp)) {
    if (step[0] === "I") inserted[cells.length].push(step);
    else { cells.push(step); inserted.push([]); }
  }
  return { inserted, cells };
};

/** Reference, baseline and winner under each other, word by word; it wraps in narrow windows. */
const aligned = (utterance, before, after) => {
  const refs = words(utterance.ref);
  const rows = [before, after].map((hyp) => slots(utterance.ref, hyp));
  const box = element("div", { class: "aligned" });
  for (let place = 0; place <= refs.length; place++) {
    const lists = rows.map((row) => row.inserted[place]);
    for (let k = 0; k < Math.max(...lists.map((list) => list.length)); k++)
      box.append(column("", "", ...lists.map((list) => (list[k] ? stepNode(list[k]) : ""))));
    if (place < refs.length) {
      const cells = rows.map((row) => row.cells[place]);
      const isSame = cells.every((cell) => cell[0] === "=");
      box.append(column(isSame ? "agreed" : "", refs[place], ...cells.map(stepNode)));
    }
  }
  const names = column("names", "reference", settings.baseline, "rescored");
  return element("div", { class: "lines", "aria-hidden": "true" }, names, box);
};

const column = (kind, ...cells) => element("div", { class: `column ${kind}` },
  ...cells.map((cell, row) => element("span", kind === "agreed" && row ? { class: "same" } : {}, cell)));

// ------------------------------------------------------------------------------ the table

const state = { system: settings.shown, filter: "all", query: "", key: null, isUp: true, shown: STEP };

const rowOf = (utterance, index) => {
  const [before, after, best] = utterance.systems[state.system].map((k) => utterance.hyps[k]);
  return {
    utterance, index, before, after,
    words: words(utterance.ref).length,
    first: errorsOf(before), now: errorsOf(after), oracle: errorsOf(best),
    gain: errorsOf(before) - errorsOf(after),
  };
};

const COLUMNS = [
  ["utterance", "id", (row) => row.index],
  ["words", "number", (row) => row.words],
  ["before", "number", (row) => row.first],
  ["after", "number", (row) => row.now],
  ["gain", "number", (row) => row.gain],
  ["oracle", "number", (row) => row.oracle],
  ["text", "text", (row) => row.after.w],
];
const FILTERS = [
  ["all", "all", () => true],
  ["helped", "helped", (row) => row.gain > 0],
  ["hurt", "hurt", (row) => row.gain < 0],
  ["improvable", "could have helped", (row) => row.oracle < row.now],
  ["changed", "other words", (row) => row.before !== row.after],
];

const matches = (row, query) =>
  [row.utterance.id, row.utterance.ref, row.before.w, row.after.w].some(
    (text) => text.toLowerCase().includes(query));

const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);

const selected = () => {
  const query = state.query.trim().toLowerCase();
  const keep = FILTERS.find(([name]) => name === state.filter)[2];
  const rows = utterances.map(rowOf).filter((row) => matches(row, query));
  const counts = FILTERS.map(([name, , test]) => [name, rows.filter(test).length]);
  const kept = rows.filter(keep);
  if (state.key !== null) {
    const key = COLUMNS[state.key][2], sign = state.isUp ? 1 : -1;
    kept.sort((a, b) => sign * compare(key(a), key(b)) || a.index - b.index);
  }
  return [kept, new Map(counts)];
};

const tableRow = (row) => {
  const { utterance } = row;
  const button = element("button", { type: "button", "aria-expanded": "false" }, utterance.id);
  const number = (value, head, kind = "") =>
    element("td", { class: `number ${kind}`, "data-head": head }, String(value));
  const outcome = row.gain > 0 ? "helped" : row.gain < 0 ? "hurt" : "";
  const tr = element("tr", {},
    element("td", { class: "id" }, button),
    number(row.words, "words"), number(row.first, "before"), number(row.now, "after"),
    number(row.gain > 0 ? `+${row.gain}` : row.gain < 0 ? `−${-row.gain}` : "0", "gain", outcome),
    number(row.oracle, "oracle"),
    element("td", { class: "text" },
      element("span", { class: "hidden" },
        `reference: ${utterance.ref}; ${settings.baseline}: ${row.before.w}; rescored: ${row.after.w}`),
      aligned(utterance, row.before, row.after)));
  button.onclick = () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) tr.nextSibling.remove();
    else tr.after(details(row));
  };
  return tr;
};

const update = () => {
  const [rows, counts] = selected();
  byId("table").tBodies[0].replaceChildren(...rows.slice(0, state.shown).map(tableRow));
  const others = rows.length > state.shown ? `, the first ${state.shown} shown` : "";
  byId("count").textContent = `${rows.length} of ${utterances.length} utterances${others}`;
  byId("more").hidden = rows.length <= state.shown;
  for (const button of byId("filters").children) {
    const [name, label] = FILTERS.find(([filter]) => filter === button.dataset.filter);
    button.textContent = `${label} ${counts.get(name)}`;
    button.setAttribute("aria-pressed", String(name === state.filter));
  }
  for (const [number, th] of [...byId("table").tHead.rows[0].cells].entries()) {
    if (number === state.key) th.setAttribute("aria-sort", state.isUp ? "ascending" : "descending");
    else th.removeAttribute("aria-sort");
  }
  for (const section of document.querySelectorAll("[data-system]"))
    section.hidden = Number(section.dataset.system) !== state.system;
};

const change = (values) => { Object.assign(state, { shown: STEP }, values); update(); };

// ----------------------------------------------------------------- one utterance, opened

const hypothesisName = (utterance, number) => {
  const names = [];
  const winners = utterance.systems.flatMap(([, winner], k) => (winner === number ? [settings.systems[k]] : []));
  const [before, , best] = utterance.systems[state.system];
  if (number === before) names.push(settings.baseline);
  if (winners.length === settings.systems.length && winners.length > 1) names.push("every system");
  else names.push(...winners);
  if (number === best) names.push("fewest errors");
  return names.join(", ");
};

const details = (row) => {
  const { utterance } = row;
  const hasTotals = utterance.hyps.some((hyp) => hyp.t);
  const heads = ["hypothesis", "errors", ...settings.scores, ...(hasTotals ? ["total"] : []), "chosen by"];
  const cell = (value) => element("td", {}, value === null || value === undefined ? "" : String(value));
  const order = utterance.hyps.map((_, number) => number)
    .sort((a, b) => errorsOf(utterance.hyps[a]) - errorsOf(utterance.hyps[b]) || a - b);
  const rows = order.map((number) => {
    const hyp = utterance.hyps[number];
    return element("tr", {},
      element("td", { class: "text" }, ...line(utterance.ref, hyp)),
      cell(errorsOf(hyp)), ...hyp.s.map(cell),
      ...(hasTotals ? [cell(hyp.t ? hyp.t[state.system] : null)] : []),
      element("td", { class: "note" }, hypothesisName(utterance, number)));
  });
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows));
  const content = element("td", { colspan: COLUMNS.length },
    element("div", { class: "scroll" }, table), ...strips(row));
  return element("tr", { class: "details" }, content);
};

/** Two hypotheses token by token, once the reader has chosen them; nothing without token scores. */
const strips = (row) => {
  const { utterance } = row;
  const withTokens = utterance.hyps.flatMap((hyp, number) => (hyp.k ? [number] : []));
  if (!withTokens.length) return [];
  const [before, after, best] = utterance.systems[state.system];
  const first = withTokens.includes(before) ? before : withTokens[0];
  const second = [after, best, ...withTokens].find((k) => k !== first && withTokens.includes(k)) ?? first;
  const names = [...new Set(withTokens.flatMap((number) => Object.keys(utterance.hyps[number].k)))];
  const strip = element("div", { class: "strip" });
  const sum = element("p", { class: "note", "aria-live": "polite" });
  const select = (label, options, value) => {
    const box = element("select", { "aria-label": label },
      ...options.map(([key, text]) => element("option", { value: key }, text)));
    box.value = String(value);
    box.onchange = draw;
    return box;
  };
  const hyps = withTokens.map((number) => [String(number), utterance.hyps[number].w || "(empty)"]);
  const boxes = [
    select("score", names.map((name) => [name, name]), names[0]),
    select("first hypothesis", hyps, first), select("second hypothesis", hyps, second),
  ];
  function draw() {
    const [name, ...pair] = boxes.map((box) => box.value);
    const [a, b] = pair.map((number) => tokens(utterance.hyps[Number(number)], name));
    const total = (list) => list.reduce((value, token) => value + token[1], 0) / 100;
    const high = Math.max(1, ...[...a, ...b].map((token) => -token[1]));
    strip.replaceChildren(...pairs(a, b).map((both) => tokenNode(both, high)));
    sum.textContent = `${name}: ${total(a).toFixed(2)} and ${total(b).toFixed(2)} nats; ` +
      `the second is ${Math.abs(total(b) - total(a)).toFixed(2)} nats ` +
      `${total(b) >= total(a) ? "better" : "worse"}. The stronger the colour, the less likely the token.`;
  }
  draw();
  return [element("h3", {}, "Token by token"), element("div", { class: "beside" }, ...boxes), strip, sum];
};

const tokens = (hyp, name) => {
  const [pieces, values] = hyp.k[name] ?? ["", []];
  return pieces === "" && !values.length ? [] : pieces.split("\n").map((piece, k) => [piece, values[k]]);
};

/** Two lists of tokens aligned with the fewest insertions, deletions and substitutions. */
const pairs = (a, b) => {
  const cost = Array.from({ length: a.length + 1 }, (_, i) => [i]);
  for (let j = 1; j <= b.length; j++) cost[0][j] = j;
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      cost[i][j] = Math.min(cost[i - 1][j - 1] + (a[i - 1][0] !== b[j - 1][0]),
        cost[i - 1][j] + 1, cost[i][j - 1] + 1);
  const result = [];
  for (let i = a.length, j = b.length; i || j;) {
    if (i && j && cost[i][j] === cost[i - 1][j - 1] + (a[i - 1][0] !== b[j - 1][0]))
      result.push([a[--i], b[--j]]);
    else if (i && cost[i][j] === cost[i - 1][j] + 1) result.push([a[--i], null]);
    else result.push([null, b[--j]]);
  }
  return result.reverse();
};

const tokenNode = (both, high) => {
  const node = element("div", { class: "token" });
  for (const token of both) {
    const piece = element("span", {}, token ? token[0] : "");
    if (token) {
      piece.style.background = `rgba(var(--heat), ${(0.75 * Math.max(0, -token[1]) / high).toFixed(3)})`;
      piece.title = `${token[0]}: ${(token[1] / 100).toFixed(2)} nats`;
    }
    node.append(piece, element("span", { class: "value" }, token ? (token[1] / 100 + 0).toFixed(2) : ""));
  }
  const difference = ((both[1] ? both[1][1] : 0) - (both[0] ? both[0][1] : 0)) / 100;
  const kind = difference > 0 ? "up" : "down";
  const isShown = Math.abs(difference) >= 0.5;
  node.append(element("span", { class: `gain ${kind}` },
    isShown ? `${difference > 0 ? "+" : "−"}${Math.abs(difference).toFixed(2)}` : ""));
  return node;
};

// -------------------------------------------------------------------------------- controls

byId("system").append(...settings.systems.map((name, k) => element("option", { value: k }, name)));
byId("system").value = String(state.system);
byId("system").onchange = (event) => change({ system: Number(event.target.value) });
byId("search").oninput = (event) => change({ query: event.target.value });
byId("filters").append(...FILTERS.map(([name]) =>
  element("button", { type: "button", "data-filter": name, onclick: () => change({ filter: name }) })));
byId("table").tHead.rows[0].append(...COLUMNS.map(([name, kind], number) =>
  element("th", { scope: "col", class: kind }, element("button", {
    type: "button",
    onclick: () => change({ key: number, isUp: state.key === number ? !state.isUp : true }),
  }, name))));
byId("more").onclick = () => { state.shown += STEP; update(); };
update();
})();
