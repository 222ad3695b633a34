// The time machine: scrub through a generation, and cut its recorded distributions again.
//
// First the numbers (functions that know nothing of the page), then the parts of the picture, then draw(), which
// puts them together. Two objects go through all of it:
//   given  the recorded data, unpacked: see unpacked(); it does not change
//   state  { at: the step that is shown, settings: the sampler's, results: recut() of each step at these settings }
// A part returns { el, update }: what to put into the page, and what brings it up to the state.

const CUT_NAMES = { top_k: "top-k", top_p: "top-p", min_p: "min-p", greedy: "greedy" };
const CUTS = { top_k: topK, top_p: topP, min_p: minP }; // in the sampler's order

// ---- the numbers: one step at other settings -------------------------------------------------------------

// As in tinyphi/generation/sampling.py: temperature, then top-k, top-p, min-p, each on what the one before left.
// `logits` are the top ones, best first; `others` are groups of what follows, { n, centre, spread }, as
// show/generation.py explains. settings: { temperature, top_k, top_p, min_p, greedy }, null for a cut that is off.
// Returns for the top tokens `probabilities` (before the cuts), `cut` (the cut's name or null) and `drawn` (what
// they are drawn with); and the entropy, and what each cut took.
function recut(logits, others, settings) {
  const k = logits.length, items = itemsAt(settings.greedy ? 1 : settings.temperature, logits, others);
  const { sum, entropy } = weigh(items);
  const cuts = {};
  if (settings.greedy) cuts.greedy = cutOff("greedy", items, k, (item, i) => (i === 0 ? 1 : 0));
  else {
    for (const [name, part] of Object.entries(CUTS)) {
      if (settings[name] !== null) cuts[name] = cutOff(name, items, k, part(items, settings[name], k));
    }
  }
  const kept = items.reduce((total, item) => total + item.mass * item.part, 0);
  const count = items.reduce((total, item) => total + item.n * item.part, 0);
  const top = items.slice(0, k);
  return {
    probabilities: top.map((item) => item.mass), cut: top.map((item) => item.cut ?? null),
    drawn: top.map((item) => item.mass * item.part / kept),
    entropy: Math.abs(entropy) / Math.LN2, cuts, kept, count, best: items[0].value, sum,
  };
}

// The top tokens, then the groups, at temperature T. Of each: n tokens, their value (of a group the centre), the
// logarithm of what they weigh together, their mean value as their probabilities weigh it, and a group's width.
function itemsAt(T, logits, others) {
  // Rounded to float32, as the library divides: what is equal there is equal here.
  const values = Array.from(logits, (x) => Math.fround(x / Math.fround(T)));
  const items = values.map((value) => ({ n: 1, value, log: value, mean: value, width: 0 }));
  let edge = values[values.length - 1]; // no member of a group is above the centre of the group before
  for (const { n, centre, spread } of others) {
    const value = Math.fround(centre / Math.fround(T));
    items.push({
      n, value, log: Math.log(n) + Math.min(value + spread / T / T / 2, edge),
      mean: Math.min(value + spread / T / T, edge),
      width: Math.sqrt(3 * spread) / T, // to both sides, if they are spread evenly
    });
    edge = value;
  }
  return items;
}

// The softmax: each item gets its mass, and a part of 1, for all of its tokens are left. The entropy is in nats.
function weigh(items) {
  const best = items[0].value;
  let sum = 0;
  for (const item of items) sum += item.mass = Math.exp(item.log - best);
  let entropy = Math.log(sum);
  for (const item of items) {
    item.mass /= sum;
    item.part = 1;
    entropy -= item.mass * (item.mean - best);
  }
  return { sum, entropy };
}

