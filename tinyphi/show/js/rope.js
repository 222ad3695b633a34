// The pairs of a head as dials: one hand for the query, one for the key, and what each pair adds to their product.

const MOST_DIALS = 64, FURTHEST = 512, SIZE = 45;

function draw({ data, el }) {
  const speeds = [unpack(data.speeds).values, data.longer ? unpack(data.longer).values : null];
  const count = speeds[0].length, dialCount = Math.min(count, MOST_DIALS);
  const shown = Array.from({ length: dialCount }, (_, i) => Math.round(i * (count - 1) / Math.max(1, dialCount - 1)));
  const state = { query: 12, key: 5, shift: 0, set: 0, pair: null };
  const current = () => speeds[state.set];
  const distance = () => state.query - state.key;
  const mean = (values, tokens) => values.reduce((sum, speed) => sum + Math.cos(speed * tokens), 0) / count;

  const details = readout("Point at a dial: it says how far its hands have turned.");
  const total = h("div", { "data-testid": "sum", style: { fontSize: "14px", margin: "4px 0" } });
  const dials = shown.map((pair) => dial(pair, () => { state.pair = pair; update(); }));
  const pairs = pairPlot(), curve = distancePlot();

  const move = (name) => (value) => { state[name] = value; update(); };
  const sliders = {
    query: slider("query at", { min: 0, max: FURTHEST, value: state.query, testid: "query" }, move("query")),
    key: slider("key at", { min: 0, max: FURTHEST, value: state.key, testid: "key" }, move("key")),
    shift: slider("shift both by", { min: 0, max: 2000, value: 0, testid: "shift" }, move("shift")),
  };
  el.append(
    h("div", { class: "controls" }, sliders.query, sliders.key, sliders.shift),
    h("div", { class: "controls" }, moving("move both", "shift", 2000), moving("move the query", "query", FURTHEST),
      speeds[1] && select("dials turn at", [["0", "these speeds"], ["1", "the longer speeds"]], "0",
        (value) => { state.set = +value; update(); }, "speeds"),
      h("span", { class: "quiet" }, key(COLOURS.BLUE, "query"), key(COLOURS.ORANGE, "key"), key(COLOURS.GREEN, "angle between, and its cosine"))),
    h("div", { "data-testid": "dials", style: { display: "flex", flexWrap: "wrap", maxWidth: `${16 * SIZE}px` } }, dials.map((one) => one.el)),
    total,
    h("div", { class: "panes" }, pairs.el, curve.el),
    details);
  update();

  function moving(words, name, most) {
    const set = (tokens) => { state[name] = tokens; sliders[name].set(tokens); update(); };
    return player(words, { value: () => state[name], set, most, every: 120, testid: `play-${name}` });
  }

  function dial(pair, onpoint) {
    const r = 18, centre = SIZE / 2, hand = (colour) => s("line", { x1: 0, y1: 0, stroke: colour, "stroke-width": 2.5, "stroke-linecap": "round" });
    const sector = s("path", { fill: COLOURS.GREEN, "fill-opacity": 0.28 });
    const rim = s("circle", { r, fill: "#fff", stroke: COLOURS.PALE, "stroke-width": 1.5 });
    const hands = [hand(COLOURS.ORANGE), hand(COLOURS.BLUE)];
    const made = s("svg", {
      width: SIZE, height: SIZE + 8, tabindex: 0, role: "img", "aria-label": `pair ${pair}`, "data-testid": `dial-${pair}`,
      onpointerenter: onpoint, onfocus: onpoint,
    },
    s("g", { transform: `translate(${centre} ${r + 3})` }, rim, sector, hands),
    s("text", { x: centre, y: SIZE + 3, "text-anchor": "middle", "font-size": 9 }, pair));
    // Counter-clockwise from the right, as angles are drawn in mathematics; y points down in SVG.
    const place = (angle, length) => [length * Math.cos(angle), -length * Math.sin(angle)];
    return { el: made, turn(query, keyAngle, chosen) {
      [keyAngle, query].forEach((angle, i) => {
        const [x, y] = place(angle, i ? r - 3 : r - 6);
        hands[i].setAttribute("x2", x);
        hands[i].setAttribute("y2", y);
      });
      const between = Math.atan2(Math.sin(query - keyAngle), Math.cos(query - keyAngle));
      const [x1, y1] = place(keyAngle, r - 1), [x2, y2] = place(keyAngle + between, r - 1);
      sector.setAttribute("d", `M0 0 L${x1} ${y1} A${r - 1} ${r - 1} 0 0 ${between > 0 ? 0 : 1} ${x2} ${y2} Z`);
      rim.setAttribute("stroke", chosen ? COLOURS.RED : COLOURS.PALE);
    } };
  }

  function pairPlot() {
    const plot = plotAxes({
      width: 353, height: 190, label: "what each pair adds", testid: "pairs",
      x: { low: -0.7, high: count - 0.3, label: "pair, fast to slow" }, y: { low: -1.06, high: 1.06, label: "cosine", ticks: [[-1, "−1"], [0, "0"], [1, "1"]] },
    });
    plot.watch(Array.from({ length: count }, (_, i) => i), (pair) => { state.pair = pair; update(); });
    return plot;
  }

  function distancePlot() {
    const plot = plotAxes({
      width: 353, height: 190, label: "mean of all pairs at each distance", testid: "curve",
      x: { low: 0, high: FURTHEST, label: "distance of query and key (tokens)" }, y: { low: -0.5, high: 1, label: "mean cosine" },
    });
    const line = (values, colour) => s("path", { fill: "none", stroke: colour, "stroke-width": 1.3, d: "M" + Array.from(
      { length: FURTHEST + 1 }, (_, tokens) => `${plot.x(tokens).toFixed(1)} ${plot.y(Math.max(-0.5, mean(values, tokens))).toFixed(1)}`).join("L") });
    plot.lines = [line(speeds[0], COLOURS.BLUE), speeds[1] && line(speeds[1], COLOURS.PURPLE)].filter(Boolean);
    plot.watch(Array.from({ length: FURTHEST + 1 }, (_, i) => i), (tokens) => details.say(
      `Distance ${tokens}: mean cosine ${fourDigits(mean(speeds[0], tokens))}`
      + (speeds[1] ? `; at the longer speeds (purple) ${fourDigits(mean(speeds[1], tokens))}.` : ".")));
    return plot;
  }

  function update() {
    const now = current(), p = state.query + state.shift, q = state.key + state.shift, apart = Math.abs(distance());
    dials.forEach((one, i) => one.turn(p * now[shown[i]], q * now[shown[i]], state.pair === shown[i]));
    const wide = Math.max(1, (pairs.x(1) - pairs.x(0)) * 0.8), zero = pairs.y(0);
    pairs.marks.replaceChildren(...Array.from(now, (speed, pair) => {
      const y = pairs.y(Math.cos(speed * apart));
      return s("rect", {
        x: pairs.x(pair) - wide / 2, y: Math.min(y, zero), width: wide, height: Math.max(0.5, Math.abs(y - zero)),
        fill: pair === state.pair ? COLOURS.RED : COLOURS.GREEN,
      });
    }));
    const average = mean(now, apart);
    curve.marks.replaceChildren(...curve.lines,
      s("line", { x1: curve.x(apart), x2: curve.x(apart), y1: curve.bounds.top, y2: curve.bounds.bottom, stroke: COLOURS.GREEN, "stroke-dasharray": "3 3" }),
      s("circle", { cx: curve.x(apart), cy: curve.y(Math.max(-0.5, average)), r: 4.5, fill: COLOURS.GREEN, stroke: "#fff" }));
    total.replaceChildren("query at ", h("b", {}, p), ", key at ", h("b", {}, q), `: distance ${distance()}. Sum of the ${count} cosines: `,
      h("b", {}, (average * count).toFixed(4)),
      h("div", { class: "quiet" }, state.shift ? `Both stand ${state.shift} further on: all hands have turned, the angles between them are the same.` : "Shift both, and watch what changes."));
    if (state.pair !== null) sayPair(state.pair, now[state.pair], p, q);
  }

  function sayPair(pair, speed, p, q) {
    const turned = (tokens) => `${(tokens * speed % (2 * Math.PI) * 180 / Math.PI).toFixed(1)}°`;
    details.say(h("b", {}, `Pair ${pair}`), ` turns ${fourDigits(speed)} radians per token, once around in ${fourDigits(2 * Math.PI / speed)} tokens. `,
      `Query at ${p}: ${turned(p)}. Key at ${q}: ${turned(q)}. `,
      `It adds cos((${p} − ${q}) × ${fourDigits(speed)}) = cos(${fourDigits((p - q) * speed)}) = `, h("b", {}, fourDigits(Math.cos((p - q) * speed))), ".");
  }
}
