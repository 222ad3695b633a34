// Who may see whom; pointing at a pair says the reason in words.

function draw({ data, el }) {
  const { shape: [rows, cols], values: seen } = unpack(data.mask);
  const reasons = unpack(data.reasons).values;
  const labels = data.labels.map(visible), first = cols - rows;
  const most = Math.max(rows, cols) > 64 ? 48 : Math.max(rows, cols); // of a long text, a window moves over the map
  const high = Math.min(rows, most), wide = Math.min(cols, most);
  const state = { top: rows - high, left: cols - wide };
  const kinds = data.kinds;
  const [SEEN, FUTURE, PADDING, SEGMENT, WINDOW, HIDDEN] = kinds.slice(1).map(([bit]) => bit);
  const kindOf = (i, j) => Math.max(1, kinds.findIndex(([bit]) => reasons[i * cols + j] & bit));

  const numbered = data.labels.every((text, n) => text === String(data.skipped + n));
  const name = (n) => `position ${data.skipped + n}${numbered ? "" : ` “${short(labels[n])}”`}`;
  const tokens = (n) => `${n} token${n === 1 ? "" : "s"}`;
  function because(i, j) {
    const bits = reasons[i * cols + j], back = first + i - j, why = [];
    const padding = [first + i, j].filter((n) => data.segments?.[n] === 0);
    if (bits & FUTURE) why.push(`it comes ${tokens(-back)} later, and nobody may look into the future`);
    if (bits & PADDING) why.push(`${padding.length === 2 ? "both are" : `${name(padding[0])} is`} padding`);
    if (bits & SEGMENT) why.push(`the one is in document ${data.segments[first + i]}, the other in document ${data.segments[j]}`);
    if (bits & WINDOW) why.push(`it is ${tokens(back)} back, and the window of ${data.window} counts the token itself, so it reaches ${data.window - 1} back`);
    if (bits & HIDDEN) why.push(`the mask hides it, though it is ${back === 0 ? "the token itself" : `an earlier token, ${back} back`}: nothing known here says why`);
    return why.join("; and ");
  }
  function say(i, j) {
    const shown = seen[i * cols + j], back = first + i - j, bits = reasons[i * cols + j];
    const asks = name(first + i), answers = back === 0 ? "itself" : name(j);
    const count = seen.subarray(i * cols, (i + 1) * cols).reduce((a, b) => a + b, 0);
    spoken.say(h("b", {}, `${asks} ${shown ? "may" : "may not"} see ${answers}`),
      bits & SEEN ? `, though it should not: ${because(i, j)}. `
        : shown ? (back === 0 ? ". " : `, ${tokens(back)} back. `) : `: ${because(i, j)}. `,
      h("span", { class: "quiet" }, count ? `It sees ${tokens(count)} in all.` : "It sees nothing at all: a softmax over nothing is not a number."));
  }

  const place = h("div"), spoken = readout("Point at a pair, or click one and use the arrow keys.");
  function show() {
    const map = heatmap({
      rows: high, cols: wide, cell: clamp(Math.floor(410 / wide), 8, 34),
      value: (i, j) => (reasons[(state.top + i) * cols + state.left + j] ? kindOf(state.top + i, state.left + j) : 0),
      colour: (kind) => kinds[kind][1],
      rowLabels: labels.slice(first + state.top, first + state.top + high).map((text) => short(text)),
      colLabels: labels.slice(state.left, state.left + wide).map((text) => short(text)),
      onhover: (i, j) => say(state.top + i, state.left + j), label: "mask: queries by sources", testid: "map",
    });
    place.replaceChildren(map.el);
    Object.assign(frame.style, {
      left: `${state.left * dot}px`, top: `${state.top * dot}px`, width: `${wide * dot}px`, height: `${high * dot}px`,
    });
  }

  // Of a long text: all of it in small, to move the frame in.
  const dot = 200 / cols; // pixels a cell
  const frame = h("div", { style: { position: "absolute", border: `2px solid ${COLOURS.INK}`, pointerEvents: "none" } });
  function overview() {
    const canvas = h("canvas", { width: cols, height: rows, style: { width: "200px", imageRendering: "pixelated" } });
    const pen = canvas.getContext("2d");
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < cols; j++) {
        pen.fillStyle = kinds[reasons[i * cols + j] ? kindOf(i, j) : 0][1];
        pen.fillRect(j, i, 1, 1);
      }
    }
    const go = (event) => {
      const box = canvas.getBoundingClientRect();
      state.top = clamp(Math.round((event.clientY - box.top) / dot - high / 2), 0, rows - high);
      state.left = clamp(Math.round((event.clientX - box.left) / dot - wide / 2), 0, cols - wide);
      topSlider.set(state.top);
      leftSlider.set(state.left);
      show();
    };
    return h("div", {}, h("div", { class: "quiet" }, "the whole map: click to move the frame"), h("div", {
      "data-testid": "overview", style: { position: "relative", width: "200px", cursor: "crosshair", touchAction: "none" },
      onpointerdown: go, onpointermove: (event) => { if (event.buttons) go(event); },
    }, canvas, frame));
  }

  const range = (from, count) => `${data.skipped + from}–${data.skipped + from + count - 1}`;
  const topSlider = slider("queries", { min: 0, max: rows - high, value: state.top, format: (x) => range(first + x, high), testid: "queries" },
    (x) => { state.top = x; show(); });
  const leftSlider = slider("sources", { min: 0, max: cols - wide, value: state.left, format: (x) => range(x, wide), testid: "sources" },
    (x) => { state.left = x; show(); });
  const long = high < rows || wide < cols;
  const legend = h("div", { "data-testid": "legend" }, kinds.filter(([, , , count]) => count).map(([, colour, words, count]) =>
    h("div", { style: { display: "flex", gap: "8px", alignItems: "center" } },
      h("span", { style: { width: "14px", height: "14px", background: colour, flex: "none" } }), `${words}: ${count}`)));
  el.append(h("div", {}, `a row asks, a column answers${data.skipped ? `; the last ${cols} tokens of a longer text` : ""}`),
    long ? h("div", { class: "controls" }, topSlider, leftSlider) : "",
    h("div", { class: "panes" }, place, h("div", { style: { flex: "1 1 260px" } }, legend, h("div", { style: { margin: "8px 0" } }, spoken), long ? overview() : null)));
  show();
}
