// The explorer: the heads of a layer, one of them large (cells or lines), the way of one cell from q·k to its
// weight, and a ranking of all heads.
//
// First the numbers (functions that know nothing of the page), then the parts of the picture, then draw(), which
// puts them together. Two objects go through all of it:
//   given  the data, unpacked; it does not change
//   state  what the reader looks at: see beginning()
// A part returns { el, update }: what to put into the page, and what brings it up to the state.
// i is a query and j a source, of the whole text; row and col count inside the window that is shown large.

const WINDOW = 32; // tokens of a long text that the large picture shows
const MAP = 200; // pixels: a side of the picture of the whole text
const SIDE = 120, GAP = 170; // pixels: the texts on both sides of the lines, and what lies between
const LETTERS = "font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace";
const PALETTE = Array.from({ length: 256 }, (_, n) => blues(n / 255).match(/\d+/g).map(Number));
const MEANINGS = {
  first: "mean weight on the very first token, where a head with nothing to do parks it",
  previous: "mean weight on the token before", itself: "mean weight on the token itself",
  induction: "mean weight on what followed the last time the same token stood here",
  sharp: "mean bits of a row: sharpest heads first", broad: "mean bits of a row: broadest heads first",
};

// ---- the numbers -----------------------------------------------------------------------------------------

function unpacked(data) {
  const { queries } = data, sources = data.labels.length;
  const thumbnails = unpack(data.thumbnails), [, , high, wide] = thumbnails.shape;
  const rows = queries > 40 ? WINDOW : queries, cols = sources > 40 ? WINDOW : sources;
  return {
    ...data, labels: data.labels.map(visible), sources, rows, cols, long: rows < queries || cols < sources,
    first: sources - queries, // where the queries begin among the sources
    thumbnails: thumbnails.values, high, wide, // a small picture of each head
    runs: runsOf(unpack(data.visible).values, queries),
    factor: Number(data.scale.toPrecision(4)),
  };
}

function beginning(given) {
  return {
    layer: given.layer, head: given.head, chosen: null, // what headOf() makes of the two
    top: given.queries - given.rows, left: given.sources - given.cols, // the window's first query and source
    at: null, // [i, j], the cell that is explained
    lines: false, pattern: "induction" in given.scores ? "induction" : "previous",
    alone: false, // true when no kernel answers
  };
}

// For each query the stretches [from, to) of sources that it may see.
function runsOf(stretches, queries) {
  const runs = Array.from({ length: queries }, () => []);
  for (let n = 0; n < stretches.length; n += 3) runs[stretches[n]].push([stretches[n + 1], stretches[n + 2]]);
  return runs;
}

const maySee = (given, i, j) => given.runs[i].some(([from, to]) => j >= from && j < to);

// What the page holds of a head: its queries and keys, or its scores, or nothing. `known` remembers it.
function numbersOf(given, known, layer, head) {
  const name = `${layer} ${head}`, group = `${layer} ${Math.floor((head * given.groups) / given.heads)}`;
  const part = (kind, where) => given.exact[`${kind} ${where}`];
  if (!known.has(name) && part("scores", name)) known.set(name, { scores: unpack(part("scores", name)).values });
  else if (!known.has(name) && part("queries", name)) {
    known.set(name, { queries: unpack(part("queries", name)).values, keys: unpack(part("keys", group)).values });
  }
  return known.get(name);
}

// What q · k adds up, channel by channel.
function products({ queries, keys }, channels, i, j) {
  return Array.from({ length: channels }, (_, c) => queries[i * channels + c] * keys[j * channels + c]);
}

function scoreOf({ queries, keys, scores }, { sources, channels, scale }, i, j) {
  if (scores) return scores[i * sources + j];
  let sum = 0;
  for (let c = 0, a = i * channels, b = j * channels; c < channels; c++) sum += queries[a + c] * keys[b + c];
  return sum * scale;
}

