// Log-ratios of chosen and rejected answers, the loss of every pair for any β, and how both came about.

function draw({ data, el }) {
  const { values } = unpack(data.pairs), count = values.length / 2, numbers = Array.from({ length: count }, (_, i) => i);
  const chosen = (i) => values[2 * i], rejected = (i) => values[2 * i + 1], delta = numbers.map((i) => chosen(i) - rejected(i));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const mean = (f) => numbers.reduce((total, i) => total + f(i), 0) / count, right = numbers.filter((i) => delta[i] > 0).length;
  let beta = data.beta, pair = null, curve = null, dots = [];

  const [least, most] = data.betas.map(Math.log10);
  const slide = slider("β", { min: least, max: most, step: 0.01, value: Math.log10(beta), format: (value) => (+(10 ** value).toPrecision(2)).toString(), testid: "beta" },
    (value) => { beta = +(10 ** value).toPrecision(2); show(); });
  const panes = h("div", { class: "panes" }), totals = h("div", { role: "status", "aria-live": "polite", "data-testid": "totals" });
  const details = readout("Point at the right plot for a pair, or click it and use the arrow keys.");
  const log = data.log.length ? drawLog() : null;
  el.append(h("div", { class: "controls" }, slide, button(`β = ${data.beta}, as trained`, () => { beta = data.beta; slide.set(Math.log10(beta)); show(); }, "trained")),
    totals, panes, h("div", { class: "quiet" }, key(COLOURS.BLUE, "chosen", "■"), key(COLOURS.ORANGE, "rejected", "■"), key(COLOURS.RED, "the pair that is read", "○")), details, log);
  show();

  function show() {
    const focus = curve !== null && curve.el === curve.el.getRootNode().activeElement;
    panes.replaceChildren(histogram(), drawCurve());
    if (focus) curve.el.focus({ preventScroll: true });
    totals.replaceChildren(`${count} pairs: `, h("b", {}, percent(right / count, "0 %")), " prefer the chosen answer, at any β. At β = ", h("b", {}, beta),
      `: mean margin ${number(mean((i) => beta * delta[i]))}, mean σ(βΔ) ${percent(mean((i) => sigmoid(beta * delta[i])))}, loss `, h("b", {}, number(mean((i) => softplus(-beta * delta[i])))), ".");
    say();
  }

  function number(value) { return fourDigits(+value.toPrecision(4)); }

  function histogram() {
    const low = beta * values.reduce((a, b) => Math.min(a, b)), high = beta * values.reduce((a, b) => Math.max(a, b)), bins = 24, width = (high - low || 1) / bins;
    const counts = [chosen, rejected].map((f) => {
      const found = new Array(bins).fill(0);
      for (const i of numbers) found[clamp(Math.floor((beta * f(i) - low) / width), 0, bins - 1)]++;
      return found;
    });
    const plot = plotAxes({ width: 350, height: 230, testid: "histogram", label: "rewards of chosen and rejected answers",
      x: { low, high: low + bins * width, label: "reward β · log-ratio" }, y: { low: 0, high: 1.05 * Math.max(...counts.flat()), label: "answers" } });
    const boxes = counts.map((found, which) => found.map((tall, n) => {
      const wide = plot.x(low + width) - plot.x(low), part = wide / 2 - 0.5;
      return tall ? s("rect", { x: plot.x(low + n * width) + which * wide / 2, y: plot.y(tall), width: Math.max(1, part), height: plot.y(0) - plot.y(tall),
        fill: which ? COLOURS.ORANGE : COLOURS.BLUE }) : null;
    })).flat().filter(Boolean);
    plot.marks.append(...boxes);
    return plot.el;
  }

  // The loss by margin, every pair on it. Its slope, σ(−βΔ), is the weight with which a pair pulls.
  function drawCurve() {
    const reach = 1.05 * Math.max(4, ...delta.map((value) => beta * Math.abs(value)));
    curve = plotAxes({ width: 366, height: 230, testid: "curve", label: "loss by reward margin",
      x: { low: -reach, high: reach, label: "reward margin βΔ" }, y: { low: 0, high: softplus(reach), label: "loss −log σ(βΔ)" } });
    const along = Array.from({ length: 121 }, (_, n) => -reach + n * reach / 60);
    const zero = s("line", { x1: curve.x(0), x2: curve.x(0), y1: curve.bounds.top, y2: curve.bounds.bottom, stroke: COLOURS.GREY, "stroke-dasharray": "3 3" });
    dots = numbers.map((i) => s("circle", { cx: curve.x(beta * delta[i]).toFixed(1), cy: curve.y(softplus(-beta * delta[i])).toFixed(1), r: 3, fill: COLOURS.BLUE, "fill-opacity": 0.45 }));
    curve.marks.append(zero, s("path", { d: `M${along.map((x) => `${curve.x(x).toFixed(1)} ${curve.y(softplus(-x)).toFixed(1)}`).join("L")}`, fill: "none", stroke: COLOURS.INK }), ...dots);
    const sorted = [...numbers].sort((a, b) => delta[a] - delta[b]);
    curve.watch(sorted.map((i) => beta * delta[i]), (n) => { pair = sorted[n]; say(); });
    return curve.el;
  }

  function say() {
    dots.forEach((dot, i) => { dot.setAttribute("stroke", i === pair ? COLOURS.RED : "none"); dot.setAttribute("stroke-width", 2.5); });
    if (pair === null) return;
    const margin = beta * delta[pair];
    details.say(h("b", {}, `Pair ${pair}`), `: rewards ${number(beta * chosen(pair))} chosen, ${number(beta * rejected(pair))} rejected; margin ${number(margin)}, so σ(βΔ) = ${percent(sigmoid(margin))}, loss ${number(softplus(-margin))}. `,
      `It pulls with the weight β σ(−βΔ) = ${number(beta * sigmoid(-margin))}.`);
  }

  // Accuracy and mean margin of the batches, as the trainer logged them.
  function drawLog() {
    const steps = data.log.map(([step]) => step), told = readout("Point at a step of the training.", "log-readout"), last = steps.at(-1);
    const part = (which, label, colour) => {
      const all = data.log.map((row) => row[which]), low = Math.min(0, ...all), high = which === 1 ? 1 : Math.max(...all, 0.1);
      const plot = plotAxes({ width: 358, height: 150, testid: `log-${label}`, label: `${label} by step`, x: { low: Math.min(0, steps[0]), high: last > steps[0] ? last : steps[0] + 1, label: "step of the training" }, y: { low, high: high * 1.05, label } });
      plot.marks.append(s("path", { d: `M${data.log.map((row) => `${plot.x(row[0]).toFixed(1)} ${plot.y(row[which]).toFixed(1)}`).join("L")}`, fill: "none", stroke: colour, "stroke-width": 1.8 }));
      plot.watch(steps, (n) => told.say(h("b", {}, `Step ${steps[n]}`), `: accuracy ${percent(data.log[n][1], "0 %")}, margin ${number(data.log[n][2])}.`));
      return plot.el;
    };
    return h("div", {}, h("div", { class: "panes" }, part(1, "accuracy", COLOURS.BLUE), part(2, "margin", COLOURS.RED)), told);
  }
}
