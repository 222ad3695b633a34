// The time machine: scrub through a generation, and cut its recorded distributions again.

// One step at other settings. As in tinyphi/generation/sampling.py: temperature, then top-k, top-p, min-p, each
// on what the one before left. `logits` are the top ones, best first; `others` are groups of what follows,
// { n, centre, spread }, as show/generation.py explains. settings: { temperature, top_k, top_p, min_p, greedy },
// null for a cut that is off. Returns for the top tokens `probabilities` (before the cuts), `cut` (the cut's
// name or null) and `drawn` (what they are drawn with); and the entropy, and what each cut took.
function recut(logits, others, settings) {
  const T = settings.greedy ? 1 : settings.temperature, k = logits.length;
  // Rounded to float32, as the library divides: what is equal there is equal here.
  const values = Array.from(logits, (x) => Math.fround(x / Math.fround(T)));
  const items = values.map((value) => ({ n: 1, value, log: value, mean: value, width: 0 }));
  let edge = values[k - 1]; // no member of a group is above the centre of the group before
  for (const { n, centre, spread } of others) {
    const value = Math.fround(centre / Math.fround(T));
    items.push({ n, value, log: Math.log(n) + Math.min(value + spread / T / T / 2, edge),
      mean: Math.min(value + spread / T / T, edge), // as its members' probabilities weigh it
      width: Math.sqrt(3 * spread) / T }); // to both sides, if they are spread evenly
    edge = value;
  }
  const best = values[0];
  let sum = 0;
  for (const item of items) sum += item.mass = Math.exp(item.log - best);
  let entropy = Math.log(sum);
  for (const item of items) {
    item.mass /= sum;
    item.part = 1; // of its tokens, how much is left
    entropy -= item.mass * (item.mean - best);
  }
  const cuts = {};
  const apply = (name, part) => {
    const took = { count: 0, mass: 0 };
    items.forEach((item, i) => {
      const left = Math.min(item.part, part(item, i));
      took.count += item.n * (item.part - left);
      took.mass += item.mass * (item.part - left);
      if (left < item.part && i < k) item.cut = name;
      item.part = left;
    });
    cuts[name] = took;
  };
  if (settings.greedy) apply("greedy", (item, i) => (i === 0 ? 1 : 0));
  else {
    if (settings.top_k !== null) apply("top_k", topK(items, settings.top_k, k));
    if (settings.top_p !== null) apply("top_p", topP(items, settings.top_p));
    if (settings.min_p !== null) {
      const least = settings.min_p * items[0].mass, value = best + Math.log(settings.min_p);
      apply("min_p", (item, i) => i < k ? +(item.mass >= least)
        : item.width > 0 ? clamp((item.value + item.width - value) / (2 * item.width), 0, 1) : +(item.value >= value));
    }
  }
  const kept = items.reduce((total, item) => total + item.mass * item.part, 0);
  const count = items.reduce((total, item) => total + item.n * item.part, 0);
  const top = items.slice(0, k);
  return {
    probabilities: top.map((item) => item.mass), cut: top.map((item) => item.cut ?? null),
    drawn: top.map((item) => item.mass * item.part / kept),
    entropy: Math.abs(entropy) / Math.LN2, cuts, kept, count, best, sum,
  };
}

function topK(items, wanted, k) {
  if (wanted <= k) {
    const last = items[wanted - 1].value;
    return (item) => +(item.value >= last);
  }
  const starts = [];
  items.reduce((rank, item) => { starts.push(rank); return rank + item.n; }, 0);
  return (item, i) => clamp((wanted - starts[i]) / item.n, 0, 1);
}

function topP(items, p) {
  const left = items.reduce((total, item) => total + item.mass * item.part, 0);
  let rest = 0; // what this item and all less probable ones hold, added up from the smallest
  const parts = Array(items.length);
  for (let i = items.length - 1; i >= 0; i--) {
    const mass = items[i].mass * items[i].part / left, before = rest;
    rest += mass;
    // A token goes if it and all below hold no more than 1 − p; of a group goes what fits below that.
    if (i === 0 || before > 1 - p) parts[i] = 1;
    else if (items[i].n === 1) parts[i] = rest <= 1 - p ? 0 : 1;
    else parts[i] = items[i].part * (1 - clamp((1 - p - before) / mass, 0, 1));
  }
  return (item, i) => parts[i];
}

const CUT_NAMES = { top_k: "top-k", top_p: "top-p", min_p: "min-p", greedy: "greedy" };

