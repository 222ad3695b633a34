// A few weights under the microscope: the levels of their group, the code of each, the bytes, and what other codes would do.

// The nearest whole number, of two equally near the even one, as torch.round has it.
function even(x) {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 ? near - 1 : near;
}

// A float32 rounded to the nearest float16.
function half(x) {
  const exponent = ((new Uint32Array(new Float32Array([x]).buffer)[0] >>> 23) & 255) - 127;
  const step = 2 ** (Math.max(exponent, -14) - 10);
  return even(x / step) * step;
}

// Weights to the nearest levels, as tinyphi/quant/groupwise.py does it: { codes, scales, minima }, all in float32.
function rounded(weights, bits, size, withMinima) {
  const groups = weights.length / size, codes = new Int32Array(weights.length);
  const scales = new Float32Array(groups), minima = withMinima ? new Float32Array(groups) : null;
  const top = withMinima ? 2 ** bits - 1 : 2 ** (bits - 1) - 1, bottom = withMinima ? 0 : -top;
  for (let group = 0; group < groups; group++) {
    const here = weights.subarray(group * size, (group + 1) * size), low = Math.min(...here), high = Math.max(...here);
    const start = withMinima ? half(low) : 0;
    const reach = Math.max(0, withMinima ? Math.fround(high - start) : Math.max(high, -low));
    let scale = half(Math.fround(reach / top));
    if (scale * (top + 0.5) < reach) scale += 2 ** -24; // one unit of the smallest float16 numbers
    here.forEach((weight, i) => {
      const steps = even(Math.fround(Math.fround(weight - start) / (scale || 1)));
      codes[group * size + i] = clamp(steps, bottom, top) + zeroOf(bits, minima);
    });
    scales[group] = scale;
    if (withMinima) minima[group] = start;
  }
  return { codes, scales, minima };
}

// The code that stands for 0.0 where there are no minima; codes of 8 bits are signed.
const zeroOf = (bits, minima) => (minima || bits === 8 ? 0 : 2 ** (bits - 1));

const binary = (code, bits) => (code & (2 ** bits - 1)).toString(2).padStart(bits, "0");
const signed = (value, words) => `${value < 0 ? "−" : "+"}${words.replace("−", "")}`;
const share = (error) => `${+(100 * error).toPrecision(3)} %`;

