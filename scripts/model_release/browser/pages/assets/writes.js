// What each head writes at the chosen token: how much, and what that adds to the score of a likely next one.

/** @type {(stage: Stage) => View} */
function writesView(stage) {
  const grid = new Grid(element("writes"), element("writes-value"), (row, head) => {
    const layer = facts?.layers[row];
    if (layer !== undefined) stage.choose({ layer, head });
  });
  element("spoken-for").addEventListener("change", () => draw());
  /** @type {Writes | null} */
  let facts = null;

  // Given, or from what the heads return.
  /** @returns {Writes | null} */
  function read() {
    if (stage.sample.writes) return stage.sample.writes;
    const layers = stage.layers.filter((layer) => `layer_${layer}_head_output` in stage.sample.tensors);
    const shapes = layers.map((layer) => stage.tensor("head_output", layer)?.shape ?? [0, 0, 0]);
    const heads = Math.max(0, ...shapes.map(([count]) => count ?? 0));
    const seq = stage.sample.tokens.length;
    if (!layers.length) return null;
    const values = new Float32Array(layers.length * heads * seq).fill(NaN);
    layers.forEach((layer, row) => {
      const shown = /** @type {Shown} */ (stage.tensor("head_output", layer));
      for (let head = 0; head < (shown.shape[0] ?? 0); head++)
        for (let position = 0; position < seq; position++) {
          const written = rowOf(shown, head, position);
          values[(row * heads + head) * seq + position] = Math.sqrt(dot(written, written));
        }
    });
    return { layers, norms: { shape: [layers.length, heads, seq], values } };
  }

  function draw() {
    if (!facts) return;
    const { position } = stage.chosen;
    const { layers, norms, parts, why = "needs the unembedding, which this page does not have" } = facts;
    const [rows = 0, heads = 0, seq = 0] = norms.shape;
    const [, explained = 0] = parts?.shape ?? [];
    const chosen = Number(element("spoken-for").value || -1);
    const speaks = parts && chosen >= 0 && chosen < explained;
    /** @type {Cells["value"]} */
    const value = (row, head) =>
      (speaks
        ? valuesOf(parts)[((position * explained + chosen) * rows + row) * heads + head]
        : valuesOf(norms)[(row * heads + head) * seq + position]) ?? NaN;
    const all = layers.flatMap((_, row) => Array.from({ length: heads }, (_, head) => Math.abs(value(row, head))));
    const limit = Math.max(...all.filter((one) => !Number.isNaN(one))) || 1;
    const scale = speaks ? signedScale(limit) : lengthScale(limit);
    const name = speaks ? (element("spoken-for").selectedOptions[0]?.textContent ?? "") : "";
    element("writes-hint").textContent = speaks
      ? `What each head adds by itself to the score of ${name} after ${stage.word(position)}: its output, scaled as the last norm scaled here, times the token’s row of the unembedding. What later layers make of it is not in it.`
      : `How much each head writes at ${stage.word(position)}: the length of its output.${parts ? "" : ` What that adds to a next token’s score ${why}.`}`;
    element("writes").setAttribute("aria-label", `What heads write: ${rows} layers by ${heads} heads`);
    grid.draw({
      rows,
      columns: heads,
      value,
      scale,
      labels: layers.map((layer) => `layer ${layer}`),
      marked: Math.max(0, layers.indexOf(stage.chosen.layer)),
      rest: "Choose a head to open it.",
      describe: (row, head) => `layer ${layers[row]}, head ${head}: ${figure(value(row, head))}`,
    });
    drawLegend(element("writes-legend"), scale);
  }

  return (changed) => {
    if (changed("sample")) facts = read();
    element("writes-place").hidden = !facts;
    element("writes-missing").textContent = facts ? "" : stage.absence("head_output");
    if (!facts) return;
    const explained = facts.parts?.shape[1] ?? 0;
    if (changed("sample", "position")) {
      const { position } = stage.chosen;
      const top = stage.sample.next.find((entry) => entry.position === position)?.top.slice(0, explained) ?? [];
      const tokens = stage.sample.tokens.slice(0, position + 1);
      const options = top.map((token, index) => make("option", { value: index }, `“${followerName(tokens, token)}”`));
      element("spoken-for").replaceChildren(...options, make("option", { value: -1 }, "any: how much it writes"));
    }
    element("spoken-for-row").hidden = !explained;
    draw();
  };
}
