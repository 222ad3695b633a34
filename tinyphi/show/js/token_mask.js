// A row of a batch: which tokens are targets, where documents begin, and what each target cost.

function draw({ data, el }) {
  const tokens = data.tokens.map(([id, text, kind, document, loss]) => ({ id, text, kind, document, loss }));
  const label = (token) => visible(token.text) || "∅", name = (i) => h("b", { class: "mono" }, `“${short(label(tokens[i]), 30)}”`);
  const shade = (loss) => blues(0.12 + 0.8 * (data.most ? loss / data.most : 0));
  const look = ({ kind, loss }) => (kind === "counted" && loss !== null ? { background: shade(loss), color: loss > 0.5 * data.most ? "#fff" : "#000" } : {});
  const boxes = tokens.map((token, i) => h("span", {
    class: `token ${token.kind}`, role: "option", "data-testid": "token", tabindex: i === 0 ? 0 : -1, style: look(token),
    onpointerenter: () => say(i), onfocus: () => say(i), onclick: () => boxes[i].focus(),
  }, label(token)));

  // One group for each document, and for each stretch of padding.
  const groups = [];
  tokens.forEach((token, i) => {
    if (i === 0 || tokens[i - 1].document !== token.document) groups.push([]);
    groups.at(-1).push(i);
  });
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const blocks = groups.map((group) => {
    const counted = group.map((i) => tokens[i]).filter(({ kind }) => kind === "counted"), losses = counted.map(({ loss }) => loss).filter((loss) => loss !== null);
    const words = tokens[group[0]].document ? `document ${tokens[group[0]].document}: ${counted.length} of ${group.length} count${losses.length ? `, mean loss ${fourDigits(mean(losses))}` : ""}` : `padding: ${group.length}`;
    return h("div", { role: "group", "aria-label": words }, h("div", { class: "quiet", "data-testid": "document" }, words), h("div", {}, group.map((i) => boxes[i])));
  });

  const details = readout("Hover a token, or walk through them with the arrow keys.");
  const before = (i) => ["After token ", i - 1, ", ", name(i - 1), ", the model has to say "];
  const WHY = {
    counted: (i) => [...before(i), name(i), ", and is taught to."],
    read: () => ["The model reads it, but is not taught to say it: its label is −100."],
    first: () => ["It begins a document: no token before it belongs to the same one, so nothing predicts it."],
    padding: () => ["Padding, which only fills up the row: no token sees it."],
  };
  function say(i) {
    const { id, kind, loss } = tokens[i];
    boxes.forEach((box, j) => {
      box.classList.toggle("now", j === i);
      box.classList.toggle("from", j === i - 1 && kind === "counted");
    });
    details.say(
      h("div", {}, `token ${i}: `, name(i), ` · id ${id} · target: ${kind === "counted" ? id : "none"}`), h("div", {}, WHY[kind](i)),
      loss === null ? null : h("div", {}, `Loss ${fourDigits(+loss.toPrecision(4))} nats: the model gave it a probability of ${percent(Math.exp(-loss))}.`));
  }

  const strip = h("div", { class: "strip mono", role: "listbox", "aria-label": "tokens of the row", "data-testid": "strip", onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    boxes[clamp(boxes.indexOf(event.target) + step, 0, boxes.length - 1)].focus();
  } }, blocks);
  const scale = data.most ? [h("span", { class: "scale" }), ` loss 0 … ${fourDigits(+data.most.toPrecision(3))} nats`] : [h("span", { class: "token counted" }, "counts")];
  dress(el, "token-mask", STYLE);
  el.append(h("b", {}, data.head), h("div", { class: "quiet" }, ...scale, " ", h("span", { class: "token read" }, "only read"), " ", h("span", { class: "token padding" }, "padding")),
    strip, data.note ? h("div", { class: "quiet" }, `… ${data.note}`) : "", details);
}

const STYLE = `
& .strip { max-height: 360px; overflow-y: auto; padding: 2px; margin: 4px 0 8px; font-size: 13px; line-height: 1.5; }
& .token { display: inline-block; margin: 1px; padding: 0 4px; cursor: default; background: #fff; color: #595959; border-bottom: 2px solid #D9D9D9; }
& .token.counted { background: #D6EAF8; color: #000; font-weight: bold; border-bottom-color: #0072B2; }
& .token.padding { background: #D9D9D9; }
& .token.now { box-shadow: 0 0 0 2px #222; position: relative; z-index: 1; }
& .token.from { box-shadow: 0 0 0 2px #D55E00; }
& .scale { display: inline-block; width: 90px; height: 10px; background: linear-gradient(90deg, rgb(217,231,245), rgb(107,174,214), rgb(8,65,135)); }
& .readout { min-height: 5.5em; }
`;
