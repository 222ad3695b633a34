// A weight matrix: a map of its values, or of the size of its blocks, and how the values are distributed.

function draw({ data, el }) {
  const { shape: [rows, cols], values } = unpack(data.cells), [fullRows, fullCols] = data.shape;
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  let share = 1;
  const cell = clamp(Math.floor(Math.min(384 / cols, 384 / rows)), 3, 18);
  const tall = Math.max(1, Math.ceil(24 / (rows * cell))); // a vector is drawn several cells high
  const limit = () => share * largest;

  const details = readout("Point at the map, or at the histogram.");
  // The rows of block i, as torch's adaptive pooling takes them.
  const span = (i, blocks, full) => [Math.floor(i * full / blocks), Math.ceil((i + 1) * full / blocks) - 1];
  const range = ([first, last], name) => first === last ? `${name} ${first}` : `${name}s ${first} … ${last}`;
  const mixed = data.pooled ? blues : diverging, low = data.pooled ? 0 : -1;
  const table = Array.from({ length: 129 }, (_, i) => mixed(low + i / 128 * (1 - low))); // mixed once, not in every cell
  const map = heatmap({
    rows: rows * tall, cols, cell, testid: "map", label: "map of the weights", colour: (x) => table[Math.round((x - low) / (1 - low) * 128)],
    value: (i, j) => clamp(values[Math.floor(i / tall) * cols + j] / limit(), -1, 1),
    onhover: (i, j) => {
      const row = Math.floor(i / tall), value = values[row * cols + j];
      const place = `${range(span(row, rows, fullRows), "row")}, ${range(span(j, cols, fullCols), "column")}`;
      details.say(h("b", {}, place), data.pooled ? `: root mean square ${fourDigits(value)}` : `: ${fourDigits(value)}`,
        Math.abs(value) > limit() ? ", beyond the end of the colours." : ".");
    },
  });
  const legend = h("div", { class: "quiet", style: { display: "flex", gap: "6px", alignItems: "center", marginTop: "4px" } });
  const histogram = drawHistogram();
  el.append(
    h("div", { class: "controls" }, slider("colours end at", { min: -2, max: 0, step: 0.02, value: 0, format: (power) => fourDigits(10 ** power * largest), testid: "clip" },
      (power) => { share = 10 ** power; map.redraw(); update(); }),
    h("span", { class: "quiet" }, data.pooled ? `${fullRows} × ${fullCols}, in ${rows} × ${cols} blocks` : `${fullRows} × ${fullCols}`)),
    h("div", { class: "panes" }, h("div", {}, map.el, legend), histogram.el), details);
  update();

  function drawHistogram() {
    const [low, high] = data.edges, bins = data.counts.length, wide = (high - low) / bins, total = fullRows * fullCols;
    const plot = plotAxes({ width: 322, height: 260, left: 60, testid: "histogram", label: "how the values are distributed",
      x: { low, high, label: "value" }, y: { low: 0.7, high: Math.max(2, ...data.counts) * 1.5, log: true, label: "how many (log scale)" } });
    const bar = (count, i) => s("rect", { x: plot.x(low + i * wide), width: Math.max(0.5, plot.x(low + wide) - plot.x(low) - 0.5), y: plot.y(Math.max(0.7, count)), height: plot.bounds.bottom - plot.y(Math.max(0.7, count)), fill: COLOURS.BLUE });
    plot.watch(data.counts.map((_, i) => low + (i + 0.5) * wide), (i) => {
      plot.bars.forEach((one, k) => one.setAttribute("fill", k === i ? COLOURS.ORANGE : COLOURS.BLUE));
      details.say(h("b", {}, `${data.counts[i]} of ${total}`), ` values lie between ${fourDigits(low + i * wide)} and ${fourDigits(low + (i + 1) * wide)}: ${fourDigits(100 * data.counts[i] / total)} %.`);
    });
    plot.bars = data.counts.map(bar);
    return plot;
  }

  function update() {
    const [least, most] = data.edges, stops = table.filter((_, i) => i % 16 === 0);
    legend.replaceChildren(fourDigits(low * limit()), h("span", { style: { display: "inline-block", width: "180px", height: "10px", background: `linear-gradient(90deg, ${stops.join(",")})` } }),
      h("span", {}, `${fourDigits(limit())}  ${data.pooled ? "root mean square of a block" : "value"}`));
    // The colours of single values end at ±limit; those of blocks cannot be marked in a histogram of values.
    const marks = data.pooled ? [] : [-limit(), limit()].filter((x) => x > least && x < most).map((x) => s("line", { x1: histogram.x(x), x2: histogram.x(x), y1: histogram.bounds.top, y2: histogram.bounds.bottom, stroke: COLOURS.RED, "stroke-dasharray": "4 3" }));
    histogram.marks.replaceChildren(...histogram.bars, ...marks);
  }
}