function draw({ data, el }) {
  const weights = unpack(data.weight).values, count = weights.length;
  const given = measured({
    bits: data.bits, size: count / unpack(data.scales).values.length, bytes: data.bytes, name: "as given",
    codes: unpack(data.codes).values, scales: unpack(data.scales).values, minima: data.minima && unpack(data.minima).values,
  });
  const sizes = [16, 32, 64, 128].filter((size) => count % size === 0);
  let now = given, group = data.group, chosen = null, withMinima = Boolean(given.minima);

  function measured(coding) {
    const { bits, size, codes, scales, minima } = coding, zero = zeroOf(bits, minima);
    const worth = Float32Array.from(codes, (code, i) => {
      const scaled = (code - zero) * scales[Math.floor(i / size)];
      return minima ? scaled + minima[Math.floor(i / size)] : scaled;
    });
    const squares = (f) => weights.reduce((sum, weight, i) => sum + f(weight, i) ** 2, 0);
    const error = Math.sqrt(squares((weight, i) => worth[i] - weight) / (squares((weight) => weight) || 1));
    return { ...coding, worth, error, perWeight: 8 * coding.bytes / count };
  }

  function roundedHere(bits, size) {
    const bytes = count * bits / 8 + count / size * (withMinima ? 4 : 2);
    return measured({ bits, size, bytes, name: "rounded", ...rounded(weights, bits, size, withMinima) });
  }

  const allRounded = () => [2, 3, 4, 8].flatMap((bits) => sizes.map((size) => roundedHere(bits, size)));
  const details = readout("Point at a weight to see its arithmetic, or at a byte.");
  const levels = h("div", { "data-testid": "levels" }), bytes = h("div", { class: "bytes", "data-testid": "bytes" });
  const table = h("div", { "data-testid": "table" }), others = h("div", { "data-testid": "others" });
  const groupSlider = slider("group", { min: 0, max: count / now.size - 1, value: group, testid: "group" }, (next) => { group = next; chosen = null; update(); });
  const bitsSelect = select("codes", [["given", "as given"], ...(sizes.length ? [2, 3, 4, 8] : []).map((bits) => [String(bits), `rounded here to ${bits} bits`])],
    "given", change, "bits");
  const sizeSelect = select("groups of", sizes.map((size) => [String(size), String(size)]), String(sizes.includes(given.size) ? given.size : sizes[0]), resize, "size");
  const minimaToggle = toggle("with minima", withMinima, (on) => { withMinima = on; alternatives = allRounded(); resize(); }, "minima");
  let alternatives = allRounded(), plot = null;
  dress(el, "microscope", STYLE);
  el.append(h("div", { class: "controls" }, groupSlider, bitsSelect, ...(sizes.length ? [sizeSelect, minimaToggle] : [])),
    h("div", { class: "quiet" }, key(COLOURS.BLUE, "was", "●"), key(COLOURS.ORANGE, "is now, on one of the levels; above them their codes", "■")),
    h("div", { class: "panes" }, levels, h("div", {}, table, others)), details,
    h("div", { class: "quiet", style: { margin: "8px 0 2px" } }, "the bytes of the group's codes, each bit where it is stored; one tint is one weight"), bytes);
  update();

  // Another group size or minima: rounds again, to as many bits as are shown.
  function resize() {
    const input = bitsSelect.querySelector("select");
    if (input.value === "given") input.value = String(given.bits);
    change();
  }

  function change() {
    const bits = bitsSelect.querySelector("select").value, first = group * now.size;
    now = bits === "given" ? given : alternatives.find((one) => one.bits === +bits && one.size === +sizeSelect.querySelector("select").value);
    group = Math.floor(first / now.size);
    groupSlider.querySelector("input").max = count / now.size - 1;
    groupSlider.set(group);
    chosen = null;
    update();
  }

  function pick(one) {
    if (one !== given) sizeSelect.querySelector("select").value = String(one.size);
    bitsSelect.querySelector("select").value = one === given ? "given" : String(one.bits);
    change();
  }

  function point(i) {
    if (i === chosen) return;
    chosen = i;
    mark();
    const { bits, size, minima } = now, code = now.codes[i], of = Math.floor(i / size), zero = zeroOf(bits, minima);
    const scale = fourDigits(now.scales[of]), off = now.worth[i] - weights[i];
    const product = minima ? `${code} · ${scale} ${signed(minima[of], ` ${fourDigits(minima[of])}`)}` : zero ? `(${code} − ${zero}) · ${scale}` : `${fourDigits(code)} · ${scale}`;
    const error = weights[i] === 0 ? signed(off, fourDigits(off)) : signed(off / weights[i], `${fourDigits(+(100 * off / weights[i]).toPrecision(2))} %`);
    details.say(h("b", {}, `Weight ${i}`), `: code ${fourDigits(code)} = ${binary(code, bits)}₂ → ${product} = `, h("b", {}, fourDigits(now.worth[i])),
      `, was ${fourDigits(weights[i])}, error ${error}. Stored as ${where(i)}.`);
  }

  function where(i) {
    const { bits } = now, byte = Math.floor(i * bits / 8);
    if (bits === 8) return `byte ${byte}`;
    if (bits === 4) return `the ${i % 2 ? "high" : "low"} half of byte ${byte}`;
    return `the bits ${i * bits} … ${(i + 1) * bits - 1}, counted from the lowest of byte 0`;
  }

  function update() {
    plot = drawLevels();
    levels.replaceChildren(plot.el);
    bytes.replaceChildren(...drawBytes());
    table.replaceChildren(drawTable());
    others.replaceChildren(...(sizes.length ? [drawOthers()] : []));
    groupSlider.style.display = count > now.size ? "" : "none";
    details.say("Point at a weight to see its arithmetic, or at a byte.");
  }

  // One row a weight: a dot where it was, a square on the level where it landed.
  function drawLevels() {
    const { bits, size, minima } = now, first = group * size, rows = Array.from({ length: size }, (_, i) => first + i);
    const most = 1.2 * (rows.reduce((best, i) => Math.max(best, Math.abs(weights[i]), Math.abs(now.worth[i])), 0) || 1);
    const tall = clamp(380 / size, 4, 14), every = Math.ceil(12 / tall);
    const made = plotAxes({ width: 350, height: Math.max(150, size * tall + 66), testid: "rows", label: "weights and the levels on which they landed",
      x: { low: -most, high: most, label: "value" }, y: { low: first + size - 0.4, high: first - 0.6 - 16 / tall, label: "weight", ticks: rows.filter((i) => (i - first) % every === 0).map((i) => [i, String(i)]) } });
    const zero = zeroOf(bits, minima), begin = bits === 8 && !minima ? -128 : 0;
    const grid = Array.from({ length: 2 ** bits }, (_, k) => [begin + k, (begin + k - zero) * now.scales[group] + (minima ? minima[group] : 0)]).filter(([, value]) => Math.abs(value) <= most);
    const apart = grid.length > 1 ? Math.abs(made.x(grid[1][1]) - made.x(grid[0][1])) : 99;
    const r = clamp(tall / 3, 1.6, 3.6);
    made.highlight = s("rect", { x: made.bounds.left, width: made.bounds.right - made.bounds.left, height: tall, fill: "#FBEDE4", visibility: "hidden" });
    made.marks.append(made.highlight,
      ...grid.map(([, value]) => s("line", { x1: made.x(value), x2: made.x(value), y1: made.bounds.top + 14, y2: made.bounds.bottom, stroke: "#B9C7D1", "stroke-width": bits === 8 ? 0.3 : 1 })),
      ...(apart < 14 ? [] : grid.map(([code, value]) => s("text", { x: made.x(value), y: made.bounds.top + 10, "font-size": 10, "text-anchor": "middle" }, code))),
      ...rows.flatMap((i) => [
        s("line", { x1: made.x(weights[i]), x2: made.x(now.worth[i]), y1: made.y(i), y2: made.y(i), stroke: COLOURS.INK, "stroke-width": 1.3 }),
        s("rect", { x: made.x(now.worth[i]) - r, y: made.y(i) - r, width: 2 * r, height: 2 * r, fill: COLOURS.ORANGE }),
        s("circle", { cx: made.x(weights[i]), cy: made.y(i), r, fill: COLOURS.BLUE })]));
    made.el.addEventListener("pointermove", (event) => point(clamp(Math.round(made.y.back(event.clientY - made.el.getBoundingClientRect().top)), first, first + size - 1)));
    made.el.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      point(clamp(chosen === null ? first : chosen + step, first, first + size - 1));
    });
    made.tall = tall;
    return made;
  }

  // The highest bit of each byte stands first. Weights follow each other from the lowest bit of byte 0 upward.
  function drawBytes() {
    const { bits, size, codes } = now, start = group * size * bits / 8;
    const bit = (k) => codes[Math.floor(k / bits)] >> (k % bits) & 1;
    return Array.from({ length: size * bits / 8 }, (_, n) => {
      const places = [7, 6, 5, 4, 3, 2, 1, 0].map((p) => 8 * (start + n) + p), owners = [...new Set(places.map((k) => Math.floor(k / bits)))];
      const value = places.reduce((sum, k) => 2 * sum + bit(k), 0);
      return h("span", { class: "byte mono", "data-testid": "byte", title: `byte ${start + n}` },
        owners.map((i) => h("span", { class: i % 2 ? "odd" : "even", "data-weight": i, onpointerenter: () => point(i) }, places.filter((k) => Math.floor(k / bits) === i).map(bit).join(""))),
        h("span", { class: "hex" }, value.toString(16).toUpperCase().padStart(2, "0")));
    });
  }

  function drawTable() {
    const row = (one) => h("tr", {}, h("td", { style: { textAlign: "left" } }, one.name), [one.bits, one.size, one.bytes, one.perWeight.toFixed(2), share(one.error)].map((words) => h("td", {}, words)));
    return h("table", {}, h("tr", {}, ["", "bits", "group", "bytes", "bits/weight", "error"].map((words) => h("th", {}, words))), row(given), now === given ? null : row(now));
  }

  // What other codes cost and lose.
  function drawOthers() {
    const all = [given, ...alternatives].filter((one) => one.error > 0);
    if (!all.length) return "";
    const errors = all.map((one) => 100 * one.error), signs = { 2: COLOURS.PURPLE, 3: COLOURS.GREEN, 4: COLOURS.BLUE, 8: COLOURS.INK };
    const made = plotAxes({ width: 316, height: 230, testid: "trade", label: "error against bits a weight, for other codes",
      x: { low: 1.5, high: 1 + Math.max(...all.map((one) => one.perWeight)), label: "bits a weight, scales included", ticks: [2, 3, 4, 5, 6, 7, 8, 9].map((bits) => [bits, bits]) },
      y: { low: Math.min(...errors) / 1.6, high: Math.max(...errors) * 1.6, log: true, label: "error in % (log scale)" } });
    let near = null;
    made.watch(all.map((one) => one.perWeight), (at, y) => {
      const same = all.filter((one) => Math.abs(one.perWeight - all[at].perWeight) < 1e-9);
      near = y === undefined ? all[at] : same.reduce((best, one) => Math.abs(Math.log(100 * one.error / y)) < Math.abs(Math.log(100 * best.error / y)) ? one : best);
      details.say(h("b", {}, `${near.bits} bits, groups of ${near.size}, ${near.name}`), `: ${near.bytes} bytes, ${fourDigits(near.perWeight)} bits a weight, error ${share(near.error)}. Click to look at it.`);
    });
    made.el.addEventListener("click", () => near && pick(near));
    made.marks.append(...all.map((one) => {
      const at = { cx: made.x(one.perWeight), cy: made.y(100 * one.error) };
      return one === given ? s("rect", { x: at.cx - 6, y: at.cy - 6, width: 12, height: 12, fill: COLOURS.ORANGE }) : s("circle", { ...at, r: 4, fill: signs[one.bits] });
    }), s("circle", { cx: made.x(now.perWeight), cy: made.y(Math.max(100 * now.error, Math.min(...errors))), r: 8, fill: "none", stroke: COLOURS.RED, "stroke-width": 2 }));
    return h("div", {}, made.el, h("div", { class: "quiet", style: { maxWidth: "316px" } }, key(COLOURS.ORANGE, "given", "■"), [2, 3, 4, 8].map((bits) => key(signs[bits], `${bits} bits`, "●"))));
  }

  function mark() {
    plot.highlight.setAttribute("y", plot.y(chosen) - plot.tall / 2);
    plot.highlight.setAttribute("visibility", "visible");
    for (const one of bytes.querySelectorAll("[data-weight]")) one.classList.toggle("now", +one.dataset.weight === chosen);
  }
}

const STYLE = `
& th, & td { padding: 1px 4px; font-size: 12px; }
& .bytes { display: flex; flex-wrap: wrap; gap: 4px 10px; }
& .byte { display: inline-block; white-space: nowrap; }
& .byte > span { padding: 1px 0; }
& .even { background: #D6EAF8; } & .odd { background: #FCE8C3; }
& .now { background: #222; color: #fff; }
& .hex { color: #595959; margin-left: 4px; }
`;