// Leave of each item no more than part(item, i), and note the cut's name at the k top tokens. What it took.
function cutOff(name, items, k, part) {
  const took = { count: 0, mass: 0 };
  items.forEach((item, i) => {
    const left = Math.min(item.part, part(item, i));
    took.count += item.n * (item.part - left);
    took.mass += item.mass * (item.part - left);
    if (left < item.part && i < k) item.cut = name;
    item.part = left;
  });
  return took;
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

function minP(items, p, k) {
  const least = p * items[0].mass, value = items[0].value + Math.log(p);
  return (item, i) => i < k ? +(item.mass >= least)
    : item.width > 0 ? clamp((item.value + item.width - value) / (2 * item.width), 0, 1) : +(item.value >= value);
}

// ---- the numbers: the whole generation -------------------------------------------------------------------

// n steps, k top tokens each: tops[i] and groups[i] are what recut() takes, ids[i] the top tokens, places[i] the
// chosen one's place among them, or −1.
function unpacked(data) {
  const { shape: [n, k], values: ids } = unpack(data.ids), logits = unpack(data.logits).values;
  const others = unpack(data.others).values, g = data.counts.length;
  const steps = Array.from({ length: n }, (_, i) => i), top = (values, i) => values.subarray(i * k, (i + 1) * k);
  return {
    ...data, n, k,
    ids: steps.map((i) => top(ids, i)), tops: steps.map((i) => top(logits, i)),
    groups: steps.map((i) => data.counts.map((count, j) =>
      ({ n: count, centre: others[2 * (i * g + j)], spread: others[2 * (i * g + j) + 1] }))),
    places: steps.map((i) => top(ids, i).indexOf(data.chosen[i])),
    chosenLogits: unpack(data.chosenLogits).values,
    recorded: { ...data.settings, temperature: data.settings.temperature ?? 1 },
    lens: data.lens && { ids: unpack(data.lens.ids), probabilities: unpack(data.lens.probabilities) },
  };
}

// What became of the token that was chosen at step i, at the present settings.
function fate({ places, chosenLogits, chosenRanks }, { results, settings }, i) {
  const result = results[i], place = places[i];
  if (place >= 0) return { probability: result.probabilities[place], cut: result.cut[place], drawn: result.drawn[place] };
  const probability = Math.exp(chosenLogits[i] / settings.temperature - result.best) / result.sum;
  // Beyond the top 64: it is left if at least as many tokens are.
  const cut = result.count > chosenRanks[i] ? null : Object.keys(result.cuts).findLast((name) => result.cuts[name].count > 0);
  return { probability, cut, drawn: cut ? 0 : probability / result.kept };
}

// The values that each slider walks through; the recorded one is always among them, null is a cut that is off.
function settingLists(recorded) {
  const lists = {
    temperature: Array.from({ length: 39 }, (_, i) => (i + 2) / 20),
    top_k: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 64, 100, 200, 500, 1000, null],
    top_p: [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99, 0.995, null],
    min_p: [null, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1],
  };
  for (const [name, list] of Object.entries(lists)) {
    const off = name === "min_p" ? -1 : Infinity;
    if (!list.includes(recorded[name])) list.push(recorded[name]);
    list.sort((a, b) => (a ?? off) - (b ?? off));
  }
  return lists;
}

const tokenText = ({ texts }, id) => visible(texts[id]) || "∅";

function counted(count) {
  const exact = Math.abs(count - Math.round(count)) < 1e-9;
  const number = count < 1000 || exact ? Math.round(count) : Number(count.toPrecision(2));
  return `${exact ? "" : "about "}${number.toLocaleString("en")} ${number === 1 ? "token" : "tokens"}`;
}

// ---- the parts: all steps --------------------------------------------------------------------------------

// The text: each token can be clicked; the more surprising it was, the darker.
function textStrip(given, state, go) {
  const tokens = given.chosen.map((id, i) => {
    const raw = given.texts[id], blank = tokenText(given, id) + (raw.includes("\n") ? "\n" : "");
    return h("span", { class: "token", "data-testid": "token", title: `step ${given.first + i}`, onclick: () => go(i) },
      raw.trim() === "" ? blank : raw.replace(/\n/g, "↵\n"));
  });
  const el = h("div", { class: "strip", "data-testid": "strip", tabindex: 0 },
    given.promptHidden ? h("span", { class: "prompt" }, `… ${given.promptHidden} tokens … `) : null,
    h("span", { class: "prompt" }, given.prompt.join("")), tokens);

  function update() {
    const { at } = state;
    tokens.forEach((token, i) => {
      const { probability, cut } = fate(given, state, i);
      token.className = `token${i === at ? " now" : i > at ? " later" : ""}`;
      token.style.background = i > at ? "none" : `rgba(204,121,167,${(0.65 * (1 - probability)).toFixed(3)})`;
      token.style.textDecoration = cut ? "line-through" : "none";
    });
    const now = tokens[at];
    el.scrollTop = clamp(el.scrollTop, now.offsetTop + now.offsetHeight + 20 - el.clientHeight, now.offsetTop - 20);
  }
  return { el, update };
}

