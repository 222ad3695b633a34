// The key/value cache over time: slots that are stored, spare, or were emptied behind the window.

const SEEN = 0, OUTSIDE = 1, SPARE = 2, FILLS = [COLOURS.BLUE, "#9CC7E4", COLOURS.PALE];

function draw({ data, el }) {
  const count = data.tokens.length, largest = Math.max(...data.room), most = Math.max(largest, ...data.tokens);
  const across = 48, each = Math.ceil(largest / 576), squares = Math.ceil(largest / each), rows = Math.ceil(squares / across);
  const visibleNow = (i) => data.window[i] === null ? data.stored[i] : Math.min(data.stored[i], data.window[i] - 1);
  const late = Math.floor(0.8 * count); // where the line of all tokens gets its name
  let step = count - 1;

  const details = readout("Point at a slot, or move along the curve.");
  const numbers = h("div", { "data-testid": "numbers", style: { margin: "2px 0 6px" } });
  const what = (slot) => slot >= data.room[step] ? null : slot >= data.stored[step] ? SPARE : slot < data.stored[step] - visibleNow(step) ? OUTSIDE : SEEN;
  const slots = heatmap({
    rows, cols: Math.min(across, squares), cell: 13, testid: "slots", label: "slots of the cache", colour: (x) => FILLS[x],
    value: (i, j) => i * across + j < squares ? what((i * across + j) * each) : null, onhover: (i, j) => saySlot((i * across + j) * each),
  });
  const time = plotAxes({ width: 640, height: 210, testid: "time", label: "tokens stored and room over time",
    x: { low: 0, high: Math.max(1, count - 1), label: "snapshot" }, y: { low: 0, high: most * 1.05, label: "tokens" } });
  time.watch(data.tokens.map((_, i) => i), (i) => { go(i); stepSlider.set(i); });
  const stepSlider = slider("snapshot", { min: 0, max: count - 1, value: step, testid: "step" }, go);
  const square = (colour, words) => key(colour, words, "■");
  const play = player("decode", { value: () => step, set: (i) => { go(i); stepSlider.set(i); }, most: count - 1,
    by: Math.ceil(count / 240), every: 80, testid: "play" });
  const windowed = data.window.some((window) => window !== null);
  el.append(
    h("div", { class: "controls" }, stepSlider, play), numbers, slots.el,
    h("div", { class: "quiet", style: { margin: "4px 0" } }, square(COLOURS.BLUE, "stored, seen by the next token"), windowed ? square(FILLS[OUTSIDE], "stored, outside of the window") : null,
      square("#BDBDBD", "spare room"), each > 1 ? `one square is ${each} tokens` : "one square is one token"),
    time.el, details);
  update();

  function go(next) { step = next; update(); sayStep(); }

  function saySlot(slot) {
    const first = data.tokens[step] - data.stored[step] + slot, kind = what(slot);
    const last = Math.min(slot + each, data.room[step], kind === SPARE || kind === null ? Infinity : data.stored[step]) - 1;
    const name = each > 1 && last > slot ? `Slots ${slot} … ${last}` : `Slot ${slot}`;
    const holds = each > 1 && last > slot ? `tokens ${first} … ${first + last - slot}` : `token ${first}`;
    details.say(h("b", {}, name), kind === null ? ": no memory taken for it yet." : kind === SPARE ? ": spare room, already taken from memory and waiting for a token."
      : `: key and value of ${holds} of the text, in every layer; ${kind === SEEN ? "the next token may look at it." : "outside of the window, to be dropped when the room is full."}`);
  }

  function sayStep() {
    if (step === 0) return details.say("The first snapshot.");
    const before = (name) => data[name][step - 1], now = (name) => data[name][step];
    const dropped = now("tokens") - now("stored") - before("tokens") + before("stored");
    const said = [`Snapshot ${step}; tokens since the one before: ${now("tokens") - before("tokens")}.`];
    if (now("room") !== before("room")) said.push(` The room was full: it grew from ${before("room")} to ${now("room")} tokens, and what was stored was copied.`);
    if (dropped > 0) said.push(` The room was full: ${dropped} tokens outside of the window were dropped at once.`);
    if (now("long_factors") !== before("long_factors")) said.push(" LongRoPE changed its factors: all keys were computed again.");
    return details.say(...said);
  }

  function update() {
    const [tokens, stored, room] = [data.tokens[step], data.stored[step], data.room[step]];
    numbers.replaceChildren("seen ", h("b", {}, tokens), " tokens · stored ", h("b", {}, stored), " · spare ", h("b", {}, room - stored),
      " · dropped ", h("b", {}, tokens - stored), " · memory ", h("b", {}, data.memory[step]), data.window[step] === null ? "" : ` · window ${data.window[step]}`);
    slots.redraw();
    const stairs = (values) => values.map((value, i) => `${i ? `H${time.x(i).toFixed(1)}V` : `M${time.x(0)} `}${time.y(value).toFixed(1)}`).join("");
    const area = (values) => `${stairs(values)}V${time.y(0)}H${time.x(0)}Z`;
    time.marks.replaceChildren(
      s("path", { d: area(data.room), fill: "#E9E9E9" }), s("path", { d: area(data.stored), fill: FILLS[OUTSIDE] }),
      s("path", { d: area(data.stored.map((_, i) => visibleNow(i))), fill: COLOURS.BLUE }),
      s("path", { d: stairs(data.room), fill: "none", stroke: COLOURS.INK }),
      data.tokens.some((value, i) => value !== data.stored[i]) ? s("path", { d: stairs(data.tokens), fill: "none", stroke: COLOURS.RED, "stroke-width": 1.4 }) : "",
      data.tokens.some((value, i) => value !== data.stored[i]) ? s("text", { x: time.x(late) - 8, y: time.y(data.tokens[late]), "text-anchor": "end", "font-size": 11, style: { fill: COLOURS.RED } }, "seen so far") : "",
      ...data.long_factors.flatMap((value, i) => i && value !== data.long_factors[i - 1] ? [s("line", { x1: time.x(i), x2: time.x(i), y1: time.bounds.top, y2: time.bounds.bottom, stroke: COLOURS.PURPLE, "stroke-dasharray": "5 3" })] : []),
      s("line", { x1: time.x(step), x2: time.x(step), y1: time.bounds.top, y2: time.bounds.bottom, stroke: COLOURS.INK, "stroke-width": 1.5 }));
  }
}
