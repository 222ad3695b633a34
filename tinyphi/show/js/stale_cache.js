// What stale keys do to a query, by pair and by position, while the query moves on and leaves them behind.

const COLUMNS = 64, MOST_ROWS = 64, SAMPLES = 64, GOLDEN = (Math.sqrt(5) - 1) / 2;

function draw({ data, el }) {
  const { tokens } = data, [before, after] = [data.before, data.after].map((given) => unpack(given).values);
  const count = before.length, rows = Math.min(count, MOST_ROWS), columns = Math.min(tokens, COLUMNS);
  const shown = Array.from({ length: rows }, (_, i) => Math.round(i * (count - 1) / Math.max(1, rows - 1)));
  const bins = Array.from({ length: columns }, (_, j) => [Math.floor(j * tokens / columns), Math.ceil((j + 1) * tokens / columns)]);
  const samples = bins.map(([from, to]) => spread(from, to));
  let since = 0, errors = [], means = [];

  // What a pair adds to the product of the query and the key at a position, if that is turned as the query is, or stale.
  const right = (pair, key) => Math.cos((tokens + since - key) * after[pair]);
  const stale = (pair, key) => Math.cos((tokens + since) * after[pair] - key * before[pair]);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const ofAll = (cosine, distance) => mean(Array.from(after, (_, pair) => cosine(pair, tokens + since - distance)));
  const isStale = (distance) => distance > since; // the `since` keys next to the query are right

  const cell = clamp(Math.floor(320 / Math.max(columns, rows)), 5, 24);
  const map = heatmap({
    rows, cols: columns, cell, value: (i, j) => errors[i]?.[j] ?? null, colour: (error) => blues((error + 0.4) / 2.4), onhover: point,
    rowLabels: shown.map(String), colLabels: bins.map(([from]) => String(from)), label: "error of what each pair adds: pairs by key positions", testid: "map",
  });
  const furthest = 2 * tokens, distances = [...new Set(Array.from({ length: 181 }, (_, i) => Math.round(furthest ** (i / 180))))];
  const plot = plotAxes({ width: 345, height: 300, testid: "curves", label: "mean of all pairs, right and stale",
    x: { low: 1, high: furthest, log: true, label: "distance (tokens, log scale)" }, y: { low: -0.45, high: 1.05, label: "mean of all pairs" } });
  const line = (values, attrs) => s("path", { fill: "none", ...attrs, d: `M${values.map((value, i) => `${plot.x(distances[i]).toFixed(1)} ${plot.y(Math.max(value, -0.45)).toFixed(1)}`).join("L")}` });
  const upright = (attrs) => s("line", { y1: plot.bounds.top, y2: plot.bounds.bottom, ...attrs });
  const chosen = upright({ stroke: COLOURS.GREY, visibility: "hidden" }), edge = upright({ stroke: COLOURS.INK, "stroke-dasharray": "2 3" });
  const curves = s("g", {});
  plot.marks.append(edge, chosen, curves);
  plot.watch(distances, (i) => at(distances[i]));

  const summary = h("div", { "data-testid": "summary", style: { margin: "4px 0", minHeight: "3em", maxWidth: "720px" } });
  const details = readout("Point at the map or at the curves, or click one and use the arrow keys.");
  const later = [0, ...Array.from({ length: Math.floor(Math.log2(tokens)) + 1 }, (_, power) => 2 ** power)];
  el.append(
    h("div", { class: "controls" }, slider("tokens since the boundary", { min: 0, max: later.length - 1, value: 0, format: (step) => String(later[step]), testid: "since" }, (step) => { since = later[step]; update(); })),
    summary,
    h("div", { class: "panes" },
      h("div", {}, h("div", { class: "quiet" }, "pair ↓, position of the stale key →"), map.el,
        h("div", { class: "quiet" }, "error ", [0, 0.5, 1, 1.5, 2].map((error) => key(blues((error + 0.4) / 2.4), String(error), "■")))),
      h("div", { style: { width: "345px" } }, plot.el, h("div", { class: "quiet", style: { display: "flex", flexWrap: "wrap" } }, key(COLOURS.BLUE, "all keys right"), key(COLOURS.ORANGE, "as they are in the cache", "╍"), key(COLOURS.INK, "from here on stale", "┊")))),
    details);
  update();

  function update() {
    errors = shown.map((pair) => samples.map((keys) => mean(keys.map((key) => Math.abs(right(pair, key) - stale(pair, key))))));
    map.redraw();
    means = distances.filter((distance) => distance <= tokens + since).map((distance) => [ofAll(right, distance), ofAll(isStale(distance) ? stale : right, distance)]);
    curves.replaceChildren(line(means.map(([good]) => good), { stroke: COLOURS.BLUE, "stroke-width": 1.6 }),
      line(means.map(([, found]) => found), { stroke: COLOURS.ORANGE, "stroke-width": 1.6, "stroke-dasharray": "5 2" }));
    ["x1", "x2"].forEach((end) => edge.setAttribute(end, plot.x(since + 1)));
    summary.replaceChildren(`The query stands at ${tokens + since}; keys 0 – ${tokens - 1} are stale, `, since === 0 ? "all of them" : since === 1 ? "the one after them is right" : `the ${since} after them are right`,
      ". Mean error of a pair at a stale key: ", h("b", {}, mean(errors.flat()).toFixed(2)), `. The nearest stale key, at distance ${since + 1}: mean of all pairs `,
      h("b", {}, signed(ofAll(stale, since + 1))), `, right would be ${signed(ofAll(right, since + 1))}.`);
    details.say("Point at the map or at the curves, or click one and use the arrow keys.");
    chosen.setAttribute("visibility", "hidden");
  }

  function at(distance) {
    if (distance > tokens + since) return details.say(`Distance ${distance}: before the beginning of the text.`);
    mark(distance);
    details.say(h("b", {}, `Distance ${distance}`), `, key at ${tokens + since - distance}: mean of all pairs ${signed(ofAll(right, distance))}`,
      isStale(distance) ? [" if all is right, but ", h("b", {}, signed(ofAll(stale, distance))), " with the stale key."] : ". This key is right: it came after the boundary.");
  }

  function point(i, j) {
    const pair = shown[i], [from, to] = bins[j], key = (from + to - 1) >> 1;
    mark(tokens + since - key);
    details.say(h("b", {}, `Pair ${pair}, key at ${key}`), `: cosine ${signed(right(pair, key))} if all is right, `, h("b", {}, signed(stale(pair, key))), ` with the stale key. `,
      `Its hand is ${fourDigits(Math.abs(key * (before[pair] - after[pair])) / (2 * Math.PI))} turns from where it should be. Mean error of keys ${from} – ${to - 1}: ${errors[i][j].toFixed(2)}.`);
  }

  function mark(distance) {
    chosen.setAttribute("visibility", "visible");
    ["x1", "x2"].forEach((end) => chosen.setAttribute(end, plot.x(distance)));
  }
}

const signed = (value) => value.toFixed(2).replace("-", "−").replace("−0.00", "0.00");

// All positions of a bin, or some of them: steps of equal length would be in time with some of the pairs.
function spread(from, to) {
  const size = Math.min(to - from, SAMPLES);
  return Array.from({ length: size }, (_, k) => from + Math.floor((k + (k * GOLDEN) % 1) * (to - from) / size));
}
