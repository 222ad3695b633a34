// The explorer: the heads of a layer, one of them large (cells or lines), the way of one cell from q·k to its
// weight, and a ranking of all heads.

function draw({ data, el, ask }) {
  const labels = data.labels.map(visible);
  const { layers, heads, channels, scale } = data;
  const queries = data.queries, sources = labels.length, first = sources - queries; // of the query rows
  const WINDOW = 32; // tokens of a long text that the large picture shows
  const rows = queries > 40 ? WINDOW : queries, cols = sources > 40 ? WINDOW : sources;
  const cell = clamp(Math.floor(410 / Math.max(cols, rows)), 11, 34);
  const state = {
    layer: data.layer, head: data.head, pattern: "induction" in data.scores ? "induction" : "previous",
    lines: false, top: queries - rows, left: sources - cols, at: null,
  };
  const tokenName = (j) => `“${short(labels[j], 18)}” (${j})`;

  // ---- numbers -------------------------------------------------------------------------------------------

  const runs = Array.from({ length: queries }, () => []); // for each query the stretches of sources it may see
  const stretches = unpack(data.visible).values;
  for (let n = 0; n < stretches.length; n += 3) runs[stretches[n]].push([stretches[n + 1], stretches[n + 2]]);
  const maySee = (i, j) => runs[i].some(([from, to]) => j >= from && j < to);

  const exact = new Map(); // "layer head" → { queries, keys, fine } or { scores, fine }
  function numbers() {
    const name = `${state.layer} ${state.head}`;
    if (!exact.has(name)) {
      const group = `${state.layer} ${Math.floor((state.head * data.groups) / heads)}`;
      const part = (kind, where) => data.exact[`${kind} ${where}`];
      if (part("scores", name)) exact.set(name, { scores: unpack(part("scores", name)).values });
      else if (part("queries", name)) {
        exact.set(name, { queries: unpack(part("queries", name)).values, keys: unpack(part("keys", group)).values });
      }
    }
    return exact.get(name);
  }

  function products(i, j) {
    const { queries: q, keys: k } = numbers();
    return Array.from({ length: channels }, (_, c) => q[i * channels + c] * k[j * channels + c]);
  }

  function score(i, j) {
    const { queries: q, keys: k, scores } = numbers();
    if (scores) return scores[i * sources + j];
    let sum = 0;
    for (let c = 0, a = i * channels, b = j * channels; c < channels; c++) sum += q[a + c] * k[b + c];
    return sum * scale;
  }

  let softmaxes = new Map(); // of the chosen head: query → its row
  function softmax(i) {
    if (!softmaxes.has(i)) {
      const exps = new Float64Array(sources);
      let largest = -Infinity, where = 0, sum = 0;
      for (const [from, to] of runs[i]) {
        for (let j = from; j < to; j++) {
          exps[j] = score(i, j);
          if (exps[j] > largest) { largest = exps[j]; where = j; }
        }
      }
      for (const [from, to] of runs[i]) {
        for (let j = from; j < to; j++) { exps[j] = Math.exp(exps[j] - largest); sum += exps[j]; }
      }
      softmaxes.set(i, { exps, largest, where, sum });
    }
    return softmaxes.get(i);
  }

  const thumbnails = unpack(data.thumbnails), [, , high, wide] = thumbnails.shape;
  const thumbnail = (layer, head) =>
    thumbnails.values.subarray((layer * heads + head) * high * wide, (layer * heads + head + 1) * high * wide);
  function weight(i, j) { // exact where the numbers are here, else the largest of a block
    if (numbers()) { const row = softmax(i); return row.exps[j] / row.sum; }
    const y = Math.floor((i * high) / queries), x = Math.floor((j * wide) / sources);
    return (thumbnail(state.layer, state.head)[y * wide + x] / 255) ** 2;
  }
  const factor = Number(scale.toPrecision(4));
  const digits = (x, places = 2) => {
    if (x === -Infinity) return "−∞";
    if (x !== 0 && Math.abs(x) < 0.5 * 10 ** -places) return x.toExponential(1).replaceAll("-", "−");
    return x.toFixed(Math.abs(x) >= 1000 ? 0 : places).replace("-", "−");
  };

  // ---- controls ------------------------------------------------------------------------------------------

  const layerSlider = slider("layer", { min: 0, max: layers - 1, value: state.layer, testid: "layer" },
    (layer) => go(layer, state.head));
  const headSlider = slider("head", { min: 0, max: heads - 1, value: state.head, testid: "head" },
    (head) => go(state.layer, head));
  const lineToggle = toggle("lines instead of cells", false, (on) => { state.lines = on; drawLarge(); }, "lines");
  const span = (from, count) => `${from}–${from + count - 1}`;
  const topSlider = slider("queries", {
    min: 0, max: queries - rows, value: state.top, format: (x) => span(first + x, rows), testid: "queries",
  }, (top) => moveWindow(top, state.left));
  const leftSlider = slider("sources", {
    min: 0, max: sources - cols, value: state.left, format: (x) => span(x, cols), testid: "sources",
  }, (left) => moveWindow(state.top, left));

  // ---- the heads of the layer, as small pictures ---------------------------------------------------------

  const palette = Array.from({ length: 256 }, (_, n) => blues(n / 255).match(/\d+/g).map(Number));
  function paint(canvas, values) {
    canvas.width = wide;
    canvas.height = high;
    const pen = canvas.getContext("2d"), image = pen.createImageData(wide, high);
    for (let n = 0; n < values.length; n++) image.data.set([...palette[values[n]], 255], 4 * n);
    pen.putImageData(image, 0, 0);
  }

  const side = heads <= 12 ? 64 : heads <= 20 ? 48 : 36;
  const pictures = Array.from({ length: heads }, (_, head) => {
    const canvas = h("canvas", { style: { width: `${side}px`, height: `${side}px`, imageRendering: "pixelated" } });
    const box = h("button", {
      type: "button", "aria-label": `head ${head}`, "data-testid": `head-${head}`, onclick: () => go(state.layer, head),
      style: { padding: "2px 3px 3px", background: "#fff", lineHeight: "1.2", fontSize: "11px" },
    }, `${head}`, canvas);
    return { canvas, box };
  });
  const headsTitle = h("div", { class: "quiet" });
  const grid = h("div", {
    style: { display: "grid", gap: "4px", gridTemplateColumns: `repeat(${Math.min(heads, side === 64 ? 3 : 4)}, max-content)` },
  }, pictures.map(({ box }) => box));

  function drawHeads() {
    headsTitle.textContent = `all ${heads} heads of layer ${state.layer}`;
    pictures.forEach(({ canvas, box }, head) => {
      paint(canvas, thumbnail(state.layer, head));
      markHead(box, head);
    });
  }
  function markHead(box, head) {
    box.style.borderColor = head === state.head ? COLOURS.RED : "#d0d0d0";
    box.style.boxShadow = head === state.head ? `0 0 0 1px ${COLOURS.RED}` : "none";
    box.setAttribute("aria-pressed", head === state.head);
  }

  // ---- the whole text of a long input, to move the window in ---------------------------------------------

  const MAP = 200;
  const whole = h("canvas", { style: { width: `${MAP}px`, height: `${MAP}px`, imageRendering: "pixelated" } });
  const frame = h("div", { style: { position: "absolute", border: `2px solid ${COLOURS.RED}`, pointerEvents: "none" } });
  const overview = h("div", {
    "data-testid": "overview", style: { position: "relative", width: `${MAP}px`, border: "1px solid #d0d0d0", cursor: "crosshair", touchAction: "none" },
    onpointerdown: (event) => { overview.setPointerCapture(event.pointerId); jump(event); },
    onpointermove: (event) => { if (event.buttons) jump(event); },
  }, whole, frame);
  function jump(event) {
    const box = overview.getBoundingClientRect();
    moveWindow(Math.round(((event.clientY - box.top) / MAP) * queries - rows / 2),
      Math.round(((event.clientX - box.left) / MAP) * sources - cols / 2));
  }
  function moveWindow(top, left) {
    state.top = clamp(top, 0, queries - rows);
    state.left = clamp(left, 0, sources - cols);
    topSlider.set(state.top);
    leftSlider.set(state.left);
    placeFrame();
    if (!inWindow()) state.at = null;
    drawLarge();
  }
  const inWindow = () => state.at && state.at[0] >= state.top && state.at[0] < state.top + rows
    && state.at[1] >= state.left && state.at[1] < state.left + cols;
  function placeFrame() {
    const at = (part, all) => `${Math.floor((part / all) * MAP)}px`;
    Object.assign(frame.style, {
      top: at(state.top, queries), left: at(state.left, sources), height: at(rows, queries), width: at(cols, sources),
    });
  }

  // ---- one head large ------------------------------------------------------------------------------------

  const largeTitle = h("div", { "data-testid": "title", style: { fontWeight: "bold" } });
  const largeHint = h("div", { class: "quiet" });
  const large = h("div", { "data-testid": "large" });
  const status = h("div", { class: "quiet", "data-testid": "status", style: { margin: "3px 0 6px" } });

  function drawLarge() {
    if (!state.at) state.at = strongest();
    largeTitle.textContent = `layer ${state.layer}, head ${state.head}`;
    largeHint.textContent = state.lines
      ? "left: a token asks; right: where it looks (point at either side, or use the arrow keys)"
      : "a row asks, a column answers; grey is hidden (point at a cell, or click and use the arrow keys)";
    const focused = large.contains(document.activeElement);
    large.replaceChildren(state.lines ? lines() : cells());
    if (focused) large.firstChild.focus();
    explain();
  }

  function cells() {
    const map = heatmap({
      rows, cols, cell,
      value: (i, j) => (maySee(state.top + i, state.left + j) ? Math.sqrt(weight(state.top + i, state.left + j)) : null),
      rowLabels: labels.slice(first + state.top, first + state.top + rows).map((text) => short(text)),
      colLabels: labels.slice(state.left, state.left + cols).map((text) => short(text)),
      onhover: (i, j) => { state.at = [state.top + i, state.left + j]; explain(); },
      label: `attention of layer ${state.layer}, head ${state.head}: queries by sources`, testid: "map",
    });
    if (inWindow()) map.select(state.at[0] - state.top, state.at[1] - state.left);
    return map.el;
  }

  function lines() {
    const step = clamp(Math.floor(420 / Math.max(rows, cols)), 14, 24), gap = 170, side = 120;
    const all = s("g", {}), chosen = s("g", {});
    const y = (n) => (n + 0.5) * step, text = (n, x, anchor) =>
      s("text", { x, "text-anchor": anchor, "font-size": 11, style: "font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace" }, short(labels[n], 16));
    const stroke = (i, j, colour, opacity) => s("line", {
      x1: side, y1: y(i), x2: side + gap, y2: y(j), stroke: colour, "stroke-width": Math.max(0.6, 8 * weight(state.top + i, state.left + j)), "stroke-opacity": opacity,
    });
    const seen = (i, j) => maySee(state.top + i, state.left + j) ? weight(state.top + i, state.left + j) : 0;
    const strong = [];
    for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) if (seen(i, j) >= 0.02) strong.push([i, j]);
    all.append(...strong.map(([i, j]) => stroke(i, j, COLOURS.BLUE, 0.15 + 0.6 * seen(i, j))));
    const backs = Array.from({ length: cols }, (_, j) =>
      s("rect", { x: side + gap, y: j * step, width: side + 55, height: step - 1, fill: "none" }));
    const asks = Array.from({ length: rows }, (_, i) => text(first + state.top + i, side - 5, "end"));
    asks.forEach((node, i) => node.setAttribute("y", y(i) + 4));
    const answers = Array.from({ length: cols }, (_, j) => text(state.left + j, side + gap + 5, "start"));
    answers.forEach((node, j) => node.setAttribute("y", y(j) + 4));
    const picture = s("svg", {
      width: 2 * side + gap + 60, height: step * Math.max(rows, cols), tabindex: 0, role: "img", "data-testid": "line-picture",
      "aria-label": "lines from each token to those it looks at", style: "cursor: crosshair",
    }, backs, all, chosen, asks, answers);

    let now = "";
    function point(i, j) { // one of the two is null: all lines of a query, or all lines to a source
      if (now === `${i} ${j}`) return;
      now = `${i} ${j}`;
      const pairs = i !== null ? answers.map((_, other) => [i, other]) : asks.map((_, other) => [other, j]);
      chosen.replaceChildren(...pairs.filter(([a, b]) => seen(a, b) >= 0.002).map(([a, b]) =>
        stroke(a, b, COLOURS.RED, 0.85)), ...pairs.filter(([a, b]) => seen(a, b) >= 0.02).map(([a, b]) => i !== null
        ? s("text", { x: 2 * side + gap + 20, y: y(b) + 4, "font-size": 11 }, digits(seen(a, b), 3))
        : s("text", { x: 2, y: y(a) + 4, "font-size": 11 }, digits(seen(a, b), 3))));
      all.setAttribute("opacity", 0.15);
      backs.forEach((back, other) => back.setAttribute("fill", i !== null ? blues(0.5 * Math.sqrt(seen(i, other))) : other === j ? "#ffe9d6" : "none"));
      asks.forEach((node, other) => node.setAttribute("font-weight", other === i ? "bold" : "normal"));
      const best = pairs.reduce((a, b) => (seen(...b) > seen(...a) ? b : a));
      state.at = [state.top + best[0], state.left + best[1]];
      explain();
    }
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect(), n = Math.floor((event.clientY - box.top) / step);
      const asking = event.clientX - box.left < side + gap / 2;
      if (n >= 0 && n < (asking ? rows : cols)) point(asking ? n : null, asking ? null : n);
    });
    picture.addEventListener("keydown", (event) => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const [i] = now.split(" ");
      point(now === "" || i === "null" ? 0 : clamp(+i + by, 0, rows - 1), null);
    });
    if (inWindow()) point(state.at[0] - state.top, null);
    return picture;
  }

  // ---- the arithmetic of one cell ------------------------------------------------------------------------

  const spoken = readout("", "readout");
  const arithmetic = h("div", { class: "panes", "data-testid": "arithmetic", style: { marginTop: "6px" } });

  function explain() {
    const [i, j] = state.at, asks = tokenName(first + i), answers = tokenName(j);
    if (!numbers()) {
      const size = [queries / high, sources / wide].map(Math.ceil);
      spoken.say(`${asks} → ${answers}: ${maySee(i, j) ? `the weight is ${size[0] * size[1] > 1 ? "at most" : "about"} ${digits(weight(i, j), 3)}` : "hidden by the mask"}.`);
      arithmetic.replaceChildren();
      return;
    }
    const { exps, largest, where, sum } = softmax(i), hidden = !maySee(i, j);
    const whole = score(i, j), times = `× ${factor}`;
    const result = hidden
      ? `hidden by the mask, so exp(−∞) = 0: weight 0`
      : `exp(${digits(whole)} − ${digits(largest)}) = ${digits(exps[j], 3)}, ÷ ${digits(sum, 3)} = weight ${digits(exps[j] / sum, 3)}`;
    spoken.say(h("b", {}, `${asks} → ${answers}`), `: q·k = ${digits(whole / scale)}, ${times} = ${digits(whole)}; ${hidden ? "" : "visible; "}${result}.`);
    arithmetic.replaceChildren(productBars(i, j, whole / scale), steps(i, j, whole), rowBars(i, j));
  }

  function strongest() { // of the last row of the window
    const i = state.top + rows - 1;
    let best = state.left;
    for (let j = state.left; j < state.left + cols; j++) if (maySee(i, j) && weight(i, j) > weight(i, best)) best = j;
    return [i, best];
  }

  function productBars(i, j, total) {
    if (numbers().scores) {
      return h("div", { class: "quiet", style: { width: "240px" } },
        "The keys of earlier tokens came from the cache and are not in this trace, so q·k cannot be taken apart into its products; the score is the recorded one.");
    }
    const parts = products(i, j), largest = Math.max(...parts.map(Math.abs), 1e-9), width = 240, half = 46;
    const bar = width / channels;
    const best = parts.map((_, c) => c).sort((a, b) => Math.abs(parts[b]) - Math.abs(parts[a]));
    return h("div", { style: { width: `${width}px` } },
      h("div", {}, h("b", {}, "1. q · k"), `: ${channels} products`),
      s("svg", { width, height: 2 * half, role: "img", "aria-label": `${channels} products that add up to ${digits(total)}` },
        parts.map((part, c) => {
          const size = (Math.abs(part) / largest) * (half - 3);
          return s("rect", { x: c * bar, width: Math.max(bar - 0.6, 0.6), y: part > 0 ? half - size : half, height: Math.max(size, 0.3), fill: part > 0 ? COLOURS.BLUE : COLOURS.ORANGE },
            s("title", {}, `channel ${c}: ${digits(part)}`));
        }),
        s("line", { x1: 0, x2: width, y1: half, y2: half, stroke: COLOURS.GREY, "stroke-width": 0.7 })),
      h("div", { class: "quiet" }, `largest: ${best.slice(0, 3).map((c) => `channel ${c} ${parts[c] > 0 ? "+" : ""}${digits(parts[c])}`).join(", ")}`));
  }

  function steps(i, j, whole) {
    const { exps, largest, where, sum } = softmax(i), hidden = !maySee(i, j);
    const root = Math.abs(scale * Math.sqrt(channels) - 1) < 1e-3 ? `1/√${channels} = ` : "";
    const masked = hidden ? -Infinity : whole;
    const line = (name, note, value) => h("tr", {}, h("td", { style: { textAlign: "left", whiteSpace: "nowrap" } }, name),
      h("td", { class: "quiet", style: { textAlign: "left", whiteSpace: "nowrap" } }, note), h("td", { class: "mono" }, value));
    return h("table", { "data-testid": "steps", style: { fontVariantNumeric: "tabular-nums" } }, h("tbody", {},
      line("q · k", "sum of the products", digits(whole / scale)),
      line("× scale", `${root}${factor}`, digits(whole)),
      line("mask", hidden ? (j > first + i ? "hidden: in the future" : "hidden from this query") : "visible, unchanged", digits(masked)),
      line("− row's largest", `${digits(largest)}, at “${short(labels[where])}”`, digits(masked - largest)),
      line("exp", "", digits(exps[j], 3)),
      line("÷ row's sum", `of all exps: ${digits(sum, 3)}`, ""),
      h("tr", { style: { borderTop: "1px solid #b5b5b5", fontWeight: "bold" } }, h("td", { style: { textAlign: "left" } }, "weight"), h("td", {}), h("td", { class: "mono" }, digits(exps[j] / sum, 3)))));
  }

  function rowBars(i, j) {
    const { exps, sum } = softmax(i), width = 540, height = 60, bar = width / sources;
    const path = (chosen) => Array.from(exps, (value, n) => ((n === j) === chosen && value > 0
      ? `M${((n + 0.5) * bar).toFixed(2)} ${height}V${(height - Math.max(0.5, (value / sum) * (height - 4))).toFixed(2)}` : "")).join("");
    const stroke = (chosen, colour, least) => s("path", { d: path(chosen), stroke: colour, "stroke-width": Math.max(least, bar * 0.8), fill: "none" });
    const order = Array.from(exps.keys()).sort((a, b) => exps[b] - exps[a]).slice(0, 3).filter((n) => exps[n] > 0);
    return h("div", { style: { flex: "1 1 100%", maxWidth: `${width}px` } },
      h("div", {}, h("b", {}, "2. softmax"), `: the whole row of “${short(labels[first + i])}” adds up to 1`),
      s("svg", { viewBox: `0 0 ${width} ${height + 12}`, width: "100%", role: "img", "aria-label": "the weights of the row" },
        stroke(false, COLOURS.BLUE, 0.5), stroke(true, COLOURS.RED, 2),
        s("line", { x1: 0, x2: width, y1: height, y2: height, stroke: COLOURS.GREY, "stroke-width": 0.7 }),
        s("path", { d: `M${(j + 0.5) * bar} ${height + 2}l4 7h-8z`, fill: COLOURS.RED })),
      h("div", { class: "quiet" }, "largest: ", order.map((n, place) => h("button", {
        type: "button", style: { margin: "2px 6px 0 0", fontSize: "11px" }, "data-testid": `largest-${place}`,
        onclick: () => { state.at = [i, n]; moveWindow(state.top, inWindow() ? state.left : n - Math.floor(cols / 2)); },
      }, `“${short(labels[n])}” (${n}) ${digits(exps[n] / sum, 3)}`))));
  }

  // ---- all heads, by what they do ------------------------------------------------------------------------

  const options = Object.keys(data.scores).filter((name) => name !== "entropy").map((name) => [name, `to ${data.names[name]}`]);
  const words = {
    first: "mean weight on the very first token, where a head with nothing to do parks it",
    previous: "mean weight on the token before", itself: "mean weight on the token itself",
    induction: "mean weight on what followed the last time the same token stood here",
    sharp: "mean bits of a row: sharpest heads first", broad: "mean bits of a row: broadest heads first",
  };
  for (const option of options) if (option[0] === "induction") option[1] = "induction";
  const chooser = select("by", [...options, ["sharp", "lowest entropy"], ["broad", "highest entropy"]], state.pattern,
    (pattern) => { state.pattern = pattern; drawRanking(); }, "pattern");
  const meaning = h("div", { class: "quiet", style: { maxWidth: "230px", minHeight: "3em" } });
  const mapPlace = h("div"), list = h("div", { "data-testid": "ranking" }), pointed = h("div", { class: "quiet", style: { minHeight: "1.5em" } });
  const noCopies = "induction" in data.scores ? null
    : h("div", { class: "quiet", style: { maxWidth: "230px" } }, "No token occurs twice in this text, so there is no induction to see.");
  let headMap = null;

  function drawRanking() {
    const entropy = state.pattern === "sharp" || state.pattern === "broad";
    const table = data.scores[entropy ? "entropy" : state.pattern];
    const most = entropy ? Math.max(...table.flat(), 1e-9) : 1;
    const shown = (value) => (entropy ? `${value.toFixed(2)} bits` : value.toFixed(3));
    const order = table.flatMap((row, layer) => row.map((value, head) => ({ layer, head, value })))
      .sort((a, b) => (state.pattern === "sharp" ? a.value - b.value : b.value - a.value));
    meaning.textContent = words[state.pattern];
    headMap = heatmap({
      rows: layers, cols: heads, cell: clamp(Math.floor(Math.min(320 / layers, (heads <= 12 ? 96 : 200) / heads)), 5, 14),
      value: (layer, head) => table[layer][head] / most,
      rowLabels: Array.from({ length: layers }, (_, n) => (layers > 8 && n % 5 ? "" : `${n}`)),
      colLabels: Array.from({ length: heads }, (_, n) => (heads > 16 && n % 4 ? "" : `${n}`)),
      onhover: (layer, head) => { pointed.textContent = `layer ${layer}, head ${head}: ${shown(table[layer][head])}`; },
      onleave: () => { pointed.textContent = ""; headMap.select(state.layer, state.head); },
      onclick: (layer, head) => go(layer, head), label: "scores of all heads: layers by heads", testid: "head-map",
    });
    headMap.select(state.layer, state.head);
    mapPlace.replaceChildren(headMap.el);
    list.replaceChildren(...order.slice(0, 6).map(({ layer, head, value }, place) =>
      h("button", {
        type: "button", "data-testid": `rank-${place}`, onclick: () => go(layer, head),
        style: { display: "block", width: "118px", margin: "0 0 4px", textAlign: "left", fontSize: "11px", lineHeight: "1.3" },
      }, `layer ${layer}, head ${head}`, h("br"), h("b", {}, shown(value)))));
  }

  // ---- moving --------------------------------------------------------------------------------------------

  let alone = false, timer = null;
  function go(layer, head) {
    Object.assign(state, { layer, head });
    layerSlider.set(layer);
    headSlider.set(head);
    softmaxes = new Map();
    drawHeads();
    paint(whole, thumbnail(layer, head));
    headMap.select(layer, head);
    drawLarge();
    say();
    clearTimeout(timer);
    if (!alone && !numbers()?.fine) timer = setTimeout(askKernel, 60, layer, head); // not for every step of a slider
  }

  async function askKernel(layer, head) {
    let parts = null, problem = "";
    try { parts = await ask({ layer, head }); alone = parts === null; } catch (error) { problem = error.message; }
    if (parts) exact.set(`${layer} ${head}`, { fine: true, differs: parts.differs, ...Object.fromEntries(Object.entries(parts.tensors).map(([name, part]) => [name, unpack(part).values])) });
    if (layer !== state.layer || head !== state.head) return;
    softmaxes = new Map();
    drawLarge();
    say(problem);
  }

  function say(problem = "") {
    const now = numbers();
    const held = new Set(Object.keys(data.exact).filter((name) => !name.startsWith("keys")).map((name) => name.replace(/^\w+ /, "")));
    const block = `${Math.ceil(queries / high)} × ${Math.ceil(sources / wide)}`;
    const differs = now && (now.differs || data.differs.includes(`${state.layer} ${state.head}`));
    status.textContent = problem ? `The kernel could not answer: ${problem}`
      : !now && alone ? `This page has no room for the numbers of every head: of this one it holds a picture only, in which a cell is the largest of ${block} weights. It holds ${held.size} of ${layers * heads} heads exactly, the chosen layer and the top heads among them; in a running notebook all are exact.`
      : !now ? "Asking the kernel for the numbers of this head …"
      : now.fine ? "Computed here from the kernel's queries and keys, in float32."
      : "Computed here from queries and keys in 16 bits: the last digit may differ from the model's.";
    if (differs) status.textContent += " The weights in the trace are different ones: they are not the softmax of these numbers.";
  }

  const long = rows < queries || cols < sources;
  const left = h("div", { style: { width: "240px" } }, headsTitle, grid,
    long ? h("div", { style: { marginTop: "8px" } }, h("div", { class: "quiet" }, "the whole text: click to move the frame"), overview) : null,
    h("div", { style: { marginTop: "12px" } }, h("b", {}, "heads of all layers"), h("br"), chooser), meaning,
    h("div", { style: { display: "flex", flexWrap: "wrap", gap: "8px" } }, mapPlace, list), pointed, noCopies);
  const right = h("div", { style: { flex: "1 1 460px", minWidth: "0" } }, largeTitle, largeHint, large, spoken, status, arithmetic);
  el.append(
    h("div", { class: "controls" }, layerSlider, headSlider, lineToggle),
    long ? h("div", { class: "controls" }, h("span", { class: "quiet" }, `of ${sources} tokens, large:`), topSlider, leftSlider) : "",
    h("div", { class: "panes" }, left, right));
  drawRanking();
  placeFrame();
  go(state.layer, state.head);
}
