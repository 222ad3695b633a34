// Loss, learning rate and gradient norm of training runs; rows may still come in.

function draw({ data, el }) {
  let runs = data.runs, by = "step", weight = runs.some(({ loss }) => loss.length >= 60) ? 0.9 : 0, at = null, plots = [];
  const NAMES = { loss: "loss, nats a token", learning_rate: "learning rate", gradient_norm: "gradient norm" };
  const colour = (i) => MARKS[i % MARKS.length][2];
  const panes = h("div", { class: "panes" }), legend = h("div", { class: "quiet", "data-testid": "legend" });
  const details = readout();
  const axis = select("by", [["step", "step"], ["tokens", "tokens"]], by, (value) => { by = value; at = null; show(); }, "by");
  el.append(h("div", { class: "controls" },
    slider("smoothing", { min: 0, max: 0.99, step: 0.01, value: weight, format: (value) => value.toFixed(2), testid: "smoothing" }, (value) => { weight = value; show(); }),
    axis), panes, legend, details);
  show();
  return (next) => { runs = next.runs; show(); };

  // A running mean in which each step back counts `weight` times as much as the next.
  function smoothed(values) {
    let total = 0, count = 0;
    return values.map((value) => {
      if (value === null) return null;
      total = weight * total + value;
      count = weight * count + 1;
      return total / count;
    });
  }

  function show() {
    const counted = runs.length > 0 && runs.every(({ tokens }) => tokens.every((value) => value !== null));
    axis.style.display = counted ? "" : "none";
    if (!counted) by = "step";
    const focus = plots.findIndex(({ el: svg }) => svg === svg.getRootNode().activeElement);
    const more = ["learning_rate", "gradient_norm"].filter((curve) => runs.some((run) => run[curve].some((value) => value !== null)));
    plots = [plot("loss", 716, 270), ...more.map((curve) => plot(curve, 350, 150))];
    panes.replaceChildren(...plots.map(({ el: svg }) => svg));
    if (focus >= 0) plots[focus].el.focus({ preventScroll: true });
    const hold = runs.some(({ evaluations }) => evaluations.some(({ loss }) => loss !== undefined));
    legend.replaceChildren(...runs.map(({ name, rows }, i) => signKey(i, `${short(name, 40)} (${rows} rows)`)), ...(hold ? [key(COLOURS.INK, "held out", "┅")] : []));
    if (at !== null) say();
    else details.say(runs.some(({ rows }) => rows) ? "Point at a curve, or click a plot and use the arrow keys." : "No rows yet.");
  }

  function plot(curve, width, height) {
    const xs = runs.flatMap((run) => run[by]), held = (run) => (curve === "loss" ? run.evaluations.filter(({ loss }) => loss !== undefined && loss !== null) : []);
    const ys = [...runs.flatMap((run) => run[curve]), ...runs.flatMap((run) => held(run).map(({ loss }) => loss))].filter((value) => value !== null);
    const range = (values, zero) => {
      if (!values.length) return { low: 0, high: 1 };
      const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b)), margin = 0.04 * (high - low) || 0.1 * Math.abs(high) || 1;
      return { low: zero ? Math.min(0, low) : low - margin, high: high + margin };
    };
    const made = plotAxes({ width, height, testid: curve, label: `${NAMES[curve]} by ${by}`, left: 58,
      x: { ...range(xs, true), label: by }, y: { ...range(ys, curve !== "loss"), label: NAMES[curve] } });
    const line = (run, values, attrs) => {
      let pen = "M";
      const d = values.map((value, n) => {
        if (value === null) { pen = "M"; return ""; }
        const part = `${pen}${made.x(run[by][n]).toFixed(1)} ${made.y(value).toFixed(1)}`;
        pen = "L";
        return part;
      }).join("");
      return s("path", { d, fill: "none", "stroke-linejoin": "round", "stroke-linecap": "round", ...attrs });
    };
    runs.forEach((run, i) => {
      const smooth = curve !== "learning_rate" && weight > 0, shown = smooth ? smoothed(run[curve]) : run[curve];
      if (smooth) made.marks.append(line(run, run[curve], { stroke: colour(i), "stroke-opacity": 0.3 }));
      made.marks.append(line(run, shown, { stroke: colour(i), "stroke-width": 2, "data-testid": `line-${curve}` }));
      const end = shown.findLastIndex((value) => value !== null);
      if (end >= 0) made.marks.append(sign(i, made.x(run[by][end]), made.y(shown[end]), 5));
      const points = held(run).map((one) => [made.x(one[by]), made.y(one.loss)]);
      made.marks.append(s("path", { d: points.map(([px, py], n) => `${n ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join(""), fill: "none", stroke: colour(i), "stroke-dasharray": "4 3" }), ...points.map(([px, py]) => sign(i, px, py, 4)));
    });
    const here = s("line", { y1: made.bounds.top, y2: made.bounds.bottom, stroke: COLOURS.GREY, visibility: "hidden" });
    made.marks.append(here);
    const values = [...new Set(xs)].sort((a, b) => a - b);
    if (values.length) made.watch(values, (n) => { at = values[n]; say(); });
    made.mark = () => {
      if (at === null || !values.length) return;
      ["x1", "x2"].forEach((end) => here.setAttribute(end, made.x(at)));
      here.setAttribute("visibility", "visible");
    };
    return made;
  }

  // The point of a run that is nearest to the pointer's step, if the run came so far.
  function nearest(run) {
    const places = run[by];
    if (!places.length || at > places.at(-1) || at < places[0] && places[0] - at > at) return null;
    return places.reduce((best, place, n) => (Math.abs(place - at) < Math.abs(places[best] - at) ? n : best), 0);
  }

  function say() {
    for (const one of plots) one.mark();
    details.say(runs.map((run, i) => {
      const n = nearest(run), name = h("b", { style: { color: colour(i) === COLOURS.ORANGE ? COLOURS.INK : colour(i) } }, short(run.name, 40));
      if (n === null) return h("div", {}, name, ": no such step");
      const number = (value) => (value === null ? "not finite" : fourDigits(value)), tokens = run.tokens[n];
      const last = run.evaluations.filter((one) => one[by] <= run[by][n]).at(-1);
      const held = last && Object.entries(last).filter(([what]) => !["step", "tokens"].includes(what)).map(([what, value]) => `${what} ${number(value)}`).join(", ");
      return h("div", {}, name, `: step ${run.step[n]}${tokens === null ? "" : ` (${tokens.toLocaleString("en")} tokens)`}, loss ${number(run.loss[n])}`,
        weight > 0 ? ` (smoothed ${number(smoothed(run.loss)[n])})` : "",
        run.learning_rate[n] === null ? "" : `, learning rate ${number(run.learning_rate[n])}`,
        run.gradient_norm[n] === null ? "" : `, gradient norm ${number(run.gradient_norm[n])}`,
        held ? `; held out in step ${last.step}: ${held}` : "", ".");
    }));
  }
}
