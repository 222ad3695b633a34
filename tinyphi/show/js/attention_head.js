// One head's weights as a heat map; pointing at a cell shows its weight and its row.

function draw({ data, el }) {
  const { shape: [rows, cols], values } = unpack(data.weights);
  const columns = data.columns.map(visible), names = data.rows.map(visible);
  const spoken = readout("Point at a cell, or click one and use the arrow keys."), place = h("div", { "data-testid": "row", style: { marginTop: "6px" } });
  const show = (i, j) => {
    const row = Array.from(values.subarray(i * cols, (i + 1) * cols)), first = cols - rows;
    const where = j > first + i ? ", which comes later" : j === first + i ? ", itself" : "";
    spoken.say(h("b", {}, `“${names[i]}” → “${columns[j]}”${where}: weight ${row[j].toFixed(3)}`),
      `. All weights of this row${data.cut ? ", those left out here included," : ""} add up to ${data.sums[i].toFixed(3)}.`);
    const order = row.map((_, n) => n).sort((a, b) => row[b] - row[a]).slice(0, 8).filter((n) => row[n] >= 0.0005);
    place.replaceChildren(bars(order.map((n) => ({ label: short(columns[n]), value: row[n], chosen: n === j, note: row[n].toFixed(3) })), 110));
  };
  const map = heatmap({
    rows, cols, cell: clamp(Math.floor(410 / cols), 11, 34), value: (i, j) => Math.sqrt(Math.max(0, values[i * cols + j])),
    rowLabels: names.map((text) => short(text)), colLabels: columns.map((text) => short(text)), onhover: show, label: "attention weights: queries by sources", testid: "map",
  });
  el.append(h("div", {}, data.title), h("div", { class: "quiet" }, "a row asks, a column answers; darker is more (colour follows the square root)"),
    h("div", { class: "panes" }, h("div", {}, map.el), h("div", { style: { flex: "1 1 300px" } }, spoken, place)));
  const last = Array.from(values.subarray((rows - 1) * cols));
  map.select(rows - 1, last.indexOf(Math.max(...last)));
  show(rows - 1, last.indexOf(Math.max(...last)));
}
