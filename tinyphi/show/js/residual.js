// The residual stream from layer to layer: its norm at each token, and what attention and the MLP add to it.

function draw({ data, el }) {
  const labels = data.labels.map(visible), count = labels.length;
  const norms = unpack(data.norms), added = unpack(data.added).values, cosine = unpack(data.cosine).values;
  const steps = norms.shape[0], layers = steps - 1;
  const norm = (step, i) => norms.values[step * count + i];
  const part = (values, which, layer, i) => values[(which * layers + layer) * count + i];
  const parts = [["attention", COLOURS.GREEN], ["MLP", COLOURS.PURPLE]];
  let token = Math.min(1, count - 1), step = layers;

  const details = readout("Point at a line: it says what the layer added to that token. Click to keep the token.");
  const range = (values) => { const found = values.filter((value) => value > 0); return found.length ? [Math.min(...found) / 1.3, Math.max(...found) * 1.3] : [0.1, 10]; };
  const names = ["embed", ...Array.from({ length: layers }, (_, i) => String(i))];
  const every = Math.ceil(steps / 24), ticks = names.map((name, i) => [i, name]).filter((_, i) => i % every === 0);
  const [low, high] = range(Array.from(norms.values));
  const stream = plotAxes({ width: 720, height: 270, testid: "norms", label: "norm of the stream after each layer",
    x: { low: -0.5, high: steps - 0.5, ticks, label: "after layer" }, y: { low, high, log: true, label: "norm (log scale)" } });
  const [least, most] = range(Array.from(added));
  const more = { low: -0.5, high: layers - 0.5, label: "layer" };
  const lengths = plotAxes({ width: 353, height: 180, testid: "added", label: "length added, relative to the stream",
    x: more, y: { low: Math.max(least, 1e-4), high: most, log: true, label: "added ÷ stream" } });
  const directions = plotAxes({ width: 353, height: 180, testid: "cosine", label: "cosine of what is added with the stream",
    x: more, y: { low: -1, high: 1, label: "cosine with the stream" } });
  const tokenSlider = slider("token", { min: 0, max: count - 1, value: token, format: (i) => `${i} ${labels[i]}`, testid: "token" }, (i) => { token = i; update(); say(); });

  const points = Array.from({ length: steps }, (_, i) => i);
  let near = token;
  stream.watch(points, (at, y) => {
    step = at;
    near = y === undefined ? token : labels.reduce((best, _, i) =>
      Math.abs(Math.log(norm(at, i) / y)) < Math.abs(Math.log(norm(at, best) / y)) ? i : best, 0);
    update(near);
    say(near);
  });
  stream.el.addEventListener("click", () => { token = near; tokenSlider.set(token); update(); say(); });
  stream.el.addEventListener("pointerleave", () => update());
  for (const plot of [lengths, directions]) plot.watch(points.slice(0, layers), (at) => { step = at + 1; update(); say(); });

  const caption = h("div", { style: { margin: "6px 0 0" } });
  el.append(
    h("div", { class: "controls" }, tokenSlider, h("span", { class: "quiet" }, key(COLOURS.RED, "first token"), key("#9DB9CC", "other tokens"), key(COLOURS.INK, "chosen token"),
      data.tokens > count ? `the first ${count} of ${data.tokens} tokens` : "")),
    stream.el, caption,
    h("div", { class: "panes" }, lengths.el, directions.el), details);
  update();

  function say(i = token) {
    const head = h("b", {}, step ? `After layer ${step - 1}, token ${i} ${labels[i]}` : `Embedding of token ${i} ${labels[i]}`);
    const did = step === 0 ? [] : parts.map(([name], which) => {
      const size = part(added, which, step - 1, i), angle = part(cosine, which, step - 1, i);
      const sense = size < 0.01 ? "hardly anything" : angle < -0.7 ? "takes away what is there" : angle < -0.2 ? "partly against it"
        : angle <= 0.2 ? "a new direction" : angle <= 0.7 ? "partly along it" : "along it";
      return ` ${which ? "The MLP" : "Attention"} added ${fourDigits(size)} × the stream, cosine ${fourDigits(angle)}: ${sense}.`;
    });
    details.say(head, `: norm ${fourDigits(norm(step, i))}.`, ...did);
  }

  function line(i, attrs) {
    const d = "M" + points.map((at) => `${stream.x(at).toFixed(1)} ${stream.y(Math.max(low, norm(at, i))).toFixed(1)}`).join("L");
    return s("path", { d, fill: "none", ...attrs });
  }

  function update(pointed = null) {
    const rule = (plot, at) => s("line", { x1: plot.x(at), x2: plot.x(at), y1: plot.bounds.top, y2: plot.bounds.bottom, stroke: COLOURS.GREY, "stroke-dasharray": "3 3" });
    const shown = pointed ?? token;
    stream.marks.replaceChildren(rule(stream, step),
      ...labels.map((_, i) => line(i, i === 0 ? { stroke: COLOURS.RED, "stroke-width": 2 } : { stroke: "#9DB9CC", "stroke-width": 1 })),
      line(shown, { stroke: COLOURS.INK, "stroke-width": 2.2, "stroke-dasharray": shown === 0 ? "5 4" : null }),
      s("circle", { cx: stream.x(step), cy: stream.y(Math.max(low, norm(step, shown))), r: 4.5, fill: COLOURS.INK, stroke: "#fff" }));
    caption.replaceChildren("What each layer adds at token ", h("b", { class: "mono" }, `${shown} ${labels[shown]}`), ": ", ...parts.map(([name, colour]) => key(colour, name)));
    const ruled = step > 0 ? [0] : [];
    lengths.marks.replaceChildren(...ruled.map(() => rule(lengths, step - 1)), ...parts.flatMap(([, colour], which) => dots(lengths, added, which, shown, colour)));
    directions.marks.replaceChildren(...ruled.map(() => rule(directions, step - 1)),
      s("line", { x1: directions.bounds.left, x2: directions.bounds.right, y1: directions.y(0), y2: directions.y(0), stroke: COLOURS.GREY }),
      ...parts.flatMap(([, colour], which) => dots(directions, cosine, which, shown, colour)));
  }

  function dots(plot, values, which, i, colour) {
    const at = points.slice(0, layers).map((layer) => {
      const value = part(values, which, layer, i);
      return [plot.x(layer), values === added ? plot.y(Math.max(value, least, 1e-4)) : plot.y(value)];
    });
    return [s("path", { d: "M" + at.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L"), fill: "none", stroke: colour, "stroke-opacity": 0.6 }),
      ...at.map(([x, y]) => which ? s("rect", { x: x - 3, y: y - 3, width: 6, height: 6, fill: colour }) : s("circle", { cx: x, cy: y, r: 3.2, fill: colour }))];
  }
}
