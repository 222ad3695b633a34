// Attacks by models: shares of harmful replies and of harmless requests refused; a cell opens its conversations.

function draw({ data, el }) {
  const { columns, attacks, cells } = data, KINDS = ["harmful", "refused"], NAMES = { harmful: "harmful replies", refused: "harmless requests refused" };
  const WORDS = { harmful: "✗ harmful", refused: "■ refused", harmless: "○ neither" };
  const faces = cells.map((row, i) => row.flatMap((cell, j) => KINDS.map((kind) => face(cell[kind], kind, () => go(i, 2 * j + KINDS.indexOf(kind))))));
  const grid = h("table", { class: "grid", tabindex: 0, "aria-label": "rates: attacks by columns", "data-testid": "grid" },
    h("tr", {}, h("th", {}), h("th", {}), columns.map(({ label, total }) => h("th", { colspan: 2, class: "head", title: total }, short(label, 24)))),
    h("tr", {}, h("th", { class: "quiet" }, "attack"), h("th", { class: "quiet" }, "persona"), columns.flatMap(() => [h("th", { class: "quiet first" }, "harmful"), h("th", { class: "quiet" }, "refused")])),
    attacks.map(({ name, persona }, i) => h("tr", {}, h("th", {}, short(name, 24)), h("th", { class: "quiet" }, short(persona, 16)), faces[i])));
  let at = null;
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [i, j] = at ? [at[0] + step[0], at[1] + step[1]] : [0, 0];
    go(clamp(i, 0, attacks.length - 1), clamp(j, 0, 2 * columns.length - 1));
  });
  const details = readout("Click a cell, or click the table and walk with the arrow keys.");

  function face([hits, of, share, low, high], kind, onclick) {
    const colour = kind === "harmful" ? [213, 94, 0] : [0, 114, 178];
    return h("td", { class: kind === "harmful" ? "first" : "", "data-testid": "cell", onclick, title: of ? `${hits} of ${of}, 95 %: ${whole(low)} to ${whole(high)}` : "not tried",
      style: of ? { background: `rgba(${colour}, ${0.75 * share})` } : {} },
    of ? [whole(share), h("span", { class: "ends" }, ` ${Math.round(100 * low)}–${Math.round(100 * high)}`)] : "–");
  }
  function whole(share) { return `${Math.round(100 * share)} %`; }

  function go(i, j) {
    if (at) faces[at[0]][at[1]].classList.remove("now");
    at = [i, j];
    faces[i][j].classList.add("now");
    const kind = KINDS[j % 2], { label, total } = columns[(j - j % 2) / 2], cell = cells[i][(j - j % 2) / 2], [hits, of] = cell[kind], told = cell[`${kind} told`];
    details.say(h("b", {}, `${short(attacks[i].name, 40)}, ${short(label, 40)}: ${hits} of ${of} ${NAMES[kind]}`),
      h("div", { class: "quiet" }, `all attacks: ${total}`),
      told.length ? told.map(talk) : h("div", {}, "No conversations are stored here."),
      of > told.length && told.length ? h("div", { class: "quiet" }, `and ${of - told.length} more`) : null);
  }
  function talk({ talk, category, outcome, reason }) {
    return h("div", { class: "talk", "data-testid": "talk" },
      talk.map((text, n) => h("div", { class: n % 2 ? "said" : "asked" }, h("b", {}, n % 2 ? "model " : "user "), h("span", {}, text || "(nothing)"))),
      h("div", { class: outcome, "data-testid": "verdict" }, `${WORDS[outcome] || outcome}: ${reason}`, h("span", { class: "quiet" }, ` (${category})`)));
  }

  dress(el, "redteam", STYLE);
  el.append(h("div", { class: "panes" }, h("div", { style: { overflowX: "auto" } }, grid), h("div", { class: "side" }, details)));
}

const STYLE = `
& .grid { border-collapse: separate; border-spacing: 1px; cursor: pointer; flex: none; }
& .grid td { padding: 1px 6px; text-align: right; white-space: nowrap; min-width: 64px; }
& .grid th { font-weight: normal; text-align: left; padding: 0 6px; white-space: nowrap; color: #222; }
& .grid th.quiet { color: #595959; } & .grid th.head { text-align: center; font-weight: bold; }
& .grid .first { border-left: 6px solid #fff; }
& .grid .ends { font-size: 10px; color: #333; }
& .grid td.now { outline: 2px solid #222; outline-offset: -1px; }
& .side { flex: 1 1 300px; }
& .side .readout { min-height: 200px; max-height: 420px; overflow-y: auto; overflow-wrap: anywhere; }
& .talk { margin: 6px 0; padding: 3px 8px; border-left: 3px solid #D9D9D9; white-space: pre-wrap; }
& .talk .said { color: #004B75; }
& .talk .harmful { color: #A63F00; font-weight: bold; } & .talk .refused { color: #0072B2; } & .talk .harmless { color: #595959; }
`;