// A row's softmax over the stretches it may see: weight j is exps[j] / sum; the largest score, and where it is.
function softmaxOf(stretches, sources, score) {
  const exps = new Float64Array(sources);
  let largest = -Infinity, where = 0, sum = 0;
  for (const [from, to] of stretches) {
    for (let j = from; j < to; j++) {
      exps[j] = score(j);
      if (exps[j] > largest) { largest = exps[j]; where = j; }
    }
  }
  for (const [from, to] of stretches) {
    for (let j = from; j < to; j++) { exps[j] = Math.exp(exps[j] - largest); sum += exps[j]; }
  }
  return { exps, largest, where, sum };
}

function thumbnailOf({ thumbnails, heads, high, wide }, layer, head) {
  const size = high * wide, from = (layer * heads + head) * size;
  return thumbnails.subarray(from, from + size);
}

// One head: score(i, j), softmax(i) as above, and weight(i, j), which works without `numbers` too.
function headOf(given, numbers, thumbnail) {
  const rows = new Map(); // query → its softmax
  const score = (i, j) => scoreOf(numbers, given, i, j);
  function softmax(i) {
    if (!rows.has(i)) rows.set(i, softmaxOf(given.runs[i], given.sources, (j) => score(i, j)));
    return rows.get(i);
  }
  function weight(i, j) { // exact where the numbers are here, else the largest of a block
    if (numbers) { const row = softmax(i); return row.exps[j] / row.sum; }
    const y = Math.floor((i * given.high) / given.queries), x = Math.floor((j * given.wide) / given.sources);
    return (thumbnail[y * given.wide + x] / 255) ** 2;
  }
  return { numbers, score, softmax, weight };
}

function inWindow({ rows, cols }, { at, top, left }) {
  return at && at[0] >= top && at[0] < top + rows && at[1] >= left && at[1] < left + cols;
}

// The cell with the largest weight in the last row of the window.
function strongest(given, { chosen, top, left }) {
  const i = top + given.rows - 1;
  let best = left;
  for (let j = left; j < left + given.cols; j++) {
    if (maySee(given, i, j) && chosen.weight(i, j) > chosen.weight(i, best)) best = j;
  }
  return [i, best];
}

// All heads by what they do, best first: { table, most, order, words(value) }; table[layer][head] is the value.
function ranked(scores, pattern) {
  const bits = pattern === "sharp" || pattern === "broad";
  const table = scores[bits ? "entropy" : pattern];
  const order = table.flatMap((row, layer) => row.map((value, head) => ({ layer, head, value })))
    .sort((a, b) => (pattern === "sharp" ? a.value - b.value : b.value - a.value));
  const words = (value) => (bits ? `${value.toFixed(2)} bits` : value.toFixed(3));
  return { table, most: bits ? Math.max(...table.flat(), 1e-9) : 1, order, words };
}

// ---- numbers and tokens in words -------------------------------------------------------------------------

function digits(x, places = 2) {
  if (x === -Infinity) return "−∞";
  if (x !== 0 && Math.abs(x) < 0.5 * 10 ** -places) return x.toExponential(1).replaceAll("-", "−");
  return x.toFixed(Math.abs(x) >= 1000 ? 0 : places).replace("-", "−");
}

const tokenName = ({ labels }, j) => `“${short(labels[j], 18)}” (${j})`;

const blockSize = ({ queries, sources, high, wide }) => [queries / high, sources / wide].map(Math.ceil);

// One cell in a sentence, as readout().say() takes it.
function sentence(given, chosen, i, j) {
  const arrow = `${tokenName(given, given.first + i)} → ${tokenName(given, j)}`, hidden = !maySee(given, i, j);
  if (!chosen.numbers) {
    const [high, wide] = blockSize(given), about = high * wide > 1 ? "at most" : "about";
    return [`${arrow}: ${hidden ? "hidden by the mask" : `the weight is ${about} ${digits(chosen.weight(i, j), 3)}`}.`];
  }
  const { exps, largest, sum } = chosen.softmax(i), score = chosen.score(i, j);
  const result = hidden
    ? `hidden by the mask, so exp(−∞) = 0: weight 0`
    : `visible; exp(${digits(score)} − ${digits(largest)}) = ${digits(exps[j], 3)}, ÷ ${digits(sum, 3)} = weight ${digits(exps[j] / sum, 3)}`;
  return [h("b", {}, arrow), `: q·k = ${digits(score / given.scale)}, × ${given.factor} = ${digits(score)}; ${result}.`];
}

