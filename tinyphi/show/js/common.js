// What all views share. A view's own file defines draw({ data, el, ask }) and is appended to this one. Where numbers
// still come in, draw returns a function that is called with the data as they are then.

// Okabe and Ito's colours, as in show/style.py.
const COLOURS = {
  BLUE: "#0072B2", ORANGE: "#E69F00", GREEN: "#009E73", PURPLE: "#CC79A7", RED: "#D55E00",
  INK: "#222222", GREY: "#767676", PALE: "#D9D9D9",
  TINTS: ["#D6EAF8", "#FCE8C3", "#D5F0E6", "#F6E1EC"],
};

const CSS = `
.tinyphi-view { background: #fff; color: #222; color-scheme: light; padding: 10px 12px; border-radius: 4px;
  font: 13px/1.45 "DejaVu Sans", Verdana, system-ui, sans-serif; max-width: 100%; box-sizing: border-box; overflow-x: auto; }
.tinyphi-view * { box-sizing: border-box; }
.tinyphi-view .mono, .tinyphi-view pre { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 12px; }
.tinyphi-view pre { margin: 0; white-space: pre-wrap; background: none; color: inherit; }
.tinyphi-view .controls { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: center; margin: 2px 0 6px; }
.tinyphi-view .panes { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.tinyphi-view label { display: inline-flex; gap: 6px; align-items: center; white-space: nowrap; }
.tinyphi-view input[type=range] { width: 150px; accent-color: #0072B2; margin: 0; }
.tinyphi-view output { min-width: 3.2em; font-variant-numeric: tabular-nums; }
.tinyphi-view button, .tinyphi-view select { font: inherit; color: #222; background: #f3f3f3; border: 1px solid #b5b5b5;
  border-radius: 3px; padding: 2px 8px; cursor: pointer; }
.tinyphi-view button:hover { background: #e6eef5; }
.tinyphi-view svg:focus:not(:focus-visible) { outline: none; }
.tinyphi-view :focus-visible { outline: 2px solid #0072B2; outline-offset: 1px; }
.tinyphi-view .readout { min-height: 3em; padding: 5px 8px; background: #f7f7f7; border-left: 3px solid #0072B2; }
.tinyphi-view .quiet { color: #595959; font-size: 12px; }
.tinyphi-view table { border-collapse: collapse; color: inherit; background: none; margin: 0; }
.tinyphi-view td, .tinyphi-view th { padding: 1px 8px; text-align: right; border: 0; background: none; color: inherit; }
.tinyphi-view canvas, .tinyphi-view svg { display: block; max-width: none; }
.tinyphi-view svg text { font-family: "DejaVu Sans", Verdana, sans-serif; fill: #222; }
`;

// Start a view in the element `place`; returns what draw returns.
function start(place, data, ask) {
  // The attribute keeps JupyterLab's own keys (arrows move between cells) away while the focus is in a view.
  const el = h("div", { class: "tinyphi-view", "data-lm-suppress-shortcuts": true });
  place.replaceChildren(h("style", {}, CSS), el);
  return draw({ data, el, ask });
}

// Rules for one kind of view, in which & stands for it. A notebook's views share its page, and must not dress each other.
function dress(el, name, rules) {
  el.classList.add(`tinyphi-${name}`);
  el.append(h("style", {}, rules.replaceAll("&", `.tinyphi-view.tinyphi-${name}`)));
}

function build(node, attrs, children) {
  for (const [name, value] of Object.entries(attrs || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style" && typeof value === "object") Object.assign(node.style, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// An HTML element: h("div", { class: "x", style: { color: "red" }, onclick: f }, "text", child).
const h = (tag, attrs, ...children) => build(document.createElement(tag), attrs, children);

// The same for SVG.
const s = (tag, attrs, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children);

// What Python's pack() made: { shape, values } with a typed array. float16 becomes Float32Array.
function unpack({ dtype, shape, base64 }) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  if (dtype === "uint8") return { shape, values: bytes };
  if (dtype === "float32") return { shape, values: new Float32Array(bytes.buffer) };
  if (dtype === "int32") return { shape, values: new Int32Array(bytes.buffer) };
  const halves = new Uint16Array(bytes.buffer), values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const bits = halves[i], exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    values[i] = bits & 0x8000 ? -size : size;
  }
  return { shape, values };
}

// A token's text with its white space made visible.
const visible = (text) =>
  text.replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/\r/g, "␍").replace(/[\p{C}\p{Z}]/gu,
    (letter) => `<U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`);

// The beginning of a long text; letters stay whole.
function short(text, most = 14) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

