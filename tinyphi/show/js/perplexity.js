// Perplexity in bands of positions, one line for each model or method.

function draw({ data, el }) {
  const { lines, trained } = data, all = lines.flatMap(({ bands }) => bands);
  const edges = [...new Set(all.flatMap(([start, end]) => [start, end]))].sort((a, b) => a - b);
  const known = all.map(([, , , value]) => value).filter((value) => value !== null);
  const [least, most] = known.length ? [Math.min(...known), Math.max(...known)] : [1, 2];
  const margin = 0.06 * (most - least) || 0.1 * most || 1;
  const y = data.log ? { low: least / 1.4, high: most * 1.4, log: true } : { low: Math.max(0, least - margin), high: most + margin };
  const plot = plotAxes({ width: 700, height: 320, testid: "perplexity", label: "perplexity by position",
    x: { low: edges[0], high: edges.at(-1), label: "position in the text, in tokens" }, y: { ...y, label: data.log ? "perplexity (log scale)" : "perplexity" } });
  const across = (value, attrs) => s("line", { x1: plot.x(value), x2: plot.x(value), y1: plot.bounds.top, y2: plot.bounds.bottom, ...attrs });
  const here = s("rect", { y: plot.bounds.top, height: plot.bounds.bottom - plot.bounds.top, fill: COLOURS.TINTS[0], visibility: "hidden" });
  const signs = lines.map(({ bands }, i) => {
    const colour = MARKS[i % MARKS.length][2], drawn = bands.filter(([, , , value]) => value !== null);
    const middles = drawn.map(([start, end, , value]) => [plot.x((start + end) / 2), plot.y(value)]);
    return [
      s("path", { d: middles.map(([px, py], n) => `${n ? "L" : "M"}${px} ${py}`).join(""), fill: "none", stroke: colour, "stroke-dasharray": "4 3" }),
      drawn.map(([start, end, , value]) => s("line", { x1: plot.x(start), x2: plot.x(end), y1: plot.y(value), y2: plot.y(value), stroke: colour, "stroke-width": 2.5 })),
      middles.map(([px, py]) => sign(i, px, py, 5))].flat();
  });
  plot.marks.append(here, ...edges.map((edge) => across(edge, { stroke: "#ececec" })), ...signs.flat(),
    ...(trained !== null && trained <= edges.at(-1) ? [across(trained, { stroke: COLOURS.INK, "stroke-width": 1.5, "stroke-dasharray": "6 3", "data-testid": "trained" })] : []));

  const bands = edges.slice(1).map((end, n) => [edges[n], end]);
  const number = (value) => (value === null ? "–" : fourDigits(+value.toPrecision(4)));
  plot.watch(bands.map(([start, end]) => (start + end) / 2), (n) => {
    const [start, end] = bands[n];
    here.setAttribute("x", plot.x(start));
    here.setAttribute("width", plot.x(end) - plot.x(start));
    here.setAttribute("visibility", "visible");
    const inside = lines.map(({ label, bands }) => [label, bands.find(([from, to]) => from <= start && end <= to)]);
    details.say(h("b", {}, `Positions ${start} – ${end - 1}`), trained !== null && start >= trained ? ", beyond the training: " : ": ",
      inside.map(([label, band]) => `${label} ${band ? `${number(band[3])} (${band[2]} tokens)` : "–"}`).join("; "), ".");
  });
  const details = readout("Point at a band, or click the plot and use the arrow keys.");
  el.append(plot.el, h("div", { class: "quiet" }, lines.map(({ label }, i) => signKey(i, short(label, 30))),
    trained !== null ? key(COLOURS.INK, `trained on ${trained} tokens`, "┆") : ""), details);
}