// Where the numbers of the chosen head come from.
function origin(given, { chosen: { numbers }, alone }, problem) {
  if (problem) return `The kernel could not answer: ${problem}`;
  if (!numbers && alone) {
    const names = Object.keys(given.exact).filter((name) => !name.startsWith("keys"));
    const held = new Set(names.map((name) => name.replace(/^\w+ /, "")));
    return `This page has no room for the numbers of every head: of this one it holds a picture only, in which a cell is the largest of ${blockSize(given).join(" × ")} weights. It holds ${held.size} of ${given.layers * given.heads} heads exactly, the chosen layer and the top heads among them; in a running notebook all are exact.`;
  }
  if (!numbers) return "Asking the kernel for the numbers of this head …";
  return numbers.fine ? "Computed here from the kernel's queries and keys, in float32."
    : "Computed here from queries and keys in 16 bits: the last digit may differ from the model's.";
}

// ---- the parts: what to look at --------------------------------------------------------------------------

function headControls(given, state, go, showLines) {
  const layer = slider("layer", { min: 0, max: given.layers - 1, value: state.layer, testid: "layer" },
    (next) => go(next, state.head));
  const head = slider("head", { min: 0, max: given.heads - 1, value: state.head, testid: "head" },
    (next) => go(state.layer, next));
  const lines = toggle("lines instead of cells", false, showLines, "lines");
  function update() {
    layer.set(state.layer);
    head.set(state.head);
  }
  return { el: h("div", { class: "controls" }, layer, head, lines), update };
}

function windowControls({ queries, sources, rows, cols, first }, state, move) {
  const span = (from, count) => `${from}–${from + count - 1}`;
  const top = slider("queries", {
    min: 0, max: queries - rows, value: state.top, format: (i) => span(first + i, rows), testid: "queries",
  }, (i) => move(i, state.left));
  const left = slider("sources", {
    min: 0, max: sources - cols, value: state.left, format: (j) => span(j, cols), testid: "sources",
  }, (j) => move(state.top, j));
  function update() {
    top.set(state.top);
    left.set(state.left);
  }
  const words = h("span", { class: "quiet" }, `of ${sources} tokens, large:`);
  return { el: h("div", { class: "controls" }, words, top, left), update };
}

function paint(canvas, values, { high, wide }) {
  canvas.width = wide;
  canvas.height = high;
  const pen = canvas.getContext("2d"), image = pen.createImageData(wide, high);
  for (let n = 0; n < values.length; n++) image.data.set([...PALETTE[values[n]], 255], 4 * n);
  pen.putImageData(image, 0, 0);
}

// The heads of the layer, as small pictures.
function headPictures(given, state, go) {
  const { heads } = given, side = heads <= 12 ? 64 : heads <= 20 ? 48 : 36;
  const pictures = Array.from({ length: heads }, (_, head) => {
    const canvas = h("canvas", { style: { width: `${side}px`, height: `${side}px`, imageRendering: "pixelated" } });
    const box = h("button", {
      type: "button", "aria-label": `head ${head}`, "data-testid": `head-${head}`, onclick: () => go(state.layer, head),
      style: { padding: "2px 3px 3px", background: "#fff", lineHeight: "1.2", fontSize: "11px" },
    }, `${head}`, canvas);
    return { canvas, box };
  });
  const title = h("div", { class: "quiet" });
  const columns = `repeat(${Math.min(heads, side === 64 ? 3 : 4)}, max-content)`;
  const grid = h("div", { style: { display: "grid", gap: "4px", gridTemplateColumns: columns } },
    pictures.map(({ box }) => box));

  function update() {
    title.textContent = `all ${heads} heads of layer ${state.layer}`;
    pictures.forEach(({ canvas, box }, head) => {
      const chosen = head === state.head;
      paint(canvas, thumbnailOf(given, state.layer, head), given);
      box.style.borderColor = chosen ? COLOURS.RED : "#d0d0d0";
      box.style.boxShadow = chosen ? `0 0 0 1px ${COLOURS.RED}` : "none";
      box.setAttribute("aria-pressed", chosen);
    });
  }
  return { el: [title, grid], update };
}

