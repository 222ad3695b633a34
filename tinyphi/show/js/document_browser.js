// Documents that a filter keeps or drops: a threshold that judges all of them again, a list, and the text of one.

function draw({ data, el }) {
  const { texts, whole, scores, reasons, good, marks } = data, count = texts.length, numbers = Array.from({ length: count }, (_, i) => i);
  const ranked = [...numbers].sort((a, b) => scores[b] - scores[a]);
  let threshold = data.threshold, filter = "all", order = "score", at = ranked[0];
  const kept = (i) => !reasons[i] && scores[i] >= threshold, why = (i) => (kept(i) ? "kept" : reasons[i] || "score");
  const FILTERS = { all: () => true, kept, dropped: (i) => !kept(i), score: (i) => why(i) === "score",
    "good but dropped": (i) => good[i] && !kept(i), "kept but not good": (i) => !good[i] && kept(i) };
  const passes = (i) => (filter.startsWith("rule:") ? reasons[i] === filter.slice(5) : FILTERS[filter](i));
  const lines = texts.map((text) => short(text.slice(0, 200).replace(/\s+/g, " "), 60));
  const named = [...new Set(reasons)].filter(Boolean).sort();
  const options = [["all", "all documents"], ["kept", "kept"], ["dropped", "dropped"], ["score", "dropped by the score"],
    ...(good ? [["good but dropped", "good but dropped"], ["kept but not good", "kept but not good"]] : []),
    ...named.map((name) => [`rule:${name}`, `dropped by ${short(name, 30)}`])];

  const slide = slider("threshold", { min: 0, max: 1, step: 0.01, value: threshold, format: (value) => value.toFixed(2), testid: "threshold" },
    (value) => { threshold = value; show(); });
  const totals = h("div", { role: "status", "aria-live": "polite", "data-testid": "totals" });
  const picture = h("div", {}), list = h("div", { class: "list", role: "listbox", tabindex: 0, "aria-label": "documents", "data-testid": "list" });
  const head = h("div", { class: "head", "data-testid": "head" }), body = h("pre", { class: "body", "data-testid": "body" });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key], shown = listed();
    if (!step || !shown.length) return;
    event.preventDefault();
    at = shown[clamp(shown.indexOf(at) + step, 0, shown.length - 1)];
    show();
    list.querySelector(".now")?.scrollIntoView({ block: "nearest" });
  });
  dress(el, "document_browser", STYLE);
  el.append(h("div", { class: "controls" }, slide, select("show", options, "all", (value) => { filter = value; show(); }, "filter"),
    select("in order of", [["score", "score"], ["reading", "reading"]], "score", (value) => { order = value; show(); }, "order")),
  totals, h("div", { class: "panes" }, h("div", {}, picture, list), h("div", { class: "page" }, head, body)));
  show();

  function listed() { return (order === "score" ? ranked : numbers).filter(passes); }

  function show() {
    const shown = listed(), keeps = numbers.filter(kept);
    if (shown.length && !shown.includes(at)) at = shown[0];
    totals.replaceChildren(h("b", {}, `${keeps.length} of ${count} documents kept`), ...(good ? quality(keeps) : []), `; ${shown.length} in the list.`);
    picture.replaceChildren(histogram());
    list.replaceChildren(...shown.map((i) => h("div", { class: `row ${kept(i)}${i === at ? " now" : ""}`, role: "option", "aria-selected": String(i === at),
      "data-testid": "row", onclick: () => { at = i; show(); list.focus({ preventScroll: true }); } },
      h("span", { class: "mono" }, `${kept(i) ? "✓" : "✗"} ${scores[i].toFixed(2)} `), lines[i])));
    if (!shown.length) { head.replaceChildren("No document is of this kind."); body.replaceChildren(); return; }
    head.replaceChildren(h("b", {}, kept(at) ? "kept" : `dropped by ${why(at) === "score" ? "its score" : why(at)}`), `, score ${scores[at].toFixed(3)}`,
      good ? `, labelled ${good[at] ? "good" : "not good"}${good[at] === kept(at) ? "" : ": the filter is wrong"}` : "", `. Document ${at}, ${whole[at]} letters`,
      whole[at] > [...texts[at]].length ? `, the first ${[...texts[at]].length} shown.` : ".");
    body.replaceChildren(...marked(at));
  }

  function quality(keeps) {
    const right = keeps.filter((i) => good[i]).length, all = good.filter(Boolean).length;
    return [": precision ", h("b", {}, keeps.length ? percent(right / keeps.length, "0 %") : "–"), ", recall ", h("b", {}, all ? percent(right / all, "0 %") : "–")];
  }

  // The text with its marked stretches; Python counts letters, so the text is taken apart into letters.
  function marked(i) {
    const letters = [...texts[i]], spans = marks ? marks[i] : [], parts = [];
    let done = 0;
    for (const [begin, end] of spans) {
      parts.push(letters.slice(done, begin).join(""), h("mark", { "data-testid": "mark" }, letters.slice(begin, end).join("")));
      done = end;
    }
    return [...parts, letters.slice(done).join("")];
  }

  function histogram() {
    const bins = 20, of = (i) => Math.min(bins - 1, Math.floor(scores[i] * bins + 1e-9));
    const counts = [true, false].map((wanted) => {
      const found = new Array(bins).fill(0);
      for (const i of numbers) if ((good ? good[i] : true) === wanted) found[of(i)]++;
      return found;
    });
    const high = Math.max(1, ...counts[0].map((tall, n) => tall + counts[1][n]));
    const plot = plotAxes({ width: 360, height: 130, testid: "histogram", label: "documents by score", x: { low: 0, high: 1, label: "score" }, y: { low: 0, high, label: "documents", ticks: wholeTicks(high) } });
    for (let n = 0; n < bins; n++) {
      const box = (from, to, fill) => s("rect", { x: plot.x(n / bins) + 0.5, width: plot.x(1 / bins) - plot.x(0) - 1, y: plot.y(to), height: plot.y(from) - plot.y(to), fill });
      if (counts[0][n]) plot.marks.append(box(0, counts[0][n], COLOURS.BLUE));
      if (counts[1][n]) plot.marks.append(box(counts[0][n], counts[0][n] + counts[1][n], COLOURS.ORANGE));
    }
    const line = (x, colour, dash) => s("line", { x1: plot.x(x), x2: plot.x(x), y1: plot.bounds.top, y2: plot.bounds.bottom, stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dash });
    plot.marks.append(line(threshold, COLOURS.INK, "4 3"), line(scores[at], COLOURS.RED, null));
    return h("div", {}, plot.el, h("div", { class: "quiet" }, key(COLOURS.BLUE, good ? "good" : "documents", "■"), good ? key(COLOURS.ORANGE, "not good", "■") : null,
      key(COLOURS.INK, "threshold", "┅"), key(COLOURS.RED, "this document")));
  }
}

const STYLE = `
& .list { width: 372px; height: 230px; overflow-y: auto; border: 1px solid #D9D9D9; margin-top: 6px; }
& .row { padding: 1px 6px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; cursor: pointer; border-left: 4px solid #D55E00; }
& .row.true { border-left-color: #0072B2; } & .row.now { background: #FCE8C3; }
& .page { flex: 1 1 320px; min-width: 280px; }
& .head { padding: 5px 8px; background: #f7f7f7; border-left: 3px solid #0072B2; margin-bottom: 6px; }
& .body { max-height: 380px; overflow-y: auto; overflow-wrap: anywhere; padding: 2px 8px; }
& mark { background: #FCE8C3; color: inherit; border-bottom: 2px solid #E69F00; }
& .controls select { max-width: 230px; }
`;
