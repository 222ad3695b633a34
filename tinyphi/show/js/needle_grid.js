// How deep in how long a text a needle is found; a cell tells what was asked, what is true and what was answered.

function draw({ data, el }) {
  const { lengths, depths, shares, trials, counts, within, trained } = data, columns = lengths.length;
  const cells = shares.map((row, i) => row.map((share, j) => h("td", {
    "data-testid": "cell", class: [share === null ? "none" : "", j === within ? "beyond" : ""].join(" "), onpointerenter: () => go(i, j),
    style: share === null ? {} : { background: blues((share + 0.15) / 1.15), color: share > 0.55 ? "#fff" : "#222" },
  }, share === null ? "–" : String(Math.round(100 * share)))));
  const table = h("table", { class: "grid", tabindex: 0, "aria-label": "share found: depths by lengths", "data-testid": "grid" },
    h("tr", {}, h("th", {}, "depth"), lengths.map((length, j) => h("th", { class: j === within ? "beyond" : "" }, length))),
    depths.map((depth, i) => h("tr", {}, h("th", {}, `${depth} %`), cells[i])));
  let at = null;
  table.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [i, j] = at ? [at[0] + step[0], at[1] + step[1]] : [0, 0];
    go(clamp(i, 0, depths.length - 1), clamp(j, 0, columns - 1));
  });

  const details = readout("Point at a cell, or click the grid and walk with the arrow keys.");
  function go(i, j) {
    if (at) cells[at[0]][at[1]].classList.remove("now");
    at = [i, j];
    cells[i][j].classList.add("now");
    const place = h("b", {}, `${lengths[j]} tokens, needle at ${depths[i]} %`), tried = counts[i][j];
    if (!tried) return details.say(place, ": not tried yet.");
    const more = tried - trials[i][j].length;
    details.say(place, `: ${percent(shares[i][j], "0 %")} found in ${tried} ${tried === 1 ? "trial" : "trials"}.`,
      h("div", { class: "quiet" }, trials[i][j][0].question), trials[i][j].map(told), more ? h("div", { class: "quiet" }, `and ${more} more`) : null);
  }
  const told = ({ truth, answer, score }) => h("div", {}, score === 1 ? "✓ " : score > 0 ? "◐ " : "✗ ",
    "answered ", h("span", { class: "mono" }, `“${visible(answer)}”`), score === 1 ? "" : [", true is ", h("b", { class: "mono" }, truth)]);

  dress(el, "needles", STYLE);
  el.append(
    h("div", { class: "controls quiet" }, "tokens of the prompt →", h("span", { style: { display: "inline-flex", gap: "6px", alignItems: "center" } },
      "0 % found", h("span", { class: "scale" }), "100 %"), within < columns ? h("span", {}, `red line: trained on ${trained} tokens`) : null),
    h("div", { class: "panes" }, table, h("div", { class: "side" }, details)));
}

const STYLE = `
& .grid { border-collapse: separate; border-spacing: 1px; cursor: crosshair; flex: none; }
& .grid td { min-width: 46px; height: 24px; padding: 0 4px; text-align: center; }
& .grid th { font-weight: normal; padding: 0 6px; color: #222; }
& .grid tr:first-child th { text-align: center; }
& .grid td.none { background: repeating-linear-gradient(135deg, #fff 0 4px, #d9d9d9 4px 5px); }
& .grid .beyond { border-left: 3px solid #D55E00; }
& .grid td.now { outline: 2px solid #222; outline-offset: -1px; }
& .side { flex: 1 1 290px; }
& .side .readout { min-height: 110px; }
& .scale { width: 90px; height: 10px; background: linear-gradient(90deg, rgb(222,235,247), rgb(158,202,225), rgb(66,146,198), rgb(8,48,107)); }
`;
