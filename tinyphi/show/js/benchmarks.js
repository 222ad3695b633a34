// Scores of models on benchmarks: any two models compared, sorted, and without the rows in which they are close.

function draw({ data, el }) {
  const { names, models, scores, limits, notes, sources } = data, rows = names.map((_, i) => i);
  let [first, second] = data.pair, sorting = "gain", least = 0, at = null, order = [];

  const gain = (i) => (scores[i][first] === null || scores[i][second] === null ? null : scores[i][second] - scores[i][first]);
  const number = (score) => (score === null ? "–" : score.toFixed(1));
  const signed = (value) => (Math.abs(value) < 0.05 ? "0.0" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`);
  const told = (i, m) => number(scores[i][m]) + (limits[i][m] ? ` [${limits[i][m].map(number).join(", ")}]` : "");
  const span = (i, m) => limits[i][m] || [scores[i][m], scores[i][m]];
  const barred = limits.flat().some((found) => found !== null), count = models.length;
  const known = scores.flat().concat(limits.flat(2)).filter((score) => score !== null);
  const low = known.length ? 10 * Math.floor(Math.min(...known) / 10 - 1e-9) : 0, high = known.length ? 10 * Math.ceil(Math.max(...known) / 10 + 1e-9) : 100;
  const labels = models.map((model, i) => [String(i), short(model, 34)]);

  const summary = h("div", { "data-testid": "summary", style: { margin: "2px 0 6px", minHeight: "1.5em" } });
  const place = h("div", {});
  const details = readout("Point at a row, or click the chart and use the arrow keys.");
  el.append(
    h("div", { class: "controls" },
      select("compare", labels, String(second), (i) => { second = +i; update(); }, "second"),
      select("with", labels, String(first), (i) => { first = +i; update(); }, "first"),
      select("sorted by", [["gain", "difference"], ["second", "score of the one"], ["first", "score of the other"], ["name", "name"], ["given", "order of the table"]], sorting, (by) => { sorting = by; update(); }, "sorting"),
      slider("apart by at least", { min: 0, max: 20, value: 0, testid: "least" }, (value) => { least = value; update(); })),
    summary, place, h("div", { class: "quiet", style: { margin: "4px 0" } }, models.map((model, i) => signKey(i, short(model, 34)))), details);
  update();

  // A value to sort by, the highest first; rows without one come last.
  function value(i) {
    const found = sorting === "gain" ? gain(i) : scores[i][sorting === "second" ? second : first];
    return found === null ? -Infinity : found;
  }

  function update() {
    order = rows.filter((i) => least === 0 || (gain(i) !== null && Math.abs(gain(i)) >= least - 1e-9));
    if (sorting === "name") order.sort((i, j) => names[i].localeCompare(names[j]));
    else if (sorting !== "given") order.sort((i, j) => value(j) - value(i) || i - j);
    at = null;
    const gains = order.map(gain).filter((found) => found !== null), those = (test) => gains.filter(test).length;
    const unsettled = order.filter(unclear).length;
    const mean = gains.reduce((total, found) => total + found, 0) / gains.length;
    summary.replaceChildren(h("b", {}, models[second]), " against ", h("b", {}, models[first]), ...(gains.length
      ? [": ", h("b", {}, signed(mean)), ` on average of ${gains.length} ${gains.length === 1 ? "benchmark" : "benchmarks"}, ahead in ${those((found) => found > 0)}, behind in ${those((found) => found < 0)}${unsettled ? `; in ${unsettled} the intervals meet` : ""}.`]
      : [": no common benchmark."]));
    details.say(order.length ? "Point at a row, or click the chart and use the arrow keys." : "No row is left: move the slider down.");
    place.replaceChildren(chart());
  }

  function chart() {
    const left = 132, width = 700, right = 62, tall = 20, top = 22, bottom = top + Math.max(order.length, 1) * tall;
    const x = (score) => left + 8 + (score - low) / (high - low) * (width - left - right - 16), y = (n) => top + (n + 0.5) * tall;
    const words = (px, py, text, anchor, more = {}) => s("text", { x: px, y: py, "text-anchor": anchor, "font-size": 11, ...more }, text);
    const level = (n, m) => y(n) + (barred ? (m - (count - 1) / 2) * Math.min(5, 14 / count) : 0);
    const here = s("rect", { x: 0, width, height: tall, fill: COLOURS.TINTS[0], visibility: "hidden" });
    const svg = s("svg", { width, height: bottom + 32, tabindex: 0, role: "img", "aria-label": "scores by benchmark and model", "data-testid": "chart" },
      here, tickMarks({ low, high }, 9).map((score) => [
        s("line", { x1: x(score), x2: x(score), y1: top, y2: bottom, stroke: "#ececec" }), words(x(score), bottom + 13, score, "middle", { "font-size": 10 })]).flat(),
      words((x(low) + x(high)) / 2, bottom + 28, "score", "middle"), words(width - 4, 14, "difference", "end", { "font-size": 10 }),
      order.map((i, n) => {
        const pair = [scores[i][first], scores[i][second]], found = gain(i), behind = found !== null && found < 0;
        return [
          words(left - 8, y(n) + 4, short(names[i], 18), "end", { "data-testid": "name" }),
          found === null || barred ? null : s("line", { x1: x(Math.min(...pair)), x2: x(Math.max(...pair)), y1: y(n), y2: y(n), stroke: behind ? COLOURS.RED : COLOURS.GREY, "stroke-width": 2.5, "stroke-opacity": 0.55 }),
          models.map((_, m) => (limits[i][m] === null ? null : s("line", {
            x1: x(limits[i][m][0]), x2: x(limits[i][m][1]), y1: level(n, m), y2: level(n, m), stroke: MARKS[m % MARKS.length][2], "stroke-width": 2, "stroke-opacity": compared(m) ? 0.7 : 0.25, "data-testid": "interval" }))),
          // The two that are compared lie above the others, which are paler.
          models.map((_, m) => m).sort((a, b) => compared(a) - compared(b)).map((m) => (scores[i][m] === null ? null
            : sign(m, x(scores[i][m]), level(n, m), 5.5, { "fill-opacity": compared(m) ? 1 : 0.35, "stroke-opacity": compared(m) ? 1 : 0.35 }))),
          words(width - 4, y(n) + 4, found === null ? "–" : signed(found) + (unclear(i) ? " ~" : ""), "end", behind ? { style: `fill:${COLOURS.RED};font-weight:bold` } : {})].flat();
      }).flat());
    const go = (n) => {
      if (n === at) return;
      at = n;
      here.setAttribute("y", top + n * tall);
      here.setAttribute("visibility", "visible");
      say(order[n]);
    };
    svg.addEventListener("pointermove", (event) => {
      const n = Math.floor((event.clientY - svg.getBoundingClientRect().top - top) / tall);
      if (n >= 0 && n < order.length) go(n);
    });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step || !order.length) return;
      event.preventDefault();
      go(at === null ? 0 : clamp(at + step, 0, order.length - 1));
    });
    return svg;
  }

  // Whether the intervals of the two meet: then their difference may be noise.
  function unclear(i) {
    if (gain(i) === null || (!limits[i][first] && !limits[i][second])) return false;
    const [a, b] = [span(i, first), span(i, second)];
    return Math.max(a[0], b[0]) <= Math.min(a[1], b[1]);
  }

  function compared(model) { return model === first || model === second ? 1 : 0; }

  function say(i) {
    const found = gain(i);
    details.say(h("b", {}, names[i]), notes[i] ? ` (${notes[i]}): ` : ": ", models.map((model, m) => `${model} ${told(i, m)}${sources[m] ? ` (${sources[m]})` : ""}`).join(", "), ". ",
      found === null ? "One of the two has no score." : [h("b", {}, signed(found)), " for ", models[second], "; of what ", models[first], ` misses, ${missed(i, found)}.`, unclear(i) ? " The intervals meet: this may be noise." : null]);
  }

  // The same gain is more where less was left to gain.
  function missed(i, found) {
    const room = 100 - scores[i][first];
    if (room === 0) return "nothing is left";
    return found < 0 ? `it misses ${Math.round((-100 * found) / room)} % more` : `it gets ${Math.round((100 * found) / room)} %`;
  }
}
