// What several stages of a model answer to the same prompt; all marks at a glance.

function draw({ data, el }) {
  const { prompts, stages } = data, SIGNS = new Map([[true, "✓"], [false, "✗"], [null, "·"]]), WORDS = new Map([[true, "right"], [false, "wrong"], [null, "not marked"]]);
  let at = 0;
  const chooser = select("prompt", prompts.map((prompt, i) => [i, `${i + 1}. ${short(prompt.replace(/\s+/g, " "), 70)}`]), 0, (value) => go(+value), "prompt");
  const cells = stages.map(({ label, right }) => right.map((mark, i) => h("td", {
    class: String(mark), "data-testid": "mark", title: `${i + 1}. ${short(prompts[i], 80)} – ${label}: ${WORDS.get(mark)}`, onclick: () => go(i) }, SIGNS.get(mark))));
  const grid = h("table", { class: "marks", tabindex: 0, "aria-label": "marks: stages by prompts", "data-testid": "marks" },
    stages.map(({ label, total }, row) => h("tr", {}, h("th", {}, short(label, 24)), h("th", { class: "quiet" }, total), cells[row])));
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    go(clamp(at + step, 0, prompts.length - 1));
  });
  const question = h("pre", { class: "question", "data-testid": "question" }), columns = h("div", { class: "columns", role: "status", "aria-live": "polite" });
  dress(el, "answers", STYLE);
  el.append(h("div", { style: { overflowX: "auto" } }, grid), h("div", { class: "controls" }, chooser,
    button("◀ previous", () => go(clamp(at - 1, 0, prompts.length - 1)), "previous"), button("next ▶", () => go(clamp(at + 1, 0, prompts.length - 1)), "next")), question, columns);
  go(0);

  function go(i) {
    at = i;
    chooser.querySelector("select").value = i;
    question.textContent = prompts[i];
    cells.forEach((row) => row.forEach((cell, j) => cell.classList.toggle("now", j === i)));
    columns.replaceChildren(...stages.map(({ label, answers, right }) => h("div", { class: `column ${right[i]}`, "data-testid": "answer" },
      h("div", { class: "head" }, h("b", {}, short(label, 30)), right[i] === null ? "" : ` ${SIGNS.get(right[i])} ${WORDS.get(right[i])}`),
      h("pre", {}, answers[i] || "(nothing)"))));
  }
}

const STYLE = `
& .marks { margin-bottom: 6px; }
& .marks td { padding: 0 3px; min-width: 15px; text-align: center; cursor: pointer; }
& .marks th { text-align: left; font-weight: normal; white-space: nowrap; }
& .marks td.true { color: #0072B2; } & .marks td.false { color: #D55E00; } & .marks td.null { color: #767676; }
& .marks td.now { background: #FCE8C3; }
& .controls select { max-width: 460px; }
& .question { padding: 5px 8px; background: #f7f7f7; border-left: 3px solid #0072B2; font-weight: bold; max-height: 180px; overflow-y: auto; }
& .columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 10px; margin-top: 8px; }
& .column { border: 1px solid #D9D9D9; border-top: 3px solid #767676; padding: 4px 8px; max-height: 320px; overflow-y: auto; overflow-wrap: anywhere; }
& .column.true { border-top-color: #0072B2; } & .column.false { border-top-color: #D55E00; }
& .column .head { margin-bottom: 3px; }
`;