// Entropy over the steps, with a cross at each token that the settings cut.
function entropyCurve(given, state, go) {
  const W = 860, H = 100, L = 34, B = 16; // pixels: width, height, and of these what is left and below for words
  const { n, first } = given, x = (i) => L + (n === 1 ? 0.5 : i / (n - 1)) * (W - L - 12);
  const line = s("g"), cursor = s("g");
  const el = s("svg", {
    viewBox: `0 0 ${W} ${H}`, width: W, style: { maxWidth: "100%", cursor: "pointer" },
    role: "img", "aria-label": "entropy at each step", "data-testid": "curve",
    onclick: (event) => {
      const box = el.getBoundingClientRect();
      go(Math.round(((event.clientX - box.left) / box.width * W - L) / (W - L - 12) * (n - 1)));
    },
  }, line, cursor);
  const words = (x, y, attrs, text) => s("text", { x, y, "text-anchor": "middle", "font-size": 12, ...attrs }, text);

  function update() {
    const { results, at } = state;
    const highest = Math.max(1, Math.ceil(Math.max(...results.map((result) => result.entropy))));
    const y = (bits) => H - B - bits / highest * (H - B - 8), middle = (H - B) / 2 + 4;
    const places = results.map((result, i) => [x(i), y(result.entropy)]);
    line.replaceChildren(
      ...[0, highest].flatMap((bits) => [
        s("line", { x1: L, x2: W - 8, y1: y(bits), y2: y(bits), stroke: COLOURS.PALE }),
        words(L - 5, y(bits) + 4, { "text-anchor": "end" }, bits)]),
      words(10, middle, { transform: `rotate(-90 10 ${middle})` }, "bits"),
      s("polyline", {
        points: places.map((place) => place.map((pixels) => pixels.toFixed(1))).join(" "),
        fill: "none", stroke: COLOURS.RED, "stroke-width": 1.5,
      }),
      ...(n <= 120 ? places.map(([cx, cy]) => s("circle", { cx, cy, r: 2.2, fill: COLOURS.RED })) : []),
      ...places.filter((_, i) => fate(given, state, i).cut).map(([cx, cy]) =>
        words(cx, cy + 5, { "font-size": 15, "font-weight": "bold" }, "×")));
    cursor.replaceChildren(
      s("line", { x1: x(at), x2: x(at), y1: 4, y2: H - B, stroke: COLOURS.ORANGE, "stroke-width": 2 }),
      s("circle", { cx: places[at][0], cy: places[at][1], r: 4, fill: COLOURS.ORANGE, stroke: "#fff" }),
      words(clamp(x(at), L + 20, W - 40), H - 3, {}, `step ${first + at}`));
  }
  return { el, update };
}

// What the whole text would have been worth at these settings.
function verdictLine(given, state) {
  const el = h("div", { "data-testid": "verdict" });
  function update() {
    const ends = given.chosen.map((_, i) => fate(given, state, i)), lost = ends.findIndex((end) => end.cut);
    const count = ends.filter((end) => end.cut).length;
    const bits = -ends.reduce((total, end) => total + Math.log2(end.drawn), 0);
    el.replaceChildren(...(lost >= 0
      ? [`At these settings ${count} of the ${given.n} tokens could not be chosen (× in the curve): first “${tokenText(given, given.chosen[lost])}” at step ${given.first + lost}.`]
      : bits < 0.005 ? ["At these settings the whole text is certain to come again."]
      : ["At these settings the whole text comes again with probability 2", h("sup", {}, `−${bits.toFixed(1)}`),
        `, as ${Math.round(bits)} coins in a row that show heads.`]));
  }
  return { el, update };
}

// ---- the parts: one step ---------------------------------------------------------------------------------