// The whole of a long text, with a frame around the window; follow() puts the frame there.
function wholeText(given, state, move) {
  const { queries, sources, rows, cols } = given;
  const whole = h("canvas", { style: { width: `${MAP}px`, height: `${MAP}px`, imageRendering: "pixelated" } });
  const frame = h("div", { style: { position: "absolute", border: `2px solid ${COLOURS.RED}`, pointerEvents: "none" } });
  const overview = h("div", {
    "data-testid": "overview",
    style: { position: "relative", width: `${MAP}px`, border: "1px solid #d0d0d0", cursor: "crosshair", touchAction: "none" },
    onpointerdown: (event) => { overview.setPointerCapture(event.pointerId); jump(event); },
    onpointermove: (event) => { if (event.buttons) jump(event); },
  }, whole, frame);
  function jump(event) {
    const box = overview.getBoundingClientRect();
    move(Math.round(((event.clientY - box.top) / MAP) * queries - rows / 2),
      Math.round(((event.clientX - box.left) / MAP) * sources - cols / 2));
  }
  function follow() {
    const at = (part, all) => `${Math.floor((part / all) * MAP)}px`;
    Object.assign(frame.style, {
      top: at(state.top, queries), left: at(state.left, sources), height: at(rows, queries), width: at(cols, sources),
    });
  }
  follow();
  const update = () => paint(whole, thumbnailOf(given, state.layer, state.head), given);
  const words = h("div", { class: "quiet" }, "the whole text: click to move the frame");
  return { el: h("div", { style: { marginTop: "8px" } }, words, overview), update, follow };
}

// All heads, by what they do.
function ranking(given, state, go) {
  const meaning = h("div", { class: "quiet", style: { maxWidth: "230px", minHeight: "3em" } });
  const pointed = h("div", { class: "quiet", style: { minHeight: "1.5em" } });
  const place = h("div"), list = h("div", { "data-testid": "ranking" });
  let map = null;
  function redraw() {
    const order = ranked(given.scores, state.pattern);
    meaning.textContent = MEANINGS[state.pattern];
    map = headMap(given, state, order, pointed, go);
    place.replaceChildren(map.el);
    list.replaceChildren(...topHeads(order, go));
    update();
  }
  const update = () => map.select(state.layer, state.head);
  redraw();

  const patterns = Object.keys(given.scores).filter((name) => name !== "entropy")
    .map((name) => [name, name === "induction" ? name : `to ${given.names[name]}`]);
  const chooser = select("by", [...patterns, ["sharp", "lowest entropy"], ["broad", "highest entropy"]], state.pattern,
    (pattern) => { state.pattern = pattern; redraw(); }, "pattern");
  const noCopies = "induction" in given.scores ? null : h("div", { class: "quiet", style: { maxWidth: "230px" } },
    "No token occurs twice in this text, so there is no induction to see.");
  const el = [
    h("div", { style: { marginTop: "12px" } }, h("b", {}, "heads of all layers"), h("br"), chooser), meaning,
    h("div", { style: { display: "flex", flexWrap: "wrap", gap: "8px" } }, place, list), pointed, noCopies,
  ];
  return { el, update };
}

function headMap({ layers, heads }, state, { table, most, words }, pointed, go) {
  const map = heatmap({
    rows: layers, cols: heads, cell: clamp(Math.floor(Math.min(320 / layers, (heads <= 12 ? 96 : 200) / heads)), 5, 14),
    value: (layer, head) => table[layer][head] / most,
    rowLabels: Array.from({ length: layers }, (_, n) => (layers > 8 && n % 5 ? "" : `${n}`)),
    colLabels: Array.from({ length: heads }, (_, n) => (heads > 16 && n % 4 ? "" : `${n}`)),
    onhover: (layer, head) => { pointed.textContent = `layer ${layer}, head ${head}: ${words(table[layer][head])}`; },
    onleave: () => { pointed.textContent = ""; map.select(state.layer, state.head); },
    onclick: go, label: "scores of all heads: layers by heads", testid: "head-map",
  });
  return map;
}

