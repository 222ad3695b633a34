// The token strip: hover or walk through it for a token's id, bytes and place in the text.

function draw({ data, el }) {
  const pieces = data.pieces.map(([id, text, bytes, start, end, kind]) => ({ id, text, bytes, start, end, kind }));
  const hex = (bytes) => bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
  const label = (piece) => (piece.kind === "byte" ? `<${hex(piece.bytes)}>` : visible(piece.text) || "∅");
  const counts = new Map();
  for (const { id } of pieces) counts.set(id, (counts.get(id) ?? 0) + 1);

  const LOOKS = {
    byte: { background: "#fff", color: COLOURS.INK, outline: `1px dashed ${COLOURS.PURPLE}`, outlineOffset: "-1px" },
    control: { background: COLOURS.INK, color: "#fff" },
    unknown: { background: COLOURS.ORANGE, color: "#000" },
  };
  const boxes = pieces.map((piece, i) => h("span", {
    class: "token", role: "option", "data-testid": "token", tabindex: i === 0 ? 0 : -1,
    style: LOOKS[piece.kind] ?? { background: COLOURS.TINTS[i % COLOURS.TINTS.length], color: "#000" },
    onpointerenter: () => say(i), onfocus: () => say(i), onclick: () => boxes[i].focus(),
  }, label(piece), h("br"), h("small", {}, piece.id)));

  const KINDS = {
    normal: "a piece from the tokenizer's list",
    byte: "bytes that are no whole letter: the list has no piece for that letter, so it comes in parts",
    control: "a control token: not part of what is said, but a mark that the model knows from training",
    unknown: "unknown: the list has nothing for this",
  };
  const detail = readout("Hover a token, or walk through them with the arrow keys.");

  function say(i) {
    const piece = pieces[i], { bytes } = piece, letters = [...piece.text].length;
    boxes.forEach((box, j) => {
      box.classList.toggle("now", j === i);
      box.classList.toggle("same", j !== i && pieces[j].id === piece.id);
    });
    const inText = piece.end > piece.start ? `letters ${piece.start}–${piece.end} of the text` : `at letter ${piece.start} of the text`;
    const times = counts.get(piece.id);
    detail.say(
      h("div", {}, "token ", i, ": ", h("b", { class: "mono" }, `“${label(piece)}”`), ` · id ${piece.id} · ${inText}`),
      h("div", {}, bytes.length === 0 ? "no bytes" : [`${bytes.length} ${bytes.length === 1 ? "byte" : "bytes"} `, h("span", { class: "mono" }, hex(bytes)),
        ` = ${asText(bytes)}`], bytes.length > letters && letters > 0 ? `: ${letters} ${letters === 1 ? "letter" : "letters"}, for some need several bytes` : ""),
      h("div", {}, KINDS[piece.kind] ?? piece.kind),
      times > 1 ? h("div", {}, `${times} times in the text, always with this id, so always with the same vector in the embedding`) : null);
  }

  const asText = (bytes) => {
    const text = new TextDecoder().decode(new Uint8Array(bytes));
    return text.includes("\uFFFD") ? "no whole letter" : `“${visible(text)}”`;
  };

  const strip = h("div", { class: "strip mono", role: "listbox", "aria-label": "tokens", "data-testid": "strip", onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    boxes[clamp(boxes.indexOf(document.activeElement) + step, 0, boxes.length - 1)].focus();
  } }, boxes);
  const each = data.count ? ` · ${data.letters} letters, ${data.bytes} bytes, ${(data.bytes / data.count).toFixed(1)} bytes a token` : "";
  dress(el, "tokens", STYLE);
  el.append(h("div", {}, h("b", {}, data.head), each), strip,
    data.note ? h("div", { class: "quiet" }, `… ${data.note}`) : "", detail);
}

const STYLE = `
& .strip { max-height: 320px; overflow-y: auto; padding: 2px; margin: 4px 0 8px; font-size: 13px; line-height: 1.3; }
& .token { display: inline-block; margin: 1px; padding: 1px 4px; cursor: default; }
& .token small { opacity: 0.75; font-size: 10.5px; }
& .token.now { box-shadow: 0 0 0 2px #222; position: relative; z-index: 1; }
& .token.same { box-shadow: 0 0 0 2px #D55E00; }
& .readout { min-height: 6em; }
`;
