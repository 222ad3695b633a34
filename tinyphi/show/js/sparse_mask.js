// Which blocks of keys each head reads; pointing at a cell tells which heads read it, and which tokens it stands for.

function draw({ data, el }) {
  const { size, near, heads, colours, words } = data;
  const { shape: [, count], values: kinds } = unpack(data.kinds), readers = unpack(data.readers).values;
  const [FUTURE, UNREAD, LOCAL] = [0, 1, 2], area = count * count;
  const state = { head: 0, together: false, at: null };
  const kind = (head, i, j) => kinds[heads[head] * area + i * count + j];
  const reads = (head, i, j) => kind(head, i, j) > UNREAD;
  const readBy = (i, j) => heads.map((_, head) => head).filter((head) => reads(head, i, j));
  const tokens = (block) => (size === 1 ? `token ${block}` : `tokens ${block * size}–${(block + 1) * size - 1}`);
  const blocks = (n) => `${n} block${n === 1 ? "" : "s"}`;

  const spoken = readout("Point at a cell, or click one and use the arrow keys.");
  function say(i, j) {
    state.at = [i, j];
    const who = readBy(i, j), back = i - j;
    const place = h("b", {}, `Queries of block ${i} (${tokens(i)}), keys of block ${j} (${tokens(j)})`);
    const why = back < 0 ? `in the future, ${blocks(-back)} ahead` : back === 0 ? "their own block"
      : `${blocks(back)} back, ${back < near ? "one of the nearest, which every head reads" : "further back: a head reads some of those"}`;
    const mine = state.together ? null : `Head ${state.head} ${reads(state.head, i, j) ? "reads it" : "does not read it"}. `;
    spoken.say(place, `: ${why}. `, mine,
      who.length === heads.length ? `All ${heads.length} heads read it.` : who.length === 0 ? "No head reads it."
        : `Read by ${who.length} of ${heads.length} heads: ${who.join(", ")}.`,
      h("div", { class: "quiet" }, rowOf(i)));
  }
  function rowOf(i) {
    const row = [...Array(count).keys()], found = row.filter((j) => (state.together ? readers[i * count + j] : reads(state.head, i, j)));
    return `${state.together ? "Together the heads read" : `Head ${state.head} reads`} ${found.length} of ${blocks(i + 1)} here, its own included.`;
  }

  const place = h("div"), share = h("span", { "data-testid": "share" });
  function show() {
    const map = heatmap({
      rows: count, cols: count, cell: clamp(Math.floor(420 / count), 3, 26),
      value: (i, j) => (state.together ? (readers[i * count + j] || (j <= i ? 0 : -1)) : kind(state.head, i, j)),
      colour: (value) => (!state.together ? colours[value] : value < 0 ? colours[FUTURE] : blues(0.12 + 0.88 * value / heads.length)),
      onhover: say, label: "blocks of queries by blocks of keys", testid: "map",
    });
    place.replaceChildren(map.el);
    const shown = data.shares[state.together ? data.shares.length - 1 : heads[state.head]];
    const same = heads.map((_, head) => head).filter((head) => heads[head] === heads[state.head]);
    share.replaceChildren(h("b", {}, state.together ? "All heads together" : `Head ${state.head}`), ` read${state.together ? "" : "s"} ${shown.toFixed(1)} % of the blocks that are not in the future.`,
      h("div", { class: "quiet" }, state.together ? "The darker, the more heads read it." : same.length > 1 ? `These heads read the same: ${same.join(", ")}.` : "No other head reads the same."));
    legend.replaceChildren(...(state.together ? [] : words.map((what, number) => [what, number]).filter(([, number]) => number > FUTURE && used[number]).map(([what, number]) =>
      h("div", { style: { display: "flex", gap: "8px", alignItems: "center" } }, h("span", { style: { width: "14px", height: "14px", background: colours[number], flex: "none" } }),
        number === LOCAL ? `${what}: the last ${blocks(near)}` : what))));
    if (state.at) { map.select(...state.at); say(...state.at); }
  }

  const used = words.map((_, number) => kinds.includes(number));
  const legend = h("div", { "data-testid": "legend" });
  const chosen = slider("head", { min: 0, max: heads.length - 1, value: 0, testid: "head" }, (head) => {
    state.head = head;
    state.together = false;
    all.set(false);
    show();
  });
  const all = toggle("all heads together", false, (together) => { state.together = together; show(); }, "together");
  el.append(h("div", { class: "controls" }, chosen, all),
    h("div", { class: "panes" }, h("div", {}, h("div", { class: "quiet" }, "rows: blocks of queries · columns: blocks of keys"), place),
      h("div", { style: { flex: "1 1 270px" } }, share, h("div", { style: { margin: "8px 0" } }, legend), spoken)));
  show();
}
