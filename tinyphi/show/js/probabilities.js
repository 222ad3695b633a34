// The most probable next tokens as bars; what one hovers is said in numbers.

function draw({ data, el }) {
  const { bars: items, rest, vocabulary, kept } = data;
  const best = items[0].probability, cutting = kept < 0.99999;
  const exactly = (p) => percent(p, p > 0 ? `${(100 * p).toExponential(1)} %` : "0 %");
  const detail = readout("Hover a bar, or walk through them with the arrow keys.");
  let sum = 0;
  const sums = items.map((item) => (sum += item.probability)); // the last one may be out of the order of ranks
  let logarithmic = false;

  function say(i) {
    const item = items[i], name = `“${visible(item.text)}”`;
    const bytes = item.text.includes("\uFFFD") ? "a part of a letter"
      : item.bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ") || "none";
    const gap = Math.log(best / item.probability);
    detail.say(
      h("div", {}, h("b", { class: "mono" }, name), ` · id ${item.id} · bytes ${bytes}`),
      h("div", {}, `probability ${exactly(item.probability)}, rank ${item.rank} of ${vocabulary.toLocaleString("en")}`,
        item.rank === i + 1 && i > 0 ? `; with all above it ${exactly(sums[i])}` : ""),
      h("div", {}, item.rank === 1 ? "the best: its logit is the largest"
        : item.probability === 0 ? "its logit is so far below the best that the softmax gives 0"
        : [`its logit is ${gap.toFixed(2)} below the best; e`, h("sup", {}, gap.toFixed(2)), ` = ${ratio(Math.exp(gap))}, and so many times less probable it is`]),
      cutting ? h("div", {}, item.cut ? `cut by ${item.cut.replace(/_/g, "-")}: it cannot be drawn`
        : `left by the sampler, and drawn with ${exactly(item.probability / kept)}`) : null);
  }

  const ratio = (x) => (x < 10 ? x.toFixed(2) : x < 1e4 ? Math.round(x).toLocaleString("en") : x.toExponential(1));
  // On the logarithmic scale the bars begin at a factor of 10 below the least.
  const least = Math.log10(Math.min(...items.map((item) => item.probability).filter((p) => p > 0), best)) - 1;
  const length = (p) => (logarithmic ? (p > 0 ? (Math.log10(p) - least) / (Math.log10(best) - least) : 0) : p / best);

  const rows = items.map((item, i) => h("div", {
    class: `bar${item.cut ? " cut" : ""}${item.chosen ? " chosen" : ""}`, tabindex: i === 0 ? 0 : -1, "data-testid": "bar",
    onpointerenter: () => mark(i), onfocus: () => mark(i),
  }, h("span", { class: "name mono" }, visible(item.text) || "∅"),
  h("span", { class: "track" }, h("span", { class: "p" })),
  h("span", { class: "number" }, exactly(item.probability)),
  h("span", { class: "remark" }, item.cut ? "cut" : "", item.chosen ? " ← chosen" : "", item.rank > i + 1 ? ` (rank ${item.rank})` : "")));

  function mark(i) {
    rows.forEach((row, j) => row.classList.toggle("now", j === i));
    say(i);
  }

  function resize() {
    rows.forEach((row, i) => { row.querySelector(".p").style.width = `${100 * length(items[i].probability)}%`; });
  }

  const list = h("div", { class: "list", onkeydown: (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    rows[clamp(rows.indexOf(document.activeElement) + step, 0, rows.length - 1)].focus();
  } }, rows, h("div", { class: "bar quiet" }, h("span", { class: "name" }, `${(vocabulary - items.length).toLocaleString("en")} others`),
    h("span", { class: "track" }), h("span", { class: "number" }, exactly(rest)), h("span", { class: "remark" })));
  dress(el, "probabilities", STYLE);
  el.append(h("div", { class: "controls" }, h("b", {}, data.head),
    toggle("logarithmic scale", false, (value) => { logarithmic = value; resize(); }, "logarithmic")), list, detail);
  resize();
}

const STYLE = `
& .list { max-width: 720px; margin-bottom: 8px; }
& .bar { display: flex; align-items: center; gap: 8px; height: 19px; }
& .bar .name { flex: 0 0 130px; text-align: right; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
& .bar .track { flex: 1 1 160px; height: 13px; border-left: 1px solid #767676; }
& .bar .p { display: block; height: 100%; background: #0072B2; min-width: 1px; }
& .bar .number { flex: 0 0 64px; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
& .bar .remark { flex: 0 0 110px; white-space: nowrap; }
& .bar.cut { color: #595959; }
& .cut .p { background: repeating-linear-gradient(45deg, #bdbdbd 0 3px, #fff 3px 6px); outline: 1px solid #767676; outline-offset: -1px; }
& .bar.chosen { background: #FDF3DF; }
& .bar.now { background: #e6eef5; }
& .bar:focus-visible { outline-offset: -1px; }
`;
