// The error of every matrix of a model as a map, its error against its bytes, and what keeping some in 8 bits would do.

function draw({ data, el }) {
  const { names, kinds, places, bytes, wide } = data, measures = Object.keys(data.errors), numbers = names.map((_, i) => i);
  const blocks = [...new Set(places.map(([, block]) => block))].sort((a, b) => a - b);
  const columns = places.map(([, block]) => blocks.indexOf(block));
  const free = numbers.filter((i) => data.kept[i] === null);
  let measure = measures[0], k = 0, chosen = null, order = [], ranks = [], parts = [];

  const inEight = (i) => data.kept[i] === null && ranks[i] < k;
  const error = (i) => (inEight(i) ? wide : data).errors[measure][i];
  const size = (i) => (inEight(i) ? wide : data).bytes[i];
  const sum = (f) => numbers.reduce((total, i) => total + f(i), 0);

  const details = readout("Point at a matrix.");
  const totals = h("div", { "data-testid": "totals", style: { margin: "2px 0 4px", minHeight: "1.5em" } });
  const map = h("div", {}), panes = h("div", { class: "panes" });
  const slide = wide && slider("most sensitive matrices in 8 bits", { min: 0, max: free.length, value: 0, testid: "k" }, keep);
  el.append(
    h("div", { class: "controls" }, measures.length > 1 ? select("error by", measures.map((one) => [one, one]), measure, show, "measure") : `error by ${measure}`, slide),
    totals, map, panes, details);
  show(measure);

  function show(next) {
    measure = next;
    order = [...free].sort((a, b) => data.errors[measure][b] - data.errors[measure][a]);
    order.forEach((i, place) => { ranks[i] = place; });
    parts = [drawMap(), drawScatter(), ...(wide ? [drawBudget()] : [])];
    map.replaceChildren(parts[0].el);
    panes.replaceChildren(...parts.slice(1).map((part) => part.el));
    update();
  }

  function keep(next) { k = next; update(); }

  // Moves and colours what is drawn already, so that the keyboard's focus stays where it is.
  function update() {
    const added = (errors) => [`errors by ${measure} add up to `, h("b", {}, fourDigits(+errors.toPrecision(3))), "."];
    const before = sum((i) => bytes[i]), now = sum(size);
    totals.replaceChildren("As given: ", h("b", {}, inUnits(before)), ", ", ...added(sum((i) => data.errors[measure][i])),
      ...(k ? [` With ${k} of ${free.length} in 8 bits: `, h("b", {}, inUnits(now)), ` (${inUnits(now - before)} more), `, ...added(sum(error))] : []));
    for (const part of parts) part.update();
    mark();
    if (chosen !== null) say(chosen);
  }

  function inUnits(value) {
    const power = value < 1024 ? 0 : value < 2 ** 20 ? 1 : value < 2 ** 30 ? 2 : 3;
    return power ? `${(value / 1024 ** power).toFixed(1)} ${["KiB", "MiB", "GiB"][power - 1]}` : `${value} bytes`;
  }

  function place(i) {
    const [row, block] = places[i];
    return h("b", {}, block < 0 ? kinds[row] : `Block ${block}, ${kinds[row]}`);
  }

  function point(i) {
    if (i === chosen) return;
    chosen = i;
    mark();
    say(i);
  }

  function say(i) {
    const by = measures.map((one) => `error by ${one} ${fourDigits(data.errors[one][i])}`).join(", ");
    const eight = wide && data.kept[i] === null ? ` In 8 bits: ${fourDigits(wide.errors[measure][i])}, ${inUnits(wide.bytes[i])}.` : "";
    const rest = data.kept[i] !== null ? ` Kept in more bits: ${data.kept[i]}` : ` Number ${ranks[i] + 1} of ${free.length} by ${measure}.`;
    details.say(place(i), `: ${by}; ${inUnits(bytes[i])}.${eight}${rest}${inEight(i) ? " Shown in 8 bits." : ""}`);
  }

  function mark() {
    for (const part of parts) if (part.mark) part.mark();
  }

  // Colours span the errors that were given, so that they stay comparable while the slider moves.
  function drawMap() {
    const given = (free.length ? free : numbers).map((i) => data.errors[measure][i]), most = Math.max(...given), least = Math.min(...given);
    const shade = (value) => blues(most > least ? 1 - (most - value) / (most - least) * 0.85 : 0.6);
    const left = 104, wideCell = clamp(Math.floor(620 / blocks.length), 5, 44), tall = 20, bottom = kinds.length * tall, gap = wideCell > 8 ? 1 : 0.5;
    const cells = numbers.map((i) => s("rect", { x: left + columns[i] * wideCell, y: places[i][0] * tall, width: wideCell - gap, height: tall - 1, "stroke-width": 2.5 }));
    const dot = (i, r, attrs) => s("circle", { cx: left + (columns[i] + 0.5) * wideCell - gap / 2, cy: (places[i][0] + 0.5) * tall - 0.5, r: Math.min(r, wideCell / 2), ...attrs });
    const dots = numbers.map((i) => data.kept[i] === null ? dot(i, 3.5, { fill: COLOURS.ORANGE }) : dot(i, 4.5, { fill: "#fff", stroke: COLOURS.INK }));
    const every = Math.ceil(22 / wideCell), words = (x, y, text, anchor, size = 11) => s("text", { x, y, "text-anchor": anchor, "font-size": size }, text);
    const svg = s("svg", { width: left + Math.max(blocks.length * wideCell, 560) + 4, height: bottom + 56, tabindex: 0, role: "img", "aria-label": "errors: kinds of matrices by blocks", "data-testid": "map" },
      kinds.map((kind, row) => words(left - 6, (row + 0.5) * tall + 3.5, short(kind, 15), "end")),
      blocks.map((block, j) => (j % every ? null : words(left + (j + 0.5) * wideCell, bottom + 13, block < 0 ? "–" : block, "middle", 10))),
      words(left + blocks.length * wideCell / 2, bottom + 28, blocks[0] < 0 ? "block (–: outside of the blocks)" : "block", "middle"),
      cells, dots, drawLegend(left, bottom + 48, least, most, words));
    watchCells(svg, (x, y) => [Math.floor(y / tall), Math.floor((x - left) / wideCell)]);
    return {
      el: svg,
      update: () => numbers.forEach((i) => {
        cells[i].setAttribute("fill", shade(error(i)));
        dots[i].setAttribute("visibility", data.kept[i] !== null || inEight(i) ? "visible" : "hidden");
      }),
      mark: () => cells.forEach((cell, i) => cell.setAttribute("stroke", i === chosen ? COLOURS.RED : "none")),
    };
  }

  function drawLegend(x, y, least, most, words) {
    const steps = Array.from({ length: 40 }, (_, n) => s("rect", { x: x + 46 + n * 3, y: y - 8, width: 3.2, height: 9, fill: blues(0.15 + 0.85 * n / 39) }));
    const sign = (at, attrs, text) => [s("circle", { cx: at, cy: y - 4, ...attrs }), words(at + 10, y, text)];
    return [words(x, y, fourDigits(+least.toPrecision(3))), steps, words(x + 172, y, fourDigits(+most.toPrecision(3))),
      wide ? sign(x + 240, { r: 3.5, fill: COLOURS.ORANGE }, "in 8 bits, by the slider") : [],
      free.length < names.length ? sign(x + 410, { r: 4.5, fill: "#fff", stroke: COLOURS.INK }, "kept in more bits") : []].flat();
  }

  // The pointer, and the arrow keys, which go on to the next cell that holds a matrix.
  function watchCells(svg, cellAt) {
    const found = new Map(numbers.map((i) => [`${places[i][0]},${columns[i]}`, i]));
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), i = found.get(cellAt(event.clientX - box.left, event.clientY - box.top).join());
      if (i !== undefined) point(i);
    });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      if (chosen === null) return point(0);
      for (let [row, column] = [places[chosen][0] + step[0], columns[chosen] + step[1]]; row >= 0 && column >= 0 && row < kinds.length && column < blocks.length; row += step[0], column += step[1]) {
        const i = found.get([row, column].join());
        if (i !== undefined) return point(i);
      }
    });
  }

  function drawScatter() {
    const all = wide ? [...bytes, ...wide.bytes] : bytes, [low, high] = [Math.min(...all) / 1.5, Math.max(...all) * 1.5];
    const most = 1.08 * Math.max(...data.errors[measure]) || 1;
    const ticks = Array.from({ length: 17 }, (_, n) => [4 ** n, inUnits(4 ** n).replace(".0", "")]).filter(([value]) => value >= low && value <= high);
    const plot = plotAxes({ width: wide ? 370 : 560, height: 240, testid: "scatter", label: "error against bytes",
      x: { low, high, log: true, label: "bytes of the matrix (log scale)", ticks }, y: { low: 0, high: most, label: `error by ${measure}` } });
    const dots = numbers.map((i) => s("g", {}, sign(places[i][0], 0, 0, 4.5, { "stroke-width": 0.5 })));
    const at = (i) => [plot.x(size(i)), plot.y(Math.min(error(i), most))];
    plot.marks.append(...dots);
    plot.el.addEventListener("pointermove", (event) => {
      const box = plot.el.getBoundingClientRect(), apart = numbers.map((i) => Math.hypot(at(i)[0] - event.clientX + box.left, at(i)[1] - event.clientY + box.top));
      const nearest = Math.min(...apart);
      if (nearest < 30) point(apart.indexOf(nearest));
    });
    return {
      el: h("div", {}, plot.el, h("div", { class: "quiet", style: { maxWidth: "370px" } }, kinds.map((kind, row) => signKey(row, short(kind, 15))))),
      update: () => numbers.forEach((i) => {
        dots[i].setAttribute("transform", `translate(${at(i).join(" ")})`);
        dots[i].setAttribute("fill-opacity", inEight(i) ? 0.35 : 0.85);
      }),
      mark: () => {
        dots.forEach((dot, i) => { dot.firstChild.style.stroke = i === chosen ? COLOURS.INK : ""; dot.firstChild.style.strokeWidth = i === chosen ? "3px" : ""; });
        if (chosen !== null) plot.marks.append(dots[chosen]); // above all others
      },
    };
  }

  // Total bytes and sum of the errors with the 0, 1, 2 … most sensitive in 8 bits.
  function drawBudget() {
    const sizes = [sum((i) => bytes[i])], errors = [sum((i) => data.errors[measure][i])];
    for (const i of order) {
      sizes.push(sizes.at(-1) + wide.bytes[i] - bytes[i]);
      errors.push(errors.at(-1) + wide.errors[measure][i] - data.errors[measure][i]);
    }
    const [unit, name] = Math.max(...sizes) < 2 ** 30 ? [2 ** 20, "MiB"] : [2 ** 30, "GiB"];
    const [low, high] = [Math.min(...sizes) / unit, Math.max(...sizes) / unit], margin = 0.04 * (high - low) || 1;
    const plot = plotAxes({ width: 320, height: 240, testid: "budget", label: "sum of errors against total bytes",
      x: { low: low - margin, high: high + margin, label: `total ${name}` }, y: { low: 0, high: 1.08 * Math.max(...errors) || 1, label: "sum of the errors" } });
    const at = sizes.map((value, n) => [plot.x(value / unit), plot.y(errors[n])]), here = s("circle", { r: 5, fill: COLOURS.ORANGE, stroke: COLOURS.INK });
    plot.marks.append(s("path", { d: "M" + at.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L"), fill: "none", stroke: COLOURS.BLUE, "stroke-width": 1.5 }), here);
    let near = 0;
    plot.watch(sizes.map((value) => value / unit), (n) => {
      near = n;
      details.say(h("b", {}, `${n} in 8 bits`), `: ${inUnits(sizes[n])}, errors by ${measure} add up to ${fourDigits(+errors[n].toPrecision(3))}.`,
        n > 0 ? [" The last one added: ", place(order[n - 1]), "."] : "", " Click to set the slider.");
    });
    plot.el.addEventListener("click", () => { slide.set(near); keep(near); });
    return { el: plot.el, update: () => { here.setAttribute("cx", at[k][0]); here.setAttribute("cy", at[k][1]); } };
  }
}
