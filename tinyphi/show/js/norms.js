// What a norm does: the length of each token's vector before and after, and the channels of one token.

function draw({ data, el }) {
  const labels = data.labels.map(visible), count = labels.length;
  const lengths = unpack(data.lengths).values;
  const vectors = [unpack(data.before), unpack(data.after)], channels = vectors[0].shape[1];
  const names = ["before", "after"], colours = [COLOURS.BLUE, COLOURS.ORANGE];
  const length = (which, token) => lengths[which * count + token];
  const channel = (which, token, place) => vectors[which].values[token * channels + place];
  let token = count - 1, shape = false;

  const details = readout("Point at a token to see its channels, and at a channel to see its numbers.");
  const panels = h("div", { "data-testid": "channels" });
  const lengthPlot = drawLengths();
  const tokenSlider = slider("token", { min: 0, max: count - 1, value: token, format: (i) => `${i} ${labels[i]}`, testid: "token" }, choose);
  el.append(
    h("div", { class: "controls" }, tokenSlider,
      toggle("divide each vector by its root mean square", false, (on) => { shape = on; update(); }, "shape"),
      data.tokens > count ? h("span", { class: "quiet" }, `the first ${count} of ${data.tokens} tokens`) : null),
    h("div", { class: "panes" }, lengthPlot.el, panels),
    details);
  update();

  function choose(next) { token = next; tokenSlider.set(next); update(); }

  function drawLengths() {
    const finite = Array.from(lengths).filter((value) => value > 0);
    const every = Math.ceil(count / 24);
    const plot = plotAxes({
      width: Math.max(250, Math.min(340, 60 + 20 * count)), height: 330, bottom: 96, testid: "lengths", label: "length of each token's vector, before and after",
      x: { low: -0.6, high: count - 0.4, upright: true, ticks: labels.map((text, i) => [i, short(text, 12)]).filter((_, i) => i % every === 0) },
      y: { low: Math.min(...finite, 1) / 1.6, high: Math.max(...finite, 1) * 1.6, log: true, label: "root mean square (log scale)" },
    });
    plot.watch(labels.map((_, i) => i), (i) => { choose(i); sayToken(i); });
    return plot;
  }

  function sayToken(i) {
    const [old, now] = [length(0, i), length(1, i)];
    details.say(h("b", {}, `Token ${i} ${labels[i]}`), `: root mean square ${fourDigits(old)} before, ${fourDigits(now)} after; divided by ${fourDigits(old / now)}.`);
  }

  function sayChannel(place) {
    const [old, now] = [channel(0, token, place), channel(1, token, place)], rms = length(0, token);
    details.say(h("b", {}, `Channel ${place} of ${labels[token]}`), `: ${fourDigits(old)} before, ${fourDigits(now)} after. `,
      `Before ÷ root mean square = ${fourDigits(old)} ÷ ${fourDigits(rms)} = ${fourDigits(old / rms)}. `,
      Math.abs(old / rms) > 1e-6 ? `After ÷ that = ${fourDigits(now / (old / rms))}: in an RMSNorm, the learned weight of the channel.` : "");
  }

  function update() {
    const low = lengthPlot.bounds.bottom, at = (which, i) => {
      const value = length(which, i);
      return value > 0 ? lengthPlot.y(value) : low;
    };
    lengthPlot.marks.replaceChildren(
      s("rect", { x: lengthPlot.x(token) - 8, y: lengthPlot.bounds.top, width: 16, height: low - lengthPlot.bounds.top, fill: "#F3F3F3" }),
      ...labels.flatMap((_, i) => [
        s("line", { x1: lengthPlot.x(i), x2: lengthPlot.x(i), y1: at(0, i), y2: at(1, i), stroke: COLOURS.PALE, "stroke-width": 2 }),
        s("circle", { cx: lengthPlot.x(i), cy: at(0, i), r: 4, fill: COLOURS.BLUE }),
        s("rect", { x: lengthPlot.x(i) - 3.5, y: at(1, i) - 3.5, width: 7, height: 7, fill: COLOURS.ORANGE })]));
    const parts = [0, 1].map((which) => {
      const by = shape ? length(which, token) || 1 : 1;
      return Array.from({ length: channels }, (_, place) => channel(which, token, place) / by);
    });
    const most = Math.max(1e-12, ...parts.map((values) => values.reduce((best, value) => Math.max(best, Math.abs(value)), 0)));
    panels.replaceChildren(...parts.map((values, which) => drawChannels(values, which, most)));
  }

  // Both panels share one scale.
  function drawChannels(values, which, most) {
    const plot = plotAxes({
      width: 366, height: which ? 172 : 152, bottom: which ? 38 : 18, testid: `channels-${names[which]}`, label: `channels ${names[which]} the norm`,
      x: { low: -1, high: channels, label: which ? `channel of token ${token}` : "" }, y: { low: -1.05 * most, high: 1.35 * most, label: names[which] },
    });
    const zero = plot.y(0).toFixed(1);
    const d = values.map((value, place) => `M${plot.x(place).toFixed(1)} ${zero}V${plot.y(value).toFixed(1)}`).join("");
    const cross = s("line", { y1: plot.bounds.top, y2: plot.bounds.bottom, stroke: COLOURS.RED, "stroke-opacity": 0.6, visibility: "hidden" });
    plot.marks.append(cross, s("path", { d, stroke: colours[which], "stroke-width": clamp(400 / channels, 1, 4), fill: "none" }),
      s("line", { x1: plot.bounds.left, x2: plot.bounds.right, y1: zero, y2: zero, stroke: COLOURS.GREY, "stroke-width": 0.6 }),
      s("text", { x: plot.bounds.right, y: plot.bounds.top + 8, "text-anchor": "end", "font-size": 11 },
        `${names[which]}: root mean square ${shape ? "1" : fourDigits(length(which, token))}`));
    plot.watch(values.map((_, place) => place), (place) => {
      for (const end of ["x1", "x2"]) cross.setAttribute(end, plot.x(place));
      cross.setAttribute("visibility", "visible");
      sayChannel(place);
    });
    return plot.el;
  }
}