function draw({ data, el }) {
  const ids = unpack(data.ids), logits = unpack(data.logits).values, numbers = unpack(data.others).values;
  const chosenLogits = unpack(data.chosenLogits).values;
  const [n, k] = ids.shape, g = data.counts.length;
  const text = (id) => visible(data.texts[id]) || "∅";
  const tops = Array.from({ length: n }, (_, i) => logits.subarray(i * k, (i + 1) * k));
  const groups = Array.from({ length: n }, (_, i) => data.counts.map((count, j) =>
    ({ n: count, centre: numbers[2 * (i * g + j)], spread: numbers[2 * (i * g + j) + 1] })));
  const places = data.chosen.map((id, i) => ids.values.subarray(i * k, (i + 1) * k).indexOf(id));

  const recorded = { ...data.settings, temperature: data.settings.temperature ?? 1 };
  let settings = { ...recorded }, at = 0, results = [];

  // What became of the token that was chosen, at the present settings.
  function fate(i) {
    const result = results[i], place = places[i];
    if (place >= 0) return { probability: result.probabilities[place], cut: result.cut[place], drawn: result.drawn[place] };
    const probability = Math.exp(chosenLogits[i] / settings.temperature - result.best) / result.sum;
    // Beyond the top 64: it is left if at least as many tokens are.
    const cut = result.count > data.chosenRanks[i] ? null : Object.keys(result.cuts).findLast((name) => result.cuts[name].count > 0);
    return { probability, cut, drawn: cut ? 0 : probability / result.kept };
  }

  // The text, a token a button.
  const strip = h("div", { class: "strip", "data-testid": "strip" },
    data.promptHidden ? h("span", { class: "prompt" }, `… ${data.promptHidden} tokens … `) : null,
    h("span", { class: "prompt" }, data.prompt.join("")));
  const tokens = data.chosen.map((id, i) => {
    const raw = data.texts[id];
    return h("span", { class: "token", "data-testid": "token", title: `step ${data.first + i}`, onclick: () => go(i) },
      raw.trim() === "" ? text(id) + (raw.includes("\n") ? "\n" : "") : raw.replace(/\n/g, "↵\n"));
  });
  strip.append(...tokens);

  // Entropy over the steps.
  const W = 860, H = 100, L = 34, B = 16, x = (i) => L + (n === 1 ? 0.5 : i / (n - 1)) * (W - L - 12);
  const curve = s("svg", { viewBox: `0 0 ${W} ${H}`, width: W, style: { maxWidth: "100%", cursor: "pointer" },
    role: "img", "aria-label": "entropy at each step", "data-testid": "curve" });
  curve.addEventListener("click", (event) => {
    const box = curve.getBoundingClientRect();
    go(Math.round(((event.clientX - box.left) / box.width * W - L) / (W - L - 12) * (n - 1)));
  });
  const line = s("g"), cursor = s("g");
  curve.append(line, cursor);

  function drawCurve() {
    const highest = Math.max(1, Math.ceil(Math.max(...results.map((result) => result.entropy))));
    const y = (bits) => H - B - bits / highest * (H - B - 8);
    const points = results.map((result, i) => `${x(i).toFixed(1)},${y(result.entropy).toFixed(1)}`);
    const marks = results.map((result, i) => fate(i).cut
      ? s("text", { x: x(i), y: y(result.entropy) + 5, "text-anchor": "middle", style: { fill: COLOURS.INK, fontSize: "15px", fontWeight: "bold" } }, "×") : null);
    line.replaceChildren(
      ...[0, highest].flatMap((bits) => [
        s("line", { x1: L, x2: W - 8, y1: y(bits), y2: y(bits), stroke: COLOURS.PALE }),
        s("text", { x: L - 5, y: y(bits) + 4, "text-anchor": "end", "font-size": 12 }, bits)]),
      s("text", { x: 10, y: (H - B) / 2 + 4, transform: `rotate(-90 10 ${(H - B) / 2 + 4})`, "text-anchor": "middle", "font-size": 12 }, "bits"),
      s("polyline", { points: points.join(" "), fill: "none", stroke: COLOURS.RED, "stroke-width": 1.5 }),
      ...(n <= 120 ? results.map((result, i) => s("circle", { cx: x(i), cy: y(result.entropy), r: 2.2, fill: COLOURS.RED })) : []),
      ...marks.filter(Boolean));
    cursor.replaceChildren(
      s("line", { x1: x(at), x2: x(at), y1: 4, y2: H - B, stroke: COLOURS.ORANGE, "stroke-width": 2 }),
      s("circle", { cx: x(at), cy: y(results[at].entropy), r: 4, fill: COLOURS.ORANGE, stroke: "#fff" }),
      s("text", { x: clamp(x(at), L + 20, W - 40), y: H - 3, "text-anchor": "middle", "font-size": 12 }, `step ${data.first + at}`));
  }

  // The bars of one step.
  const SHOWN = Math.min(12, k);
  const chart = h("div", { class: "chart", "data-testid": "bars" });

  function row(label, p, drawn, cut, chosen, largest, title) {
    const share = (value) => `${Math.min(100, 100 * value / largest)}%`;
    return h("div", { class: `bar${cut ? " cut" : ""}${chosen ? " chosen" : ""}`, title, "data-testid": "bar", "data-cut": cut ?? "" },
      h("span", { class: "name mono" }, h("span", {}, label)),
      h("span", { class: "track" },
        h("span", { class: "gain", style: { width: share(drawn) } }),
        h("span", { class: "p", style: { width: share(p) } })),
      h("span", { class: "number" }, percent(p)),
      h("span", { class: "number" }, cut ? `cut: ${CUT_NAMES[cut]}` : percent(drawn)));
  }

  function drawBars() {
    const result = results[at], end = fate(at), place = places[at];
    const highest = Math.max(...result.probabilities.slice(0, SHOWN), ...result.drawn.slice(0, SHOWN));
    const largest = [0.05, 0.1, 0.2, 0.35, 0.5].find((limit) => highest <= limit) ?? 1;
    const shown = Array.from({ length: SHOWN }, (_, j) => {
      const id = ids.values[at * k + j];
      return row(text(id), result.probabilities[j], result.drawn[j], result.cut[j], j === place, largest, `id ${id}`);
    });
    const out = place < 0 || place >= SHOWN;
    if (out) shown.push(row(text(data.chosen[at]), end.probability, end.drawn, end.cut, true, largest, `rank ${data.chosenRanks[at] + 1}`));
    const sum = (values) => values.slice(0, SHOWN).reduce((a, b) => a + b, 0);
    const rest = Math.max(0, 1 - sum(result.probabilities) - (out ? end.probability : 0));
    const restDrawn = Math.max(0, 1 - sum(result.drawn) - (out ? end.drawn : 0));
    chart.replaceChildren(
      h("div", { class: "bar head" }, h("span", { class: "name" }, "next token"),
        h("span", { class: "track" }, h("span", {}, "0"), h("span", {}, `${100 * largest} %`)),
        h("span", { class: "number" }, "probability"), h("span", { class: "number" }, "drawn with")),
      ...shown,
      h("div", { class: "bar quiet" }, h("span", { class: "name" }, `${(data.vocabulary - shown.length).toLocaleString("en")} others`),
        h("span", { class: "track" }), h("span", { class: "number" }, percent(rest)),
        h("span", { class: "number" }, restDrawn > 5e-4 ? percent(restDrawn) : "–")));
  }

  // The sampler's settings. Each slider walks through a list of values; the recorded one is always in it.
  const LISTS = {
    temperature: Array.from({ length: 39 }, (_, i) => (i + 2) / 20),
    top_k: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 64, 100, 200, 500, 1000, null],
    top_p: [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99, 0.995, null],
    min_p: [null, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1],
  };
  const notes = {}, sliders = {}, knobs = h("div", { class: "knobs" });
  for (const [name, list] of Object.entries(LISTS)) {
    if (!list.includes(recorded[name])) list.push(recorded[name]);
    const empty = name === "min_p" ? -1 : Infinity;
    list.sort((a, b) => (a ?? empty) - (b ?? empty));
    notes[name] = h("span", { class: "quiet", "data-testid": `note-${name}` });
    sliders[name] = slider(CUT_NAMES[name] ?? name, {
      min: 0, max: list.length - 1, value: list.indexOf(recorded[name]), testid: name,
      format: (i) => (list[i] === null ? "off" : name === "temperature" ? list[i].toFixed(2) : String(list[i])),
    }, (i) => { settings[name] = list[i]; settings.greedy = false; greedy.set(false); change(); });
    knobs.append(sliders[name], notes[name]);
  }
  const greedy = toggle("greedy: always the best", recorded.greedy, (value) => { settings.greedy = value; change(); }, "greedy");
  notes.greedy = h("span", { class: "quiet", "data-testid": "note-greedy" });
  const reset = button("as recorded", () => {
    settings = { ...recorded };
    for (const name of Object.keys(LISTS)) sliders[name].set(LISTS[name].indexOf(recorded[name]));
    greedy.set(recorded.greedy);
    change();
  }, "reset");
  knobs.append(greedy, notes.greedy);

  function drawNotes() {
    const result = results[at];
    for (const name of Object.keys(notes)) {
      const took = result.cuts[name];
      notes[name].textContent = !took ? "" : took.count < 0.5 ? "cuts nothing here"
        : `cuts ${counted(took.count)}, ${percent(took.mass)}`;
    }
    notes.temperature.textContent = settings.greedy ? "" : `entropy ${result.entropy.toFixed(2)} bits`;
    const end = fate(at), name = `“${text(data.chosen[at])}”`;
    const left = result.count < 1.5 ? "one token is left" : `${counted(result.count)} are left`;
    status.say(h("div", {}, `Step ${data.first + at}: `, h("b", { class: "mono" }, name),
      ` was chosen. At these settings ${left}; `,
      end.cut ? `${name} could not be chosen: ${CUT_NAMES[end.cut]} cuts it.` : `${name} is drawn with ${percent(end.drawn)}.`),
    h("div", { class: "quiet" }, `cache ${data.cache[at]} · ${data.milliseconds[at]} ms`, at === 0 && data.first === 0 ? " (with reading the prompt)" : "",
      recorded.repetition_penalty > 1 ? ` · after a repetition penalty of ${recorded.repetition_penalty}` : ""));
  }

  const counted = (count) => {
    const exact = Math.abs(count - Math.round(count)) < 1e-9;
    const number = count < 1000 || exact ? Math.round(count) : Number(count.toPrecision(2));
    return `${exact ? "" : "about "}${number.toLocaleString("en")} ${number === 1 ? "token" : "tokens"}`;
  };

  // What the whole text would have been worth at these settings.
  const verdict = h("div", { "data-testid": "verdict" });

  function drawVerdict() {
    const ends = data.chosen.map((_, i) => fate(i)), lost = ends.findIndex((end) => end.cut);
    const count = ends.filter((end) => end.cut).length;
    const bits = -ends.reduce((total, end) => total + Math.log2(end.drawn), 0);
    verdict.replaceChildren(...(lost >= 0
      ? [`At these settings ${count} of the ${n} tokens could not be chosen (× in the curve): first “${text(data.chosen[lost])}” at step ${data.first + lost}.`]
      : bits < 0.005 ? ["At these settings the whole text is certain to come again."]
      : ["At these settings the whole text comes again with probability 2", h("sup", {}, `−${bits.toFixed(1)}`),
        `, as ${Math.round(bits)} coins in a row that show heads.`]));
  }

  // What each layer would have answered.
  const lens = data.lens && { ids: unpack(data.lens.ids), probabilities: unpack(data.lens.probabilities) };
  const layers = h("div", { class: "lens mono", "data-testid": "lens" });

  function drawLens() {
    const [, l, m] = lens.ids.shape;
    layers.replaceChildren(...Array.from({ length: l }, (_, layer) => h("div", { class: "layer" },
      h("span", { class: "number" }, layer),
      Array.from({ length: m }, (_, j) => {
        const place = (at * l + layer) * m + j, id = lens.ids.values[place], p = lens.probabilities.values[place];
        return h("span", { class: `chip${id === data.chosen[at] ? " chosen" : ""}`, "data-testid": "chip",
          onpointerenter: () => { lensNote.textContent = `layer ${layer}, place ${j + 1}: “${text(id)}” with ${percent(p)}`; },
          style: { background: blues(0.85 * Math.sqrt(p)), color: p > 0.6 ? "#fff" : "#222" } }, text(id));
      }))));
  }

  const status = readout("", "status");
  const lensNote = h("div", { class: "quiet", role: "status", "data-testid": "lens-note" });
  const scrub = slider("step", { min: 0, max: n - 1, value: 0, format: (i) => `${data.first + i}`, testid: "step" }, (i) => go(i));

  function drawStrip() {
    tokens.forEach((token, i) => {
      token.className = `token${i === at ? " now" : i > at ? " later" : ""}`;
      token.style.background = i > at ? "none" : `rgba(204,121,167,${(0.65 * (1 - fate(i).probability)).toFixed(3)})`;
      token.style.textDecoration = fate(i).cut ? "line-through" : "none";
    });
    const now = tokens[at];
    strip.scrollTop = clamp(strip.scrollTop, now.offsetTop + now.offsetHeight + 20 - strip.clientHeight, now.offsetTop - 20);
  }

  function drawStep() {
    drawStrip(); drawCurve(); drawBars(); drawNotes();
    if (lens) drawLens();
  }

  function go(i) {
    at = clamp(i, 0, n - 1);
    scrub.set(at);
    drawStep();
  }

  function change() {
    results = tops.map((top, i) => recut(top, groups[i], settings));
    drawStep(); drawVerdict();
  }

  const legend = h("div", { class: "legend quiet" }, [["p", "probability"], ["gain", "gained from what was cut"], ["hatch", "cut"],
    ["mark", "chosen"]].map(([name, label]) => h("span", {}, h("i", { class: name }), label)));
  const choosing = h("div", { class: "choosing" }, h("div", {}, h("b", {}, "Choose differently"), " ", reset), knobs, verdict,
    h("div", { class: "quiet" }, "Computed from the recorded logits, without the model. ",
      g ? "The 64 best are exact; the others come in groups, so a count beyond them is an estimate." : ""));
  const layering = h("div", {}, h("b", {}, "What each layer would have said"),
    h("div", { class: "quiet" }, "Its best tokens, the darker the more probable; the chosen one has a frame."), layers, lensNote);

  el.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || event.target.tagName === "INPUT") return;
    event.preventDefault();
    go(at + move);
  });

  dress(el, "generation", STYLE);
  el.append(
    h("div", { class: "controls" }, button("◀", () => go(at - 1), "back"), button("▶", () => go(at + 1), "on"), scrub,
      h("span", { class: "quiet" }, "or click a token; the darker its ground, the more surprising it was")),
    strip, curve,
    h("div", { class: "panes" }, h("div", { class: "pane" }, chart, legend, status, lens ? choosing : null),
      h("div", { class: "pane" }, lens ? layering : choosing)));
  strip.setAttribute("tabindex", 0);
  change();
}