function barChart(given, state) {
  const { ids, k, places, chosen, chosenRanks, vocabulary } = given, most = Math.min(12, k);
  const el = h("div", { class: "chart", "data-testid": "bars" });
  function update() {
    const { at, results } = state, result = results[at], end = fate(given, state, at);
    const highest = Math.max(...result.probabilities.slice(0, most), ...result.drawn.slice(0, most));
    const largest = [0.05, 0.1, 0.2, 0.35, 0.5].find((limit) => highest <= limit) ?? 1;
    const shown = Array.from(ids[at].slice(0, most), (id, j) => oneBar(tokenText(given, id), {
      probability: result.probabilities[j], drawn: result.drawn[j], cut: result.cut[j],
    }, j === places[at], largest, `id ${id}`));
    const out = places[at] < 0 || places[at] >= most; // then the chosen one has a bar of its own
    if (out) shown.push(oneBar(tokenText(given, chosen[at]), end, true, largest, `rank ${chosenRanks[at] + 1}`));
    const rest = (values, own) =>
      Math.max(0, 1 - values.slice(0, most).reduce((a, b) => a + b, 0) - (out ? own : 0));
    const drawn = rest(result.drawn, end.drawn);
    el.replaceChildren(
      h("div", { class: "bar head" }, h("span", { class: "name" }, "next token"),
        h("span", { class: "track" }, h("span", {}, "0"), h("span", {}, `${100 * largest} %`)),
        h("span", { class: "number" }, "probability"), h("span", { class: "number" }, "drawn with")),
      ...shown,
      h("div", { class: "bar quiet" },
        h("span", { class: "name" }, `${(vocabulary - shown.length).toLocaleString("en")} others`),
        h("span", { class: "track" }), h("span", { class: "number" }, percent(rest(result.probabilities, end.probability))),
        h("span", { class: "number" }, drawn > 5e-4 ? percent(drawn) : "–")));
  }
  return { el, update };
}

function oneBar(label, { probability, drawn, cut }, chosen, largest, title) {
  const share = (value) => `${Math.min(100, 100 * value / largest)}%`;
  return h("div", {
    class: `bar${cut ? " cut" : ""}${chosen ? " chosen" : ""}`, title, "data-testid": "bar", "data-cut": cut ?? "",
  },
  h("span", { class: "name mono" }, h("span", {}, label)),
  h("span", { class: "track" },
    h("span", { class: "gain", style: { width: share(drawn) } }),
    h("span", { class: "p", style: { width: share(probability) } })),
  h("span", { class: "number" }, percent(probability)),
  h("span", { class: "number" }, cut ? `cut: ${CUT_NAMES[cut]}` : percent(drawn)));
}

const legend = () => h("div", { class: "legend quiet" },
  [["p", "probability"], ["gain", "gained from what was cut"], ["hatch", "cut"], ["mark", "chosen"]].map(
    ([name, label]) => h("span", {}, h("i", { class: name }), label)));

// What happened to the chosen token, in words.
function statusBox(given, state) {
  const el = readout("", "status");
  function update() {
    const { at, results } = state, { count } = results[at], end = fate(given, state, at);
    const step = given.first + at, name = `“${tokenText(given, given.chosen[at])}”`;
    const left = count < 1.5 ? "one token is left" : `${counted(count)} are left`;
    const penalty = given.recorded.repetition_penalty;
    el.say(
      h("div", {}, `Step ${step}: `, h("b", { class: "mono" }, name), ` was chosen. At these settings ${left}; `,
        end.cut ? `${name} could not be chosen: ${CUT_NAMES[end.cut]} cuts it.` : `${name} is drawn with ${percent(end.drawn)}.`),
      h("div", { class: "quiet" }, `cache ${given.cache[at]} · ${given.milliseconds[at]} ms`,
        step === 0 ? " (with reading the prompt)" : "",
        penalty > 1 ? ` · after a repetition penalty of ${penalty}` : ""));
  }
  return { el, update };
}

// What each layer would have answered.
function layerChips(given, state) {
  const { lens, chosen } = given, [, l, m] = lens.ids.shape;
  const layers = h("div", { class: "lens mono", "data-testid": "lens" });
  const note = h("div", { class: "quiet", role: "status", "data-testid": "lens-note" });
  function chip(layer, j) {
    const place = (state.at * l + layer) * m + j, id = lens.ids.values[place], p = lens.probabilities.values[place];
    const text = tokenText(given, id);
    return h("span", {
      class: `chip${id === chosen[state.at] ? " chosen" : ""}`, "data-testid": "chip",
      onpointerenter: () => { note.textContent = `layer ${layer}, place ${j + 1}: “${text}” with ${percent(p)}`; },
      style: { background: blues(0.85 * Math.sqrt(p)), color: p > 0.6 ? "#fff" : "#222" },
    }, text);
  }
  function update() {
    layers.replaceChildren(...Array.from({ length: l }, (_, layer) => h("div", { class: "layer" },
      h("span", { class: "number" }, layer), Array.from({ length: m }, (_, j) => chip(layer, j)))));
  }
  const el = h("div", {}, h("b", {}, "What each layer would have said"),
    h("div", { class: "quiet" }, "Its best tokens, the darker the more probable; the chosen one has a frame."), layers, note);
  return { el, update };
}

