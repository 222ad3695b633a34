// The logit lens as a grid layer × token; a hover lists what a cell holds.

function draw({ data, el }) {
  const ids = unpack(data.ids), probabilities = unpack(data.probabilities).values;
  const entropies = unpack(data.entropies).values, ranks = unpack(data.ranks).values, final = unpack(data.final).values;
  const [l, t, k] = ids.shape, most = Math.log2(data.vocabulary);
  const text = (id) => visible(data.texts[id]) || "∅";
  const answer = (j) => ids.values[((l - 1) * t + j) * k];

  // Each way to colour: 0 … 1, where 1 is dark.
  const WAYS = {
    probability: ["probability of the best token", (place) => probabilities[place * k], "0", "100 %"],
    entropy: ["entropy (dark: undecided)", (place) => entropies[place] / most, "0 bits", `${most.toFixed(1)} bits`],
    rank: ["rank of the final answer (dark: first)", (place) => 1 - Math.log(ranks[place]) / Math.log(data.vocabulary),
      `rank ${data.vocabulary.toLocaleString("en")}`, "rank 1"],
  };
  let way = "probability", at = null;

  const cells = Array.from({ length: l * t }, (_, place) => h("td", {
    "data-testid": "cell", onpointerenter: () => go(Math.floor(place / t), place % t),
  }, text(ids.values[place * k])));
  const heads = data.labels.map((label) => h("th", { class: "mono", title: visible(label) }, visible(label) || "∅"));
  const sides = data.names.map((name) => h("th", {}, name));
  const table = h("table", { class: "grid mono", tabindex: 0, "aria-label": "best token of each layer at each token" },
    h("tr", {}, h("th", {}), heads),
    data.names.map((_, i) => h("tr", {}, sides[i], cells.slice(i * t, (i + 1) * t))));
  table.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [i, j] = at ?? [l - 1, t - 1];
    go(clamp(i + step[0], 0, l - 1), clamp(j + step[1], 0, t - 1));
    cells[at[0] * t + at[1]].scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  function paint() {
    cells.forEach((cell, place) => {
      const x = WAYS[way][1](place);
      cell.style.background = blues(x);
      cell.style.color = x > 0.62 ? "#fff" : "#222";
    });
    scale.replaceChildren(WAYS[way][2], h("span", { class: "scale" }), WAYS[way][3]);
  }

  const detail = readout("Hover a cell, or click the grid and walk with the arrow keys.");
  function go(i, j) {
    if (at) cells[at[0] * t + at[1]].classList.remove("now");
    at = [i, j];
    const place = i * t + j;
    cells[place].classList.add("now");
    const items = Array.from({ length: k }, (_, m) => {
      const id = ids.values[place * k + m], value = probabilities[place * k + m];
      return { label: text(id), value, chosen: id === answer(j), note: percent(value), title: `id ${id}` };
    });
    const last = `“${text(answer(j))}”`;
    detail.say(
      h("div", {}, "after ", h("b", { class: "mono" }, visible(data.labels[j])), ", layer ", h("b", {}, data.names[i]), " would say:"),
      bars(items, 90),
      h("div", {}, `entropy ${entropies[place].toFixed(2)} bits`),
      h("div", {}, i === l - 1 ? "This is the model's answer."
        : `The model's answer ${last} is here at rank ${ranks[place].toLocaleString("en")}, with ${percent(final[place])}.`),
      i === l - 1 ? null : h("div", {}, firstTime(j)));
    trace(j);
  }

  // From which layer on the answer of column j is the best.
  function firstTime(j) {
    let i = l - 1;
    while (i > 0 && ranks[(i - 1) * t + j] === 1) i--;
    return `It is the best from layer ${data.names[i]} on.`;
  }

  function trace(j) { // the cells of this column that already have the answer on top
    cells.forEach((cell, place) => cell.classList.toggle("answer", place % t === j && ids.values[place * k] === answer(j)));
  }

  const scroll = h("div", { class: "scroll" }, table);
  requestAnimationFrame(() => { scroll.scrollLeft = scroll.scrollWidth; }); // the last token is the one that matters
  const scale = h("span", { class: "quiet", style: { display: "inline-flex", gap: "6px", alignItems: "center" } });
  dress(el, "lens", STYLE);
  el.append(
    h("div", { class: "controls" },
      select("colour", Object.entries(WAYS).map(([name, [label]]) => [name, label]), way, (name) => { way = name; paint(); }, "colour"),
      scale, h("span", { class: "quiet" }, data.note)),
    h("div", { class: "lens" }, scroll, h("div", { class: "side" }, detail)),
    h("div", { class: "quiet" }, "Columns: the tokens read. Rows: the layers, from first to last. Each cell: the token that this layer would put next."));
  paint();
}

const STYLE = `
& .lens { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; }
& .scroll { flex: 1 1 0; min-width: min(300px, 100%); max-width: max-content; overflow: auto; max-height: 640px; }
& .side { flex: 0 0 290px; }
& .side .readout { min-height: 200px; }
& .grid { border-collapse: separate; border-spacing: 1px; cursor: crosshair; }
& .grid td { min-width: 58px; max-width: 92px; height: 17px; padding: 0 5px; text-align: center; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; line-height: 17px; }
& .grid th { font-weight: normal; padding: 0 5px; line-height: 17px; background: #fff; color: #595959; }
& .grid tr:first-child th { position: sticky; top: 0; text-align: center; color: #222; font-weight: bold; max-width: 92px; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; z-index: 1; }
& .grid th:first-child { position: sticky; left: 0; z-index: 1; }
& .grid td.answer { outline: 2px solid #E69F00; outline-offset: -2px; }
& .grid td.now { outline: 2px solid #222; outline-offset: -1px; }
& .scale { width: 90px; height: 10px; background: linear-gradient(90deg, rgb(247,251,255), rgb(158,202,225), rgb(66,146,198), rgb(8,48,107)); }
`;
