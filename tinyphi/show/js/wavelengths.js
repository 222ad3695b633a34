// Tokens for one turn of each pair, and an explorer: factors of the reader's own among the given series.

const STRONGEST = 64; // times that a text may be longer

function draw({ data, el }) {
  const { labels, context, explore } = data, { shape: [, count], values } = unpack(data.speeds);
  const turns = labels.map((_, n) => Array.from(values.subarray(n * count, (n + 1) * count), (speed) => 2 * Math.PI / speed));
  const first = turns[0], factors = turns.map((row) => row.map((tokens, pair) => tokens / first[pair]));
  const never = (row) => row.filter((tokens) => tokens > context).length;
  const state = { pair: 0, method: "YaRN", scale: 32, from: 0, to: count - 1 };
  const own = () => first.map((_, pair) => METHODS[state.method](pair, { ...state, context, first }));

  const all = turns.flat(), most = Math.max(...factors.flat(), explore ? STRONGEST : 1), least = Math.min(...factors.flat(), 1);
  const axes = (label, testid, y) => plotAxes({ width: 343, height: 250, left: 62, testid, label, x: { low: -0.6, high: count - 0.4, label: "pair, fast to slow", ticks: wholeTicks(count - 1) }, y: { ...y, log: true, label } });
  const left = axes("tokens for one turn (log)", "turns", { low: Math.min(...all, context) / 1.5, high: 1.5 * Math.max(...all, context, explore ? STRONGEST * first.at(-1) : 0) });
  const doubled = Array.from({ length: 40 }, (_, n) => 2 ** (n - 20)).filter((factor) => factor > least / 1.2 && factor < most * 1.2);
  const right = axes("times slower (log)", "factors", { low: least / 1.15, high: most * 1.15, ticks: doubled.map((factor) => [factor, fourDigits(factor)]) });
  const plots = explore || labels.length > 1 ? [[left, turns], [right, factors]] : [[left, turns]];
  const path = (plot, row, attrs) => s("path", { fill: "none", d: `M${row.map((value, pair) => `${plot.x(pair).toFixed(1)} ${plot.y(value).toFixed(1)}`).join("L")}`, ...attrs });
  const every = Math.ceil(count / 12), yours = plots.map(() => s("g", {}));
  const here = plots.map(([{ bounds }]) => s("line", { y1: bounds.top, y2: bounds.bottom, stroke: COLOURS.GREY }));
  plots.forEach(([plot, rows], i) => plot.marks.append(here[i], yours[i], ...rows.map((row, n) => [
    path(plot, row, { stroke: MARKS[n][2], "stroke-width": 1.3 }),
    row.map((value, pair) => ((pair - n) % every ? null : sign(n, plot.x(pair), plot.y(value), 4)))]).flat(2).filter(Boolean)));
  left.marks.append(s("line", { x1: left.bounds.left, x2: left.bounds.right, y1: left.y(context), y2: left.y(context), stroke: COLOURS.INK, "stroke-dasharray": "6 3" }),
    s("text", { x: left.bounds.left + 5, y: left.y(context) - 5, "font-size": 10 }, `context: ${context} tokens`));
  plots.forEach(([plot]) => plot.watch(first.map((_, pair) => pair), (pair) => { state.pair = pair; tell(); }));

  const details = readout();
  const verdict = h("div", { "data-testid": "verdict", style: { margin: "4px 0", minHeight: "4.4em", maxWidth: "720px" } });
  const set = (name) => (value) => { state[name] = value; update(); };
  const place = (name, words) => slider(words, { min: 0, max: count - 1, value: state[name], testid: name }, set(name));
  const ends = [place("from", "from pair"), place("to", "to pair")];
  if (explore) el.append(h("div", { class: "controls" },
    select("your factors:", Object.keys(METHODS).map((name) => [name, name]), state.method, set("method"), "method"),
    slider("for texts longer by", { min: 0, max: Math.log2(STRONGEST), step: 0.25, value: Math.log2(state.scale), format: (power) => `× ${fourDigits(2 ** power)}`, testid: "scale" }, (power) => set("scale")(2 ** power)),
    ends), verdict);
  el.append(h("div", { class: "panes" }, plots.map(([plot]) => plot.el)), details);
  update();

  function update() {
    if (explore) {
      const mine = own(), slowed = mine.map((factor, pair) => factor * first[pair]);
      ends.forEach((one) => { one.style.display = state.method === RAMP ? "" : "none"; });
      [slowed, mine].forEach((row, i) => yours[i].replaceChildren(path(plots[i][0], row, { stroke: COLOURS.INK, "stroke-width": 4, "stroke-dasharray": "7 3" })));
      // Without a whole turn in training, a pair has met the angles of `context` tokens, and no others.
      const fresh = mine.filter((factor, pair) => first[pair] > context && factor < state.scale * (1 - 1e-6)).length;
      verdict.replaceChildren(h("b", {}, never(slowed)), ` of ${count} pairs do not turn round within ${context} tokens; ${short(labels[0], 20)}: ${never(first)}. The fastest pair sees a neighbour at distance `,
        h("b", {}, fourDigits(1 / mine[0])), `. In a text of ${Math.round(state.scale * context)} tokens, `, h("b", {}, fresh),
        ` of the ${never(first)} pairs that had not turned round in training meet angles that are new to them.`);
    }
    tell();
  }

  function tell() {
    const { pair } = state;
    here.forEach((line, i) => ["x1", "x2"].forEach((end) => line.setAttribute(end, plots[i][0].x(pair))));
    const row = (name, tokens) => h("tr", { "data-testid": "row" }, h("td", { style: { textAlign: "left" } }, name), [fourDigits(tokens), `× ${fourDigits(tokens / first[pair])}`, fourDigits(context / tokens)].map((text) => h("td", {}, text)));
    details.say(h("table", {},
      h("tr", {}, h("th", { style: { textAlign: "left" } }, `Pair ${pair}`), ["tokens for one turn", "times slower", `turns in ${context} tokens`].map((text) => h("th", {}, text))),
      labels.map((label, n) => row(signKey(n, short(label, 24)), turns[n][pair])),
      explore ? row(key(COLOURS.INK, `yours: ${state.method}`, "┅"), own()[pair] * first[pair]) : null),
    h("div", { class: "quiet" }, "Point at a pair, or click a plot and use the arrow keys."));
  }
}

// λ of one pair, as in tinyphi/longcontext/extension.py.
const RAMP = "a ramp", share = (pair, low, high) => clamp((pair - low) / Math.max(high - low, 0.001), 0, 1);
const METHODS = {
  PI: (pair, { scale }) => scale,
  NTK: (pair, { scale, first }) => scale ** (pair / (first.length - 1)),
  YaRN: (pair, { scale, first, context }) => {
    const count = first.length, growth = Math.log(first.at(-1) / first[0]) / (count - 1);
    const withTurns = (turns) => Math.log(context / turns / first[0]) / growth; // a pair, or a place between two
    const slowed = share(pair, Math.max(Math.floor(withTurns(32)), 0), Math.min(Math.ceil(withTurns(1)), 2 * count - 1));
    return 1 / (slowed / scale + (1 - slowed));
  },
  [RAMP]: (pair, { scale, from, to }) => scale ** share(pair, from, to),
};