// ---- the parts: the sampler's settings -------------------------------------------------------------------

// A slider for each setting and a note of what it does at this step. `change` is called when a setting has changed.
function samplerKnobs({ recorded }, state, change) {
  const lists = settingLists(recorded), sliders = {}, notes = {};
  const note = (name) => notes[name] = h("span", { class: "quiet", "data-testid": `note-${name}` });
  const set = (settings) => { Object.assign(state.settings, settings); greedy.set(state.settings.greedy); change(); };
  const el = h("div", { class: "knobs" });
  for (const [name, list] of Object.entries(lists)) {
    sliders[name] = slider(CUT_NAMES[name] ?? name, {
      min: 0, max: list.length - 1, value: list.indexOf(recorded[name]), testid: name,
      format: (i) => (list[i] === null ? "off" : name === "temperature" ? list[i].toFixed(2) : String(list[i])),
    }, (i) => set({ [name]: list[i], greedy: false }));
    el.append(sliders[name], note(name));
  }
  const greedy = toggle("greedy: always the best", recorded.greedy, (on) => set({ greedy: on }), "greedy");
  el.append(greedy, note("greedy"));
  const reset = button("as recorded", () => {
    for (const [name, list] of Object.entries(lists)) sliders[name].set(list.indexOf(recorded[name]));
    set(recorded);
  }, "reset");

  function update() {
    const { cuts, entropy } = state.results[state.at];
    for (const name of Object.keys(notes)) {
      const took = cuts[name];
      notes[name].textContent = !took ? "" : took.count < 0.5 ? "cuts nothing here"
        : `cuts ${counted(took.count)}, ${percent(took.mass)}`;
    }
    notes.temperature.textContent = state.settings.greedy ? "" : `entropy ${entropy.toFixed(2)} bits`;
  }
  return { el, reset, update };
}

// ---- all together ----------------------------------------------------------------------------------------

function draw({ data, el }) {
  const given = unpacked(data), state = { at: 0, settings: { ...given.recorded }, results: [] };
  const strip = textStrip(given, state, go), curve = entropyCurve(given, state, go);
  const chart = barChart(given, state), status = statusBox(given, state);
  const knobs = samplerKnobs(given, state, change), verdict = verdictLine(given, state);
  const layers = given.lens ? layerChips(given, state) : null;
  const scrub = slider("step", { min: 0, max: given.n - 1, value: 0, format: (i) => `${given.first + i}`, testid: "step" }, go);

  function go(i) {
    state.at = clamp(i, 0, given.n - 1);
    scrub.set(state.at);
    showStep();
  }
  function change() {
    state.results = given.tops.map((top, i) => recut(top, given.groups[i], state.settings));
    showStep();
    verdict.update();
  }
  function showStep() {
    for (const part of [strip, curve, chart, knobs, status]) part.update();
    if (layers) layers.update();
  }

  const choosing = h("div", { class: "choosing" }, h("div", {}, h("b", {}, "Choose differently"), " ", knobs.reset),
    knobs.el, verdict.el, h("div", { class: "quiet" }, "Computed from the recorded logits, without the model. ",
      given.counts.length ? "The 64 best are exact; the others come in groups, so a count beyond them is an estimate." : ""));
  dress(el, "generation", STYLE);
  el.append(
    h("div", { class: "controls" },
      button("◀", () => go(state.at - 1), "back"), button("▶", () => go(state.at + 1), "on"), scrub,
      h("span", { class: "quiet" }, "or click a token; the darker its ground, the more surprising it was")),
    strip.el, curve.el,
    h("div", { class: "panes" }, h("div", { class: "pane" }, chart.el, legend(), status.el, layers ? choosing : null),
      h("div", { class: "pane" }, layers ? layers.el : choosing)));
  arrowKeys(el, (by) => go(state.at + by));
  change();
}

function arrowKeys(el, move) {
  el.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.target.tagName === "INPUT") return;
    event.preventDefault();
    move(by);
  });
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