function mix(stops, x) {
  const place = clamp(Number.isFinite(x) ? x : 0, 0, 1) * (stops.length - 1);
  const left = Math.min(Math.floor(place), stops.length - 2), part = place - left;
  const channel = (i) => Math.round(stops[left][i] + part * (stops[left + 1][i] - stops[left][i]));
  return `rgb(${channel(0)},${channel(1)},${channel(2)})`;
}

// 0 … 1 → white to dark blue (matplotlib's "Blues", which the figures use).
const blues = (x) => mix(
  [[247, 251, 255], [222, 235, 247], [198, 219, 239], [158, 202, 225], [107, 174, 214],
    [66, 146, 198], [33, 113, 181], [8, 81, 156], [8, 48, 107]], x);

// −1 … 1 → orange, white, purple ("PuOr").
const diverging = (x) => mix(
  [[127, 59, 8], [224, 130, 20], [253, 184, 99], [247, 247, 247], [178, 171, 210], [128, 115, 172], [45, 0, 75]],
  (x + 1) / 2);

// Controls. Each returns its element; the `.set(value)` of a slider or toggle does not call `onchange`.
function slider(label, { min, max, step = 1, value, format = String, testid }, onchange) {
  const shown = h("output", {}, format(value));
  const input = h("input", { type: "range", min, max, step, value, "aria-label": label, "data-testid": testid });
  input.addEventListener("input", () => { shown.textContent = format(+input.value); onchange(+input.value); });
  const el = h("label", {}, label, input, shown);
  el.set = (next) => { input.value = next; shown.textContent = format(+input.value); };
  return el;
}

// options: [[value, words]].
function select(label, options, value, onchange, testid) {
  const input = h("select", { "aria-label": label, "data-testid": testid },
    options.map(([name, words]) => h("option", { value: name, selected: name === value }, words)));
  input.addEventListener("change", () => onchange(input.value));
  return h("label", {}, label, input);
}

const button = (label, onclick, testid) => h("button", { type: "button", onclick, "data-testid": testid }, label);

function toggle(label, value, onchange, testid) {
  const input = h("input", { type: "checkbox", checked: value, "data-testid": testid });
  input.addEventListener("change", () => onchange(input.checked));
  const el = h("label", {}, input, label);
  el.set = (next) => { input.checked = next; };
  return el;
}

// A button that moves value() on by `by` until it is pressed again, is at `most`, or the view is gone.
function player(words, { value, set, most, by = 1, every, testid }) {
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; made.textContent = `▶ ${words}`; };
  const step = () => (made.isConnected && value() < most ? set(Math.min(most, value() + by)) : stop());
  const made = button(`▶ ${words}`, () => {
    if (timer) return stop();
    if (value() >= most) set(0);
    made.textContent = "■ stop";
    timer = setInterval(step, every);
  }, testid);
  return made;
}

// What a colour stands for, to put into a legend.
const key = (colour, words, sign = "━") => h("span", { style: { marginRight: "14px", whiteSpace: "nowrap" } },
  h("span", { style: { color: colour, fontWeight: "bold" } }, `${sign} `), words);

// Colours with a shape each, for the points of a plot, as in show/style.py. From the seventh on they are hollow.
const MARKS = [["●", "○", COLOURS.BLUE, "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z"], ["■", "□", COLOURS.ORANGE, "M-.9 -.9H.9V.9H-.9Z"],
  ["▲", "△", COLOURS.GREEN, "M0 -1.1L1.1 .9H-1.1Z"], ["◆", "◇", COLOURS.PURPLE, "M0 -1.25L1.1 0L0 1.25L-1.1 0Z"],
  ["▼", "▽", COLOURS.RED, "M0 1.1L1.1 -.9H-1.1Z"], ["✚", "✛", COLOURS.INK, "M-.4 -1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z"]];

