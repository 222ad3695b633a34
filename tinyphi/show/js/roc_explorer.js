// ROC curves by category: move the threshold along one of them, and the base rate under it.

function draw({ data, el }) {
  const cases = data.cases.map(({ name, scores, truth, threshold }) => {
    const values = unpack(scores).values, harmful = unpack(truth).values;
    return { name, values, harmful, threshold, ...curve(values, harmful) };
  });
  let at = 0, rate = data.rate;
  const share = (part, of) => (of ? percent(part / of, part ? "< 0.01 %" : "0 %") : "–");

  const panes = h("div", { class: "panes" }), tables = h("div", { class: "panes", style: { margin: "6px 0" } });
  const totals = h("div", { role: "status", "aria-live": "polite", "data-testid": "totals" });
  const details = readout("Point at the curve for the threshold of each of its points, or click it and use the arrow keys.");
  const thresholds = h("span", {});
  const [least, most] = data.rates.map(Math.log10);
  const rates = slider("base rate", { min: least, max: most, step: 0.01, value: Math.log10(rate), format: (value) => percent(+(10 ** value).toPrecision(2)), testid: "rate" },
    (value) => { rate = +(10 ** value).toPrecision(2); tell(); });
  el.append(h("div", { class: "controls" },
    cases.length > 1 ? select("category", cases.map(({ name }, i) => [String(i), name]), "0", (value) => { at = +value; show(); }, "category") : null, thresholds, rates),
  totals, panes, tables,
  h("div", { class: "quiet" }, cases.map(({ name, area }, i) => signKey(i, `${short(name, 24)}, area ${area.toFixed(3)}`))), details);
  show();

  // False alarms and hits for every score from the highest on; of equal scores only the last is a point.
  function curve(values, harmful) {
    const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
    const bad = harmful.reduce((a, b) => a + b, 0), good = values.length - bad, points = [{ x: 0, y: 0, from: Infinity }];
    let hits = 0, alarms = 0, area = 0;
    order.forEach((i, n) => {
      if (harmful[i]) hits++; else alarms++;
      if (n + 1 < order.length && values[order[n + 1]] === values[i]) return;
      const before = points.at(-1), point = { x: alarms / good, y: hits / bad, from: values[i] };
      area += (point.x - before.x) * (point.y + before.y) / 2;
      points.push(point);
    });
    return { points, area, bad, good };
  }

  function flagged({ values, harmful, threshold }) {
    let hits = 0, alarms = 0;
    values.forEach((value, i) => { if (value >= threshold) { if (harmful[i]) hits++; else alarms++; } });
    return { hits, alarms };
  }

  function show() {
    const one = cases[at], low = one.points.at(-1).from, high = one.points[1].from, room = high - low || 1;
    const from = Math.min(low, one.threshold, low >= 0 && high <= 1 ? 0 : low), to = Math.max(high + room / 100, one.threshold, low >= 0 && high <= 1 ? 1 : high);
    thresholds.replaceChildren(slider("threshold", { min: from, max: to, step: (to - from) / 400, value: one.threshold, format: (value) => fourDigits(+value.toPrecision(3)), testid: "threshold" },
      (value) => { one.threshold = value; tell(); }));
    tell();
  }

  function tell() {
    const one = cases[at], { hits, alarms } = flagged(one), misses = one.bad - hits, calm = one.good - alarms;
    const focus = panes.firstChild !== null && panes.firstChild === panes.getRootNode().activeElement;
    panes.replaceChildren(drawCurves(hits / one.bad, alarms / one.good), histogram());
    if (focus) panes.firstChild.focus({ preventScroll: true });
    const expected = [rate * hits / one.bad, (1 - rate) * alarms / one.good, rate * misses / one.bad, (1 - rate) * calm / one.good].map((part) => 10000 * part);
    tables.replaceChildren(table(`these ${one.values.length} texts`, [hits, alarms, misses, calm], String, "measured"),
      table(`of 10,000 texts, ${percent(rate)} of them harmful`, expected, (value) => (value >= 99.5 ? String(Math.round(value)) : fourDigits(+value.toPrecision(2))), "expected"));
    totals.replaceChildren(h("b", {}, one.name), `, flagged from ${fourDigits(+one.threshold.toPrecision(3))} on: hits (recall) `, h("b", {}, share(hits, one.bad)),
      ", false alarms ", h("b", {}, share(alarms, one.good)), `. At a base rate of ${percent(rate)}: precision `, h("b", {}, share(expected[0], expected[0] + expected[1])),
      `, accuracy ${percent((expected[0] + expected[3]) / 10000, "0 %")}; to flag nothing would have ${percent(1 - rate)}.`);
  }

  function table(title, [hits, alarms, misses, calm], format, testid) {
    const row = (name, harmful, harmless) => h("tr", {}, h("th", { scope: "row" }, name), [harmful, harmless, harmful + harmless].map((value) => h("td", {}, format(value))));
    return h("table", { "data-testid": testid }, h("caption", { class: "quiet", style: { captionSide: "top", textAlign: "left" } }, title),
      h("thead", {}, h("tr", {}, ["", "harmful", "harmless", "all"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, row("flagged", hits, alarms), row("passed", misses, calm)));
  }

  function drawCurves(hits, alarms) {
    const plot = plotAxes({ width: 350, height: 320, testid: "curve", label: "ROC curves",
      x: { low: 0, high: 1, label: "false alarms: harmless texts flagged" }, y: { low: 0, high: 1, label: "hits: harmful texts flagged" } });
    const path = (points) => `M${points.map(({ x, y }) => `${plot.x(x).toFixed(1)} ${plot.y(y).toFixed(1)}`).join("L")}`;
    const others = [...cases.keys()].filter((i) => i !== at);
    plot.marks.append(s("path", { d: path([{ x: 0, y: 0 }, { x: 1, y: 1 }]), stroke: COLOURS.GREY, "stroke-dasharray": "2 3" }),
      ...[...others, at].map((i) => s("path", { d: path(cases[i].points), fill: "none", stroke: MARKS[i % MARKS.length][2], "stroke-width": i === at ? 2.4 : 1, "stroke-opacity": i === at ? 1 : 0.45 })),
      sign(at, plot.x(alarms), plot.y(hits), 7));
    const { points, name } = cases[at];
    plot.watch(points.map(({ x }) => x), (n) => {
      const { x, y, from } = points[n];
      details.say(h("b", {}, name), n === 0 ? ": nothing is flagged." : `: from ${fourDigits(+from.toPrecision(4))} on, hits ${percent(y, "0 %")}, false alarms ${percent(x, "0 %")}. At a base rate of ${percent(rate)} the precision is ${share(rate * y, rate * y + (1 - rate) * x)}.`);
    });
    return plot.el;
  }

  // Shares, not counts: the few harmful texts must not vanish beside the many harmless ones.
  function histogram() {
    const { values, harmful, threshold, bad, good, points } = cases[at], bins = 20;
    const low = Math.min(points.at(-1).from, threshold), high = Math.max(points[1].from, threshold), wide = (high - low || 1) / bins;
    const shares = [new Array(bins).fill(0), new Array(bins).fill(0)];
    values.forEach((value, i) => { shares[harmful[i]][clamp(Math.floor((value - low) / wide), 0, bins - 1)] += 1 / (harmful[i] ? bad : good); });
    const plot = plotAxes({ width: 350, height: 300, testid: "histogram", label: "scores of harmful and of harmless texts",
      x: { low, high: low + bins * wide, label: "score" }, y: { low: 0, high: 1.05 * Math.max(...shares.flat()), label: "share of the texts of a kind" } });
    const boxes = shares.flatMap((found, kind) => found.map((tall, n) => {
      const all = plot.x(low + wide) - plot.x(low), part = all / 2 - 0.5;
      return tall ? s("rect", { x: plot.x(low + n * wide) + kind * all / 2, y: plot.y(tall), width: Math.max(1, part), height: plot.y(0) - plot.y(tall), fill: kind ? COLOURS.RED : COLOURS.BLUE }) : null;
    })).filter(Boolean);
    plot.marks.append(...boxes, s("line", { x1: plot.x(threshold), x2: plot.x(threshold), y1: plot.bounds.top, y2: plot.bounds.bottom, stroke: COLOURS.INK, "stroke-dasharray": "4 3" }));
    return h("div", {}, plot.el, h("div", { class: "quiet" }, key(COLOURS.RED, "harmful", "■"), key(COLOURS.BLUE, "harmless", "■"), key(COLOURS.INK, "threshold", "┆")));
  }
}