function topHeads({ order, words }, go) {
  return order.slice(0, 6).map(({ layer, head, value }, place) => h("button", {
    type: "button", "data-testid": `rank-${place}`, onclick: () => go(layer, head),
    style: { display: "block", width: "118px", margin: "0 0 4px", textAlign: "left", fontSize: "11px", lineHeight: "1.3" },
  }, `layer ${layer}, head ${head}`, h("br"), h("b", {}, words(value))));
}

// ---- the parts: one head large ---------------------------------------------------------------------------

// Cells or lines. Both set state.at where the reader points, and call explain().
function largePicture(given, state, explain) {
  const title = h("div", { "data-testid": "title", style: { fontWeight: "bold" } });
  const hint = h("div", { class: "quiet" });
  const place = h("div", { "data-testid": "large" });
  function update() {
    if (!state.at) state.at = strongest(given, state);
    title.textContent = `layer ${state.layer}, head ${state.head}`;
    hint.textContent = state.lines
      ? "left: a token asks; right: where it looks (point at either side, or use the arrow keys)"
      : "a row asks, a column answers; grey is hidden (point at a cell, or click and use the arrow keys)";
    const focused = place.contains(document.activeElement);
    place.replaceChildren((state.lines ? lines : cells)(given, state, explain));
    if (focused) place.firstChild.focus();
    explain();
  }
  return { el: [title, hint, place], update };
}

function cells(given, state, explain) {
  const { rows, cols, labels, first } = given, { top, left, chosen } = state;
  const map = heatmap({
    rows, cols, cell: clamp(Math.floor(410 / Math.max(cols, rows)), 11, 34),
    value: (row, col) => (maySee(given, top + row, left + col) ? Math.sqrt(chosen.weight(top + row, left + col)) : null),
    rowLabels: labels.slice(first + top, first + top + rows).map((text) => short(text)),
    colLabels: labels.slice(left, left + cols).map((text) => short(text)),
    onhover: (row, col) => { state.at = [top + row, left + col]; explain(); },
    label: `attention of layer ${state.layer}, head ${state.head}: queries by sources`, testid: "map",
  });
  if (inWindow(given, state)) map.select(state.at[0] - top, state.at[1] - left);
  return map.el;
}

function lines(given, state, explain) {
  const { rows, cols } = given, { top, left, chosen } = state;
  const step = clamp(Math.floor(420 / Math.max(rows, cols)), 14, 24);
  const seen = (row, col) => (maySee(given, top + row, left + col) ? chosen.weight(top + row, left + col) : 0);
  const texts = lineTexts(given, state, step), strokes = lineStrokes(given, seen, step);
  const picture = s("svg", {
    width: 2 * SIDE + GAP + 60, height: step * Math.max(rows, cols), tabindex: 0, role: "img", "data-testid": "line-picture",
    "aria-label": "lines from each token to those it looks at", style: "cursor: crosshair",
  }, texts.backs, strokes.el, texts.asks, texts.answers);

  let asking = null, answering = null;
  function point(row, col) { // one of the two is null: all lines of a query, or all lines to a source
    if (row === asking && col === answering) return;
    [asking, answering] = [row, col];
    const pairs = row !== null ? texts.answers.map((_, other) => [row, other]) : texts.asks.map((_, other) => [other, col]);
    strokes.mark(pairs, row !== null);
    texts.mark(row, col, seen);
    const best = pairs.reduce((a, b) => (seen(...b) > seen(...a) ? b : a));
    state.at = [top + best[0], left + best[1]];
    explain();
  }
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect(), n = Math.floor((event.clientY - box.top) / step);
    const asks = event.clientX - box.left < SIDE + GAP / 2;
    if (n >= 0 && n < (asks ? rows : cols)) point(asks ? n : null, asks ? null : n);
  });
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    point(asking === null ? 0 : clamp(asking + by, 0, rows - 1), null);
  });
  if (inWindow(given, state)) point(state.at[0] - top, null);
  return picture;
}