function sign(number, x, y, size, attrs = {}) {
  const [, , colour, d] = MARKS[number % MARKS.length], hollow = number >= MARKS.length;
  return s("path", { d, transform: `translate(${x} ${y}) scale(${size})`, fill: hollow ? "#fff" : colour, stroke: hollow ? colour : "#fff", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke", ...attrs });
}

function signKey(number, words) {
  const [full, hollow, colour] = MARKS[number % MARKS.length];
  return key(colour, words, number < MARKS.length ? full : hollow);
}

// A box for the details of what the pointer is on; screen readers hear it change.
function readout(text = "", testid = "readout") {
  const el = h("div", { class: "readout", role: "status", "aria-live": "polite", "data-testid": testid }, text);
  el.say = (...content) => el.replaceChildren(...content.flat().filter((child) => child !== null && child !== undefined));
  return el;
}

// A canvas with one cell for each (row, column). value(i, j) gives 0 … 1, or null for a cell that is masked.
// Arrow keys move where the pointer would.
function heatmap({
  rows, cols, cell = 14, value, colour = blues, rowLabels = null, colLabels = null,
  onhover = () => {}, onleave = () => {}, onclick = () => {}, label = "heat map", testid = null,
}) {
  const font = "11px 'DejaVu Sans Mono', Menlo, Consolas, monospace";
  const ratio = window.devicePixelRatio || 1;
  const canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": label, "data-testid": testid, style: { cursor: "crosshair" } });
  const still = h("canvas", {}); // the picture without the mark on the chosen cell, so that a move redraws little
  const pen = still.getContext("2d"), marker = canvas.getContext("2d");
  pen.font = font;
  const longest = (labels) => labels ? Math.ceil(Math.max(0, ...labels.map((text) => pen.measureText(text).width))) + 8 : 0;
  const left = longest(rowLabels), top = longest(colLabels);
  const width = left + cols * cell + 1, height = top + rows * cell + 1;
  canvas.width = still.width = width * ratio;
  canvas.height = still.height = height * ratio;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  let at = null;

  function redraw() {
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    const gap = cell >= 8 ? 1 : 0;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < cols; j++) {
        const x = value(i, j);
        pen.fillStyle = x === null ? "#f1f1f1" : colour(x);
        pen.fillRect(left + j * cell, top + i * cell, cell - gap, cell - gap);
      }
    }
    pen.fillStyle = COLOURS.INK;
    pen.font = font;
    pen.textBaseline = "middle";
    const every = Math.ceil(11 / cell);
    if (rowLabels) {
      pen.textAlign = "right";
      for (let i = 0; i < rows; i += every) pen.fillText(rowLabels[i], left - 5, top + (i + 0.5) * cell);
    }
    if (colLabels) {
      for (let j = 0; j < cols; j += every) {
        pen.save();
        pen.translate(left + (j + 0.5) * cell, top - 5);
        pen.rotate(-Math.PI / 2);
        pen.textAlign = "left";
        pen.fillText(colLabels[j], 0, 0);
        pen.restore();
      }
    }
    mark();
  }

  function mark() {
    marker.setTransform(1, 0, 0, 1, 0, 0);
    marker.drawImage(still, 0, 0);
    if (!at) return;
    marker.setTransform(ratio, 0, 0, ratio, 0, 0);
    marker.strokeStyle = COLOURS.RED;
    marker.lineWidth = 2;
    const side = Math.max(cell >= 8 ? cell - 1 : cell, 2);
    marker.strokeRect(left + at[1] * cell, top + at[0] * cell, side, side);
  }

  function move(i, j) {
    if (at && at[0] === i && at[1] === j) return;
    at = [i, j];
    mark();
    onhover(i, j);
  }

  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - left) / cell);
    const i = Math.floor((event.clientY - box.top - top) / cell);
    return i >= 0 && j >= 0 && i < rows && j < cols ? [i, j] : null;
  };
  canvas.addEventListener("pointermove", (event) => { const found = cellAt(event); if (found) move(...found); });
  canvas.addEventListener("pointerleave", () => onleave());
  canvas.addEventListener("click", (event) => { const found = cellAt(event); if (found) { move(...found); onclick(...found); } });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Enter" && at) onclick(...at);
    if (!step) return;
    event.preventDefault();
    const [i, j] = at || [0, 0];
    move(clamp(i + step[0], 0, rows - 1), clamp(j + step[1], 0, cols - 1));
  });
  redraw();
  return { el: canvas, redraw, select: (i, j) => { at = [i, j]; mark(); } };
}

// Horizontal bars of shares: [{ label, value, chosen, note, title }]; the chosen one is marked.
function bars(items, width) {
  return h("div", {}, items.map(({ label, value, chosen, note, title }) =>
    h("div", { title, class: "mono", style: { display: "flex", alignItems: "center", gap: "6px", height: "18px" } },
      h("span", { style: { width: "110px", textAlign: "right", overflow: "hidden", whiteSpace: "nowrap", textOverflow: "ellipsis", flex: "none", fontWeight: chosen ? "bold" : "normal" } }, label),
      h("span", { style: { width: `${width}px`, flex: "none" } },
        h("span", { style: {
          display: "block", height: "12px", width: `${clamp(value, 0, 1) * width}px`, minWidth: value > 0 ? "1px" : "0",
          background: chosen ? COLOURS.ORANGE : COLOURS.BLUE,
        } })),
      h("span", { style: { whiteSpace: "nowrap" } }, note))));
}