const STYLE = `
& .strip { font: 13px/1.6 "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre-wrap; max-height: 172px; overflow-y: auto; position: relative;
  padding: 2px 4px; margin-bottom: 4px; overflow-wrap: anywhere; }
& .prompt { color: #767676; }
& .token { cursor: pointer; border-radius: 2px; padding: 1px 0; box-shadow: inset -1px 0 #fff; }
& .token.later { color: #a5a5a5; }
& .token.now { outline: 2px solid #E69F00; outline-offset: 0; }
& .bar { display: flex; align-items: center; gap: 8px; height: 19px; }
& .bar .name { flex: 0 0 112px; text-align: right; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
& .bar .track { flex: 1 1 120px; position: relative; height: 13px; border-left: 1px solid #767676; }
& .bar .track span { position: absolute; left: 0; top: 0; height: 100%; }
& .bar .number { flex: 0 0 76px; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
& .bar.head { color: #595959; font-size: 12px; }
& .bar.head .track { border: 0; height: 18px; }
& .bar.head .track span:last-child { left: auto; right: 0; }
& .p { background: #0072B2; min-width: 1px; }
& .gain { background: #9ecae1; }
& .hatch, & .cut .p { background: repeating-linear-gradient(45deg, #bdbdbd 0 3px, #fff 3px 6px); outline: 1px solid #767676; outline-offset: -1px; }
& .bar.cut { color: #595959; }
& .bar.chosen { background: #FDF3DF; }
& .bar.chosen .name { font-weight: bold; color: #222; }
& .bar.chosen .name span { border-bottom: 3px solid #E69F00; }
& .pane { flex: 1 1 380px; min-width: 0; }
& .choosing { margin-top: 8px; }
& .legend { display: flex; flex-wrap: wrap; gap: 0 14px; margin: 2px 0 8px; }
& .legend i { display: inline-block; width: 14px; height: 10px; margin-right: 4px; }
& .legend i.mark { height: 3px; vertical-align: middle; background: #E69F00; }
& .knobs { display: grid; grid-template-columns: auto 1fr; gap: 3px 10px; align-items: center; margin: 6px 0; }
& .knobs label { display: grid; grid-template-columns: 84px 130px 40px; }
& .knobs label:has([type=checkbox]) { display: inline-flex; }
& .knobs input[type=range] { width: 130px; }
& .layer { display: flex; gap: 2px; height: 17px; align-items: center; }
& .layer .number { flex: 0 0 22px; text-align: right; padding-right: 6px; color: #595959; }
& .chip { flex: 1 1 60px; max-width: 116px; min-width: 0; height: 16px; padding: 0 5px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; line-height: 16px; }
& .chip.chosen { outline: 2px solid #E69F00; outline-offset: -2px; }
`;
