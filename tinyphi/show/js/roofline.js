// The roof that memory and arithmetic make over a model's speed, and what more tokens at once would change.

function draw({ data, el }) {
  const { points, bandwidth, peak } = data, ridge = peak / bandwidth;
  const limit = (x) => (x < ridge ? "memory" : "arithmetic");
  const roof = (x) => Math.min(peak, x * bandwidth);
  const places = points.map((point) => ({ x: point.tokens * point.operations / point.read, y: point.speed * point.operations / 1e9 }));
  let base = 0, tokens = 1, chosen = null;

  const three = (value) => (value >= 1000 && value < 1e7 ? String(Math.round(value)) : fourDigits(+value.toPrecision(3)));
  const details = readout("Point at a mark, or move the slider.");
  const theory = h("div", { "data-testid": "theory", style: { margin: "2px 0 6px", minHeight: "3em" } });
  const slide = slider("tokens at once", { min: 0, max: 10, step: 0.25, value: 0, format: (power) => String(Math.round(2 ** power)), testid: "tokens" },
    (power) => { tokens = Math.round(2 ** power); update(); });
  el.append(h("div", { class: "controls" }, select("weights of", points.map(({ label }, i) => [String(i), label]), "0", (i) => { base = +i; update(); }, "base"), slide),
    theory);

  const xs = [...places.map(({ x }) => x), ridge], ys = [...places.map(({ y }) => y), peak];
  const least = Math.min(...points.map((point) => point.operations / point.read)), most = Math.max(...points.map((point) => point.operations / point.read));
  const [low, high] = [Math.min(Math.min(...xs, least) / 2.5, ridge / 30), Math.max(...xs, most * 1024) * 1.4], top = 2 * Math.max(...ys), bottom = Math.min(roof(low), ...ys) / 1.7;
  const plot = plotAxes({ width: 700, height: 360, testid: "roofline", label: "operations per second against operations per byte",
    x: { low, high, log: true, label: "FLOP/byte (log scale)" }, y: { low: bottom, high: top, log: true, label: "GFLOP/s (log scale)" } });
  const moving = s("g", {}), turn = clamp(plot.x(ridge), plot.bounds.left, plot.bounds.right);
  const side = (x, width, fill) => s("rect", { x, width, y: plot.bounds.top, height: plot.bounds.bottom - plot.bounds.top, fill, "fill-opacity": 0.55 });
  const words = (x, anchor, text) => s("text", { x, y: plot.bounds.top + 13, "text-anchor": anchor, "font-size": 11 }, text);
  const signs = places.map(({ x, y }, i) => sign(i, plot.x(x), plot.y(y), 5.5));
  plot.marks.append(side(plot.bounds.left, turn - plot.bounds.left, COLOURS.TINTS[0]), side(turn, plot.bounds.right - turn, COLOURS.TINTS[1]),
    words(turn - 6, "end", "limited by memory"), words(turn + 6, "start", "limited by arithmetic"),
    s("path", { d: `M${plot.x(low)} ${plot.y(roof(low))}L${turn} ${plot.y(peak)}H${plot.bounds.right}`, fill: "none", stroke: COLOURS.INK, "stroke-width": 2 }),
    moving, ...signs);
  plot.el.addEventListener("pointermove", (event) => {
    const box = plot.el.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const apart = places.map((place) => Math.hypot(plot.x(place.x) - x, plot.y(place.y) - y)), near = Math.min(...apart);
    if (near < 40) point(apart.indexOf(near));
  });
  plot.el.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    point(chosen === null ? 0 : clamp(chosen + step, 0, points.length - 1));
  });
  el.append(plot.el, h("div", { class: "quiet" }, points.map(({ label }, i) => signKey(i, short(label, 26)))), details);
  update();

  function point(i) {
    if (i === chosen) return;
    chosen = i;
    const { label, speed, operations, read } = points[i], { x, y } = places[i], most = roof(x), share = Math.round(100 * y / most);
    signs.forEach((one, j) => { one.style.stroke = j === i ? COLOURS.INK : ""; one.style.strokeWidth = j === i ? "3px" : ""; });
    details.say(h("b", {}, label), `: ${three(speed)} tokens/s, ${three(y)} GFLOP/s, which is `, h("b", {}, `${share} % of the roof`), ` at ${three(x)} FLOP/byte, limited by ${limit(x)}. `,
      `Each token takes ${three(operations / 1e9)} GFLOP; each step reads ${three(read / 1e9)} GB, which alone takes ${three(read / 1e6 / bandwidth)} ms.`,
      share > 100 ? " More than the roof allows: bandwidth or peak were measured too low, or not all bytes were read." : "");
  }

  // The same weights, read once for more tokens.
  function update() {
    const { label, operations, read } = points[base], x = tokens * operations / read, y = roof(x), all = y * 1e9 / operations;
    const turns = Math.max(1, Math.ceil(ridge * read / operations));
    theory.replaceChildren("With the weights of ", h("b", {}, label), `, ${tokens === 1 ? "one token" : `${tokens} tokens`} at once: ${three(x)} FLOP/byte, at most `, h("b", {}, `${three(all)} tokens/s`),
      ` in all, ${three(all / tokens)} for each sequence; limited by `, h("b", {}, limit(x)), `. ${turns > 1 ? `From ${turns} tokens at once` : "Always"}, arithmetic is the limit.`);
    const at = plot.x(x);
    moving.replaceChildren(s("line", { x1: at, x2: at, y1: plot.y(y), y2: plot.bounds.bottom, stroke: COLOURS.GREY, "stroke-dasharray": "4 3" }),
      s("circle", { cx: at, cy: plot.y(y), r: 8, fill: "#fff", stroke: COLOURS.RED, "stroke-width": 2.5, "data-testid": "theoretical" }));
  }
}
