// The gates of the MLP: where a token's gates lie on the curve of silu, and its strongest channels.

const silu = (x) => x / (1 + Math.exp(-x));

function draw({ data, el }) {
  const packed = {};
  for (const name of ["channel", "gate", "up", "range", "counts", "negative", "closed"]) packed[name] = unpack(data[name]);
  const labels = data.labels.map(visible), tokens = labels.length;
  const top = packed.channel.shape[2], bins = packed.counts.shape[2];
  const of = (name, i) => { const wide = packed[name].shape[2] || 1; return packed[name].values[(layer * tokens + token) * wide + i]; };
  let layer = data.layer, token = tokens - 1, chosen = null;

  const details = readout("Point at a channel, at a dot on the curve, or at a cell of the map.");
  const curve = h("div", { "data-testid": "curve" }), channels = h("div", { "data-testid": "channels" });
  const shares = h("div", { "data-testid": "shares", style: { margin: "2px 0 4px" } });
  const map = heatmap({
    rows: tokens, cols: data.layers.length, cell: tokens > 24 ? 9 : 14, testid: "map", label: "share of gates nearly closed, tokens by layers",
    value: (i, j) => packed.closed.values[j * tokens + i], rowLabels: labels.map((text) => short(text)), colLabels: data.layers.map(String),
    onhover: (i, j) => sayPlace(j, i), onclick: (i, j) => choose(j, i),
  });
  let dots = [], rows = [];
  const layerSlider = slider("layer", { min: 0, max: data.layers.length - 1, value: layer, format: (i) => String(data.layers[i]), testid: "layer" }, (i) => choose(i, token));
  const tokenSlider = slider("token", { min: 0, max: tokens - 1, value: token, format: (i) => `${i} ${labels[i]}`, testid: "token" }, (i) => choose(layer, i));
  el.append(
    h("div", { class: "controls" }, layerSlider, tokenSlider, data.tokens > tokens ? h("span", { class: "quiet" }, `the first ${tokens} of ${data.tokens} tokens`) : null),
    shares,
    h("div", { class: "panes" }, curve, channels), details,
    h("div", { class: "quiet", style: { margin: "8px 0 2px" } }, "share of gates nearly closed, for every token (down) and layer (across); click to go there"),
    map.el);
  update();

  function choose(i, j) { [layer, token, chosen] = [i, j, null]; layerSlider.set(i); tokenSlider.set(j); update(); }

  function sayPlace(i, j) {
    const percent = (name) => `${(100 * packed[name].values[i * tokens + j]).toFixed(0)} %`;
    details.say(h("b", {}, `Layer ${data.layers[i]}, ${labels[j]}`), `: ${percent("closed")} of its ${data.channels} gates are nearly closed, ${percent("negative")} lie below zero.`);
  }

  function sayChannel(k) {
    const [gate, up] = [of("gate", k), of("up", k)], open = 1 / (1 + Math.exp(-gate));
    details.say(h("b", {}, `Channel ${of("channel", k)}`), `: silu(gate) = gate × sigmoid(gate) = ${fourDigits(gate)} × ${fourDigits(open)} = ${fourDigits(silu(gate))}; `,
      `hidden = silu(gate) × up = ${fourDigits(silu(gate))} × ${fourDigits(up)} = `, h("b", {}, fourDigits(silu(gate) * up)), ".");
  }

  function point(k) { chosen = k; sayChannel(k); mark(); }

  // Only colours change, so that the keyboard's focus stays where it is.
  function mark() {
    dots.forEach((dot, k) => { dot.setAttribute("r", k === chosen ? 6 : 4); dot.setAttribute("fill", k === chosen ? COLOURS.RED : COLOURS.ORANGE); });
    rows.forEach((row, k) => row.firstChild.setAttribute("fill", k === chosen ? "#FBEDE4" : "#fff"));
  }

  function update() {
    const percent = (name) => `${(100 * of(name, 0)).toFixed(0)} %`;
    shares.replaceChildren(`Layer ${data.layers[layer]}, token `, h("b", { class: "mono" }, labels[token]), `: ${percent("negative")} of ${data.channels} gates below zero, `,
      h("b", {}, percent("closed")), ` nearly closed (|silu(gate)| < ${data.closedBelow}).`);
    map.select(token, layer);
    curve.replaceChildren(drawCurve(), drawCounts());
    channels.replaceChildren(drawChannels());
    mark();
  }

  function drawCurve() {
    const [low, high] = [of("range", 0), of("range", 1)];
    const plot = plotAxes({ width: 310, height: 200, bottom: 20, testid: "silu", label: "the curve of silu with the strongest channels",
      x: { low, high }, y: { low: -0.06 * high - 0.35, high: high * 1.03, label: "silu(gate)" } });
    const xs = Array.from({ length: 161 }, (_, i) => low + i / 160 * (high - low));
    const gates = Array.from({ length: top }, (_, k) => of("gate", k));
    dots = gates.map((gate) => s("circle", { cx: plot.x(gate), cy: plot.y(silu(gate)), stroke: "#fff" }));
    plot.marks.append(
      s("rect", { x: plot.bounds.left, width: plot.bounds.right - plot.bounds.left, y: plot.y(data.closedBelow), height: plot.y(-data.closedBelow) - plot.y(data.closedBelow), fill: COLOURS.PALE, "fill-opacity": 0.7 }),
      high < 12 ? s("text", { x: plot.bounds.left + 6, y: plot.y(data.closedBelow) - 3, "font-size": 10, style: { fill: "#595959" } }, "nearly closed") : "",
      s("path", { fill: "none", stroke: COLOURS.INK, "stroke-width": 1.3, d: "M" + xs.map((x) => `${plot.x(x).toFixed(1)} ${plot.y(silu(x)).toFixed(1)}`).join("L") }),
      ...dots);
    plot.watch(gates, point);
    return plot.el;
  }

  function drawCounts() {
    const [low, high] = [of("range", 0), of("range", 1)];
    const counts = Array.from({ length: bins }, (_, i) => of("counts", i)), wide = (high - low) / bins;
    const plot = plotAxes({ width: 310, height: 110, testid: "counts", label: "how many gates lie where", x: { low, high, label: "gate" }, y: { low: 0, high: Math.max(...counts) * 1.05, label: "channels" } });
    plot.marks.append(...counts.map((count, i) => s("rect", { x: plot.x(low + i * wide), width: Math.max(0.5, plot.x(low + wide) - plot.x(low) - 0.5), y: plot.y(count), height: plot.bounds.bottom - plot.y(count), fill: COLOURS.BLUE })));
    plot.watch(counts.map((_, i) => low + (i + 0.5) * wide), (i) => details.say(`${counts[i]} of ${data.channels} gates lie between ${fourDigits(low + i * wide)} and ${fourDigits(low + (i + 1) * wide)}.`));
    return plot.el;
  }

  // Rows of three bars: silu(gate) × up = hidden, each column on its own scale.
  function drawChannels() {
    const wide = 106, left = 44, tall = 22, head = 24;
    const values = Array.from({ length: top }, (_, k) => { const gate = silu(of("gate", k)), up = of("up", k); return [gate, up, gate * up]; });
    const most = [0, 1, 2].map((part) => Math.max(1e-9, ...values.map((row) => Math.abs(row[part]))));
    const middle = (part) => left + part * (wide + 12) + wide / 2, half = wide / 2 - 4;
    const titles = ["silu(gate)", "× up", "= hidden"], colours = [COLOURS.ORANGE, COLOURS.BLUE, COLOURS.INK];
    const bar = (value, part) => {
      const length = Math.abs(value) / most[part] * half, zero = middle(part);
      return [s("line", { x1: zero, x2: zero, y1: 0, y2: tall, stroke: COLOURS.PALE }),
        s("rect", { x: value < 0 ? zero - length : zero, y: 4, width: length, height: tall - 8, fill: colours[part] })];
    };
    rows = values.map((row, k) => s("g", {
      transform: `translate(0 ${head + k * tall})`, tabindex: 0, role: "img", "aria-label": `channel ${of("channel", k)}`, "data-testid": `channel-${k}`,
      onpointerenter: () => point(k), onfocus: () => point(k),
    },
    s("rect", { width: left + 3 * (wide + 12), height: tall }),
    s("text", { x: left - 8, y: 15, "text-anchor": "end", "font-size": 11 }, of("channel", k)),
    row.flatMap(bar)));
    return s("svg", { width: left + 3 * (wide + 12), height: head + top * tall + 4, role: "group", "aria-label": "strongest channels" },
      s("text", { x: 0, y: 14, "font-size": 11 }, "channel"),
      titles.map((title, part) => s("text", { x: middle(part), y: 14, "text-anchor": "middle", "font-size": 11 }, title)), rows);
  }
}