// A share as a percentage; `least` stands for what two decimals cannot show.
const percent = (p, least = "< 0.01 %") =>
  (p >= 0.0995 ? `${(100 * p).toFixed(1)} %` : p >= 5e-5 ? `${(100 * p).toFixed(2)} %` : least);

// A number as a reader likes it: four digits, and a true minus sign.
function fourDigits(value) {
  const size = Math.abs(value);
  const far = size !== 0 && (size < 1e-4 || size >= 1e7);
  return (value < 0 && size > 0 ? "−" : "") + (far ? size.toExponential(2) : String(+size.toPrecision(4)));
}

// Round numbers between the ends of an axis; on a logarithmic one the powers of ten.
function tickMarks({ low, high, log }, most = 6) {
  if (log) {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const every = Math.max(1, Math.ceil((last - first + 1) / most));
    const found = [];
    for (let power = first; power <= last; power += every) found.push(10 ** power);
    if (found.length > 1) return found;
  }
  const rough = (high - low) / most, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((part) => part * unit >= rough * 0.999);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place++) found.push(place * step);
  return found;
}

// The same for things that are counted from 0 to `last`: whole numbers only.
const wholeTicks = (last) => tickMarks({ low: 0, high: Math.max(1, last) }, 5)
  .filter((value) => Number.isInteger(value) && value <= last).map((value) => [value, String(value)]);

// A plot with axes, in which the caller draws. x and y: { low, high, log, label, ticks: [[value, text]], upright }.
// Returns { el, x(value), y(value) in pixels, marks: the group to draw in, watch }. watch(values, onpoint) calls
// onpoint(i, y) for the values[i] nearest to the pointer, and without y as the arrow keys move.
function plotAxes({ width, height, x, y, left = 52, bottom = 38, label = "plot", testid = null }) {
  const top = 8, right = 12, bounds = { left, right: width - right, top, bottom: height - bottom };
  const scale = (axis, from, to) => {
    const f = axis.log ? Math.log10 : (value) => value, low = f(axis.low), high = f(axis.high);
    const there = (value) => from + (f(value) - low) / (high - low) * (to - from);
    there.back = (pixel) => {
      const value = low + (pixel - from) / (to - from) * (high - low);
      return axis.log ? 10 ** value : value;
    };
    return there;
  };
  const px = scale(x, bounds.left, bounds.right), py = scale(y, bounds.bottom, bounds.top);
  const text = (at, words, more = {}) => s("text", { x: at[0], y: at[1], "font-size": 10, ...more }, words);
  const ticks = (axis, most) => axis.ticks || tickMarks(axis, most).map((value) => [value, fourDigits(value)]);
  const marks = s("g", {});
  const el = s("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img", "aria-label": label, "data-testid": testid,
  },
  ticks(y, Math.max(2, Math.floor(height / 40))).map(([value, words]) => [
    s("line", { x1: bounds.left, x2: bounds.right, y1: py(value), y2: py(value), stroke: "#ececec" }),
    text([bounds.left - 5, py(value) + 3.5], words, { "text-anchor": "end" })]).flat(),
  ticks(x, Math.max(3, Math.floor(width / 70))).map(([value, words]) => x.upright
    ? text([0, 0], words, { "text-anchor": "end", transform: `translate(${px(value) + 3.5} ${bounds.bottom + 5}) rotate(-90)` })
    : text([px(value), bounds.bottom + 14], words, { "text-anchor": "middle" })),
  s("path", { d: `M${bounds.left} ${bounds.top} V${bounds.bottom} H${bounds.right}`, fill: "none", stroke: COLOURS.GREY }),
  x.label ? text([(bounds.left + bounds.right) / 2, height - 5], x.label, { "text-anchor": "middle", "font-size": 11 }) : null,
  y.label ? text([0, 0], y.label, { "text-anchor": "middle", "font-size": 11, transform: `translate(11 ${(bounds.top + bounds.bottom) / 2}) rotate(-90)` }) : null,
  marks);

  function watch(values, onpoint) {
    let at = 0;
    const pixels = Array.from(values, px);
    el.addEventListener("pointermove", (event) => {
      const box = el.getBoundingClientRect(), where = (event.clientX - box.left) * width / box.width;
      at = pixels.reduce((best, pixel, i) => Math.abs(pixel - where) < Math.abs(pixels[best] - where) ? i : best, 0);
      onpoint(at, py.back((event.clientY - box.top) * height / box.height));
    });
    el.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      at = clamp(at + step, 0, values.length - 1);
      onpoint(at);
    });
  }
  return { el, x: px, y: py, marks, watch, bounds };
}