// The tokens that ask and those that answer. mark(row, col) shows which is pointed at, and where a query looks.
function lineTexts({ labels, first, rows, cols }, { top, left }, step) {
  const text = (token, x, n, anchor) => s("text", {
    x, y: (n + 0.5) * step + 4, "text-anchor": anchor, "font-size": 11, style: LETTERS,
  }, short(labels[token], 16));
  const asks = Array.from({ length: rows }, (_, row) => text(first + top + row, SIDE - 5, row, "end"));
  const answers = Array.from({ length: cols }, (_, col) => text(left + col, SIDE + GAP + 5, col, "start"));
  const backs = answers.map((_, col) =>
    s("rect", { x: SIDE + GAP, y: col * step, width: SIDE + 55, height: step - 1, fill: "none" }));
  function mark(row, col, seen) {
    const ground = (other) => (row !== null ? blues(0.5 * Math.sqrt(seen(row, other))) : other === col ? "#ffe9d6" : "none");
    backs.forEach((back, other) => back.setAttribute("fill", ground(other)));
    asks.forEach((node, other) => node.setAttribute("font-weight", other === row ? "bold" : "normal"));
  }
  return { asks, answers, backs, mark };
}

// A line for each weight. mark(pairs) lifts some of them out, with their weights at the side of the sources or queries.
function lineStrokes({ rows, cols }, seen, step) {
  const y = (n) => (n + 0.5) * step;
  const stroke = (row, col, colour, opacity) => s("line", {
    x1: SIDE, y1: y(row), x2: SIDE + GAP, y2: y(col), stroke: colour,
    "stroke-width": Math.max(0.6, 8 * seen(row, col)), "stroke-opacity": opacity,
  });
  const all = s("g", {}), marked = s("g", {});
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      if (seen(row, col) >= 0.02) all.append(stroke(row, col, COLOURS.BLUE, 0.15 + 0.6 * seen(row, col)));
    }
  }
  function mark(pairs, atSources) {
    const number = (row, col) => s("text", {
      x: atSources ? 2 * SIDE + GAP + 20 : 2, y: y(atSources ? col : row) + 4, "font-size": 11,
    }, digits(seen(row, col), 3));
    all.setAttribute("opacity", 0.15);
    marked.replaceChildren(
      ...pairs.filter((pair) => seen(...pair) >= 0.002).map((pair) => stroke(...pair, COLOURS.RED, 0.85)),
      ...pairs.filter((pair) => seen(...pair) >= 0.02).map((pair) => number(...pair)));
  }
  return { el: [all, marked], mark };
}

// ---- the parts: one cell explained -----------------------------------------------------------------------

// `said` is the sentence, `el` the arithmetic; look(i, j) goes to another cell.
function explanation(given, state, look) {
  const said = readout("", "readout");
  const el = h("div", { class: "panes", "data-testid": "arithmetic", style: { marginTop: "6px" } });
  function update() {
    const [i, j] = state.at, { chosen } = state;
    said.say(...sentence(given, chosen, i, j));
    el.replaceChildren(...(chosen.numbers
      ? [productBars(given, chosen, i, j), steps(given, chosen, i, j), rowBars(given, chosen, i, j, look)] : []));
  }
  return { said, el, update };
}

