// The population of a search by generation, what it has to beat, and the factors that were found.

function draw({ data, el }) {
  const { counts, baselines, factors, scale: [low, high] } = data, perplexities = unpack(data.perplexities).values;
  let begin = 0, least = Infinity;
  const found = counts.map((size) => Array.from(perplexities.subarray(begin, begin += size)));
  const best = found.map((values) => (least = Math.min(least, ...values)));
  const last = counts.length - 1, count = factors[0].row.length;

  const height = 290, inside = (value) => Math.min(value, high); // what is above the scale stands at its edge
  const left = plotAxes({ width: 292, height, testid: "population", label: "perplexity of all candidates by generation",
    x: { low: -0.6, high: last + 0.6, label: "generation", ticks: wholeTicks(last) }, y: { low, high, label: "perplexity" } });
  const one = plotAxes({ width: 118, height, left: 10, testid: "one", label: "the candidates of one generation",
    x: { low: -0.03, high: 1.03, label: "as they were tried", ticks: [] }, y: { low, high, ticks: [] } });
  // Within a generation the candidates stand side by side in the order in which they were tried.
  const places = (g) => found[g].map((value, k) => [(k + 0.5) / found[g].length, inside(value)]);
  const dots = (points, size) => s("path", { // a stroke of no length is a dot
    d: points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join(""), fill: "none", stroke: COLOURS.INK, "stroke-linecap": "round", "stroke-width": size, "stroke-opacity": 0.45,
  });
  const strip = s("rect", { y: left.bounds.top, height: left.bounds.bottom - left.bounds.top, fill: COLOURS.TINTS[0], "data-testid": "strip" });
  const across = ({ x, y, bounds }) => baselines.map(({ value }, i) => [
    s("line", { x1: bounds.left, x2: bounds.right, y1: y(inside(value)), y2: y(inside(value)), stroke: MARKS[i][2], "stroke-width": 1.5, "stroke-dasharray": "7 3" }),
    sign(i, bounds.right - 10 - 13 * i, y(inside(value)), 4.5)]).flat();
  left.marks.append(strip, dots(found.flatMap((_, g) => places(g).map(([x, y]) => [left.x(g + 0.6 * (x - 0.5)), left.y(y)])), 3), ...across(left),
    s("path", { d: `M${best.map((value, g) => `${left.x(g).toFixed(1)} ${left.y(inside(value)).toFixed(1)}`).join("L")}`, fill: "none", stroke: COLOURS.INK, "stroke-width": 1.8 }));

  const most = Math.max(...factors.flatMap(({ row }) => row)), every = Math.ceil(count / 12);
  const right = plotAxes({ width: 262, height, left: 44, testid: "factors", label: "factor of each pair",
    x: { low: -0.6, high: count - 0.4, label: "pair, fast to slow", ticks: wholeTicks(count - 1) }, y: { low: 0, high: 1.06 * most, label: "factor λ that slows it down" } });
  const here = s("line", { y1: right.bounds.top, y2: right.bounds.bottom, stroke: COLOURS.GREY, visibility: "hidden" });
  right.marks.append(here, ...factors.map(({ row, mark }, n) => [
    s("path", { d: `M${row.map((value, pair) => `${right.x(pair)} ${right.y(value)}`).join("L")}`, fill: "none", stroke: MARKS[mark % MARKS.length][2], "stroke-width": 1.3 }),
    row.map((value, pair) => ((pair - n) % every ? null : sign(mark, right.x(pair), right.y(value), 4)))]).flat(2).filter(Boolean));
  right.watch(factors[0].row.map((_, pair) => pair), (pair) => {
    ["x1", "x2"].forEach((end) => here.setAttribute(end, right.x(pair)));
    here.setAttribute("visibility", "visible");
    pairs.say(h("b", {}, `Pair ${pair}`), ": ", factors.map(({ label, row }) => `${label} × ${fourDigits(row[pair])}`).join("; "), ".");
  });

  const slide = slider("generation", { min: 0, max: last, value: last, testid: "generation" }, go);
  left.watch(found.map((_, g) => g), (g) => { slide.set(g); go(g); });
  const details = readout(), pairs = readout("Point at a pair, or click the right plot and use the arrow keys.", "pairs");
  const only = factors.filter(({ label }) => !baselines.some((one) => one.label === label));
  el.append(h("div", { class: "controls" }, slide), h("div", { class: "panes" }, left.el, one.el, right.el),
    h("div", { class: "quiet", style: { display: "flex", flexWrap: "wrap" } }, key(COLOURS.INK, "best so far"), key(COLOURS.TINTS[0], "this generation; its middle half", "■"),
      baselines.map(({ label, value }, i) => signKey(i, `${short(label, 20)} ${fourDigits(value)}${value > high ? ", above" : ""}`)), only.map(({ label, mark }) => signKey(mark, short(label, 20)))),
    details, pairs);
  go(last);

  function go(g) {
    const sorted = [...found[g]].sort((a, b) => a - b), size = sorted.length;
    const part = (share) => { const place = share * (size - 1), at = Math.floor(place); return sorted[at] + (place - at) * ((sorted[at + 1] ?? sorted[at]) - sorted[at]); };
    const [from, to] = [left.x(g - 0.5), left.x(g + 0.5)], ends = [0.25, 0.75].map((share) => one.y(inside(part(share))));
    strip.setAttribute("x", from);
    strip.setAttribute("width", to - from);
    one.marks.replaceChildren(...(size ? [s("rect", { x: one.bounds.left, width: one.bounds.right - one.bounds.left, y: ends[1], height: Math.max(1, ends[0] - ends[1]), fill: COLOURS.TINTS[0] })] : []),
      ...across(one), dots(places(g).map(([x, y]) => [one.x(x), one.y(y)]), 5));
    const beaten = baselines.filter(({ value }) => best[g] < value), ahead = baselines.filter(({ value }) => best[g] >= value);
    const names = (some) => some.map(({ label, value }) => `${short(label, 20)} (${fourDigits(value)})`).join(", ");
    details.say(h("b", {}, `Generation ${g}`), size ? [`: ${size} new ${size === 1 ? "candidate" : "candidates"}, from `, h("b", {}, fourDigits(part(0))), ` to ${fourDigits(part(1))}, the middle half from ${fourDigits(part(0.25))} to ${fourDigits(part(0.75))}, median ${fourDigits(part(0.5))}. `] : ": no new candidates. ",
      "Best so far ", h("b", {}, fourDigits(best[g])), beaten.length ? `, below ${names(beaten)}` : "", ahead.length ? `, not below ${names(ahead)}` : "", ".");
  }
}
