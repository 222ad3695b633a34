// Seconds and memory by the length of a prompt, several programs side by side.

function draw({ data, el }) {
  const { sides } = data, all = sides.flatMap(({ costs }) => costs);
  const lengths = [...new Set(all.map(([tokens]) => tokens))].sort((a, b) => a - b);
  const range = (values) => ({ low: Math.min(...values) / 1.3, high: Math.max(...values) * 1.3, log: true });
  const thousands = (value) => value.toLocaleString("en");
  const panel = (place, label, testid) => {
    const x = { ...range(lengths), label: "tokens of the prompt", ticks: lengths.map((tokens) => [tokens, thousands(tokens)]) };
    if (lengths.length > 5) x.upright = true;
    const plot = plotAxes({ width: 400, height: 300, left: 58, bottom: x.upright ? 66 : 38, label, testid, x, y: { ...range(all.map((cost) => cost[place])), label } });
    const line = s("line", { y1: plot.bounds.top, y2: plot.bounds.bottom, stroke: COLOURS.GREY, "stroke-dasharray": "4 3", visibility: "hidden" });
    const drawn = sides.flatMap(({ costs }, i) => {
      const points = costs.map((cost) => [plot.x(cost[0]), plot.y(cost[place])]);
      return [s("path", { d: points.map(([px, py], n) => `${n ? "L" : "M"}${px} ${py}`).join(""), fill: "none", stroke: MARKS[i][2], "stroke-width": 1.6 }),
        ...points.map(([px, py]) => sign(i, px, py, 5))];
    });
    plot.marks.append(line, ...drawn);
    plot.watch(lengths, (n) => point(n));
    return { plot, line };
  };
  const panels = [panel(1, "seconds", "seconds"), panel(2, "MB at most, beyond the loaded model", "memory")];
  const details = readout("Point at a length, or click a plot and use the arrow keys.");

  function point(n) {
    const tokens = lengths[n];
    for (const { plot, line } of panels) {
      line.setAttribute("x1", plot.x(tokens));
      line.setAttribute("x2", plot.x(tokens));
      line.setAttribute("visibility", "visible");
    }
    const told = sides.map(({ label, costs }) => {
      const here = costs.find(([length]) => length === tokens), half = costs.find(([length]) => 2 * length === tokens);
      if (!here) return `${label}: not measured`;
      const growth = half ? ` (${fourDigits(+(here[1] / half[1]).toPrecision(3))} × and ${fourDigits(+(here[2] / half[2]).toPrecision(3))} × those for ${thousands(tokens / 2)})` : "";
      return `${label}: ${fourDigits(+here[1].toPrecision(4))} s, ${fourDigits(+here[2].toPrecision(4))} MB${growth}`;
    });
    details.say(h("b", {}, `${thousands(tokens)} tokens. `), `${told.join("; ")}.`);
  }

  el.append(h("div", { class: "panes" }, panels.map(({ plot }) => plot.el)),
    h("div", { class: "quiet" }, sides.map(({ label }, i) => signKey(i, short(label, 30)))), details);
}