function productBars({ channels, scale }, { numbers, score }, i, j) {
  const width = 240, half = 46, bar = width / channels;
  if (numbers.scores) {
    return h("div", { class: "quiet", style: { width: `${width}px` } },
      "The keys of earlier tokens came from the cache and are not in this trace, so q·k cannot be taken apart into its products; the score is the recorded one.");
  }
  const parts = products(numbers, channels, i, j), largest = Math.max(...parts.map(Math.abs), 1e-9);
  const best = parts.map((_, c) => c).sort((a, b) => Math.abs(parts[b]) - Math.abs(parts[a])).slice(0, 3);
  return h("div", { style: { width: `${width}px` } },
    h("div", {}, h("b", {}, "1. q · k"), `: ${channels} products`),
    s("svg", {
      width, height: 2 * half, role: "img",
      "aria-label": `${channels} products that add up to ${digits(score(i, j) / scale)}`,
    }, parts.map((part, c) => {
      const size = (Math.abs(part) / largest) * (half - 3);
      return s("rect", {
        x: c * bar, width: Math.max(bar - 0.6, 0.6), y: part > 0 ? half - size : half, height: Math.max(size, 0.3),
        fill: part > 0 ? COLOURS.BLUE : COLOURS.ORANGE,
      }, s("title", {}, `channel ${c}: ${digits(part)}`));
    }), s("line", { x1: 0, x2: width, y1: half, y2: half, stroke: COLOURS.GREY, "stroke-width": 0.7 })),
    h("div", { class: "quiet" },
      `largest: ${best.map((c) => `channel ${c} ${parts[c] > 0 ? "+" : ""}${digits(parts[c])}`).join(", ")}`));
}

// From q · k to the weight, a line a step.
function steps(given, chosen, i, j) {
  const { labels, first, channels, scale, factor } = given, { exps, largest, where, sum } = chosen.softmax(i);
  const score = chosen.score(i, j), hidden = !maySee(given, i, j), masked = hidden ? -Infinity : score;
  const root = Math.abs(scale * Math.sqrt(channels) - 1) < 1e-3 ? `1/√${channels} = ` : "";
  const left = { textAlign: "left", whiteSpace: "nowrap" };
  const line = (name, note, value) => h("tr", {}, h("td", { style: left }, name),
    h("td", { class: "quiet", style: left }, note), h("td", { class: "mono" }, value));
  return h("table", { "data-testid": "steps", style: { fontVariantNumeric: "tabular-nums" } }, h("tbody", {},
    line("q · k", "sum of the products", digits(score / scale)),
    line("× scale", `${root}${factor}`, digits(score)),
    line("mask", !hidden ? "visible, unchanged" : j > first + i ? "hidden: in the future" : "hidden from this query",
      digits(masked)),
    line("− row's largest", `${digits(largest)}, at “${short(labels[where])}”`, digits(masked - largest)),
    line("exp", "", digits(exps[j], 3)),
    line("÷ row's sum", `of all exps: ${digits(sum, 3)}`, ""),
    h("tr", { style: { borderTop: "1px solid #b5b5b5", fontWeight: "bold" } },
      h("td", { style: { textAlign: "left" } }, "weight"), h("td", {}), h("td", { class: "mono" }, digits(exps[j] / sum, 3)))));
}

// The weights of the whole row, and its largest as buttons.
function rowBars({ labels, first, sources }, chosen, i, j, look) {
  const { exps, sum } = chosen.softmax(i), width = 540, height = 60, bar = width / sources;
  const path = (marked) => Array.from(exps, (value, n) => ((n === j) === marked && value > 0
    ? `M${((n + 0.5) * bar).toFixed(2)} ${height}V${(height - Math.max(0.5, (value / sum) * (height - 4))).toFixed(2)}` : "")).join("");
  const stroke = (marked, colour, least) =>
    s("path", { d: path(marked), stroke: colour, "stroke-width": Math.max(least, bar * 0.8), fill: "none" });
  const order = Array.from(exps.keys()).sort((a, b) => exps[b] - exps[a]).slice(0, 3).filter((n) => exps[n] > 0);
  return h("div", { style: { flex: "1 1 100%", maxWidth: `${width}px` } },
    h("div", {}, h("b", {}, "2. softmax"), `: the whole row of “${short(labels[first + i])}” adds up to 1`),
    s("svg", { viewBox: `0 0 ${width} ${height + 12}`, width: "100%", role: "img", "aria-label": "the weights of the row" },
      stroke(false, COLOURS.BLUE, 0.5), stroke(true, COLOURS.RED, 2),
      s("line", { x1: 0, x2: width, y1: height, y2: height, stroke: COLOURS.GREY, "stroke-width": 0.7 }),
      s("path", { d: `M${(j + 0.5) * bar} ${height + 2}l4 7h-8z`, fill: COLOURS.RED })),
    h("div", { class: "quiet" }, "largest: ", order.map((n, place) => h("button", {
      type: "button", style: { margin: "2px 6px 0 0", fontSize: "11px" }, "data-testid": `largest-${place}`,
      onclick: () => look(i, n),
    }, `“${short(labels[n])}” (${n}) ${digits(exps[n] / sum, 3)}`))));
}

// Where the numbers come from, or why there are none.
function statusLine(given, state) {
  const el = h("div", { class: "quiet", "data-testid": "status", style: { margin: "3px 0 6px" } });
  function update(problem = "") {
    const { layer, head, chosen: { numbers } } = state;
    const differs = numbers && (numbers.differs || given.differs.includes(`${layer} ${head}`));
    el.textContent = origin(given, state, problem);
    if (differs) el.textContent += " The weights in the trace are different ones: they are not the softmax of these numbers.";
  }
  return { el, update };
}

// ---- all together ----------------------------------------------------------------------------------------

function draw({ data, el, ask }) {
  const given = unpacked(data), state = beginning(given), known = new Map(); // "layer head" → its numbers
  const controls = headControls(given, state, go, (on) => { state.lines = on; large.update(); });
  const sliders = windowControls(given, state, move), whole = wholeText(given, state, move);
  const pictures = headPictures(given, state, go), ranks = ranking(given, state, go);
  const cell = explanation(given, state, look), large = largePicture(given, state, cell.update);
  const status = statusLine(given, state);
  let timer = null;

  function go(layer, head) {
    Object.assign(state, { layer, head });
    for (const part of [controls, pictures, whole, ranks]) part.update();
    showNumbers();
    clearTimeout(timer);
    if (!state.alone && !state.chosen.numbers?.fine) timer = setTimeout(askKernel, 60); // not for every step of a slider
  }
  function showNumbers() {
    const { layer, head } = state;
    state.chosen = headOf(given, numbersOf(given, known, layer, head), thumbnailOf(given, layer, head));
    large.update();
    status.update();
  }
  async function askKernel() {
    const { layer, head } = state, { numbers, alone, problem } = await fromKernel(ask, layer, head);
    if (numbers) known.set(`${layer} ${head}`, numbers);
    if (!problem) state.alone = alone;
    if (layer !== state.layer || head !== state.head) return;
    if (numbers) showNumbers(); else status.update(problem);
  }
  function move(top, left) {
    state.top = clamp(top, 0, given.queries - given.rows);
    state.left = clamp(left, 0, given.sources - given.cols);
    sliders.update();
    whole.follow();
    if (!inWindow(given, state)) state.at = null;
    large.update();
  }
  function look(i, j) {
    state.at = [i, j];
    move(state.top, inWindow(given, state) ? state.left : j - Math.floor(given.cols / 2));
  }

  el.append(...layout(given, { controls, sliders, whole, pictures, ranks, large, cell, status }));
  go(state.layer, state.head);
}

function layout({ long }, { controls, sliders, whole, pictures, ranks, large, cell, status }) {
  const left = h("div", { style: { width: "240px" } }, pictures.el, long ? whole.el : null, ranks.el);
  const right = h("div", { style: { flex: "1 1 460px", minWidth: "0" } }, large.el, cell.said, status.el, cell.el);
  return [controls.el, long ? sliders.el : "", h("div", { class: "panes" }, left, right)];
}

// A head's numbers in float32; `alone` is true when there is no kernel to give them.
async function fromKernel(ask, layer, head) {
  let parts;
  try { parts = await ask({ layer, head }); } catch (error) { return { problem: error.message }; }
  if (parts === null) return { alone: true };
  const tensors = Object.entries(parts.tensors).map(([name, part]) => [name, unpack(part).values]);
  return { alone: false, numbers: { fine: true, differs: parts.differs, ...Object.fromEntries(tensors) } };
}
