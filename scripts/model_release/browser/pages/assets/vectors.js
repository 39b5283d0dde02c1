// Outputs that hold a vector a token, as strips: one row a token, one column a channel.

/** @type {(stage: Stage) => View} */
function vectorsView(stage) {
  /** @type {Map<string, ReturnType<typeof buildStrip>>} */
  const strips = new Map();

  /** @param {string} kind */
  function drawStrip(kind) {
    const layered = `layer_${stage.chosen.layer}_${kind}` in stage.sample.tensors;
    const name = layered ? `layer_${stage.chosen.layer}_${kind}` : kind;
    const strip = strips.get(kind) ?? buildStrip(kind);
    strips.set(kind, strip);
    const shown = stage.tensor(kind);
    strip.place.hidden = !shown;
    if (!shown) return;
    const [rows, columns] = shown.shape;
    const values = valuesOf(shown);
    /** @type {Cells["value"]} */
    const value = (row, column) => values[row * columns + column] ?? NaN;
    const sizes = values.map(Math.abs).sort();
    const scale = signedScale(sizes[Math.floor(0.99 * (sizes.length - 1))] || sizes.at(-1) || 1);
    strip.title.textContent = name;
    strip.canvas.setAttribute("aria-label", `${name}: ${rows} tokens by ${columns} channels`);
    strip.grid.draw({
      rows,
      columns,
      scale,
      labels: stage.names,
      marked: stage.chosen.position,
      value,
      rest: `${columns} channels, from ${figure(values.reduce((a, b) => Math.min(a, b)))} to ${figure(values.reduce((a, b) => Math.max(a, b)))}`,
      describe: (row, column) => `${stage.word(row)}, channel ${column}: ${figure(value(row, column))}`,
    });
    drawLegend(strip.legend, scale);
  }

  /** @param {string} kind */
  function buildStrip(kind) {
    const output = make("output", { class: "value", id: `${kind}-value` });
    const canvas = make("canvas", {
      class: "grid",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "heat map",
      "aria-describedby": `${kind}-value keys`,
    });
    const title = make("h3");
    const legend = make("div", { class: "legend" });
    const place = make(
      "figure",
      { id: `strip-${kind}` },
      title,
      make("div", {}, canvas),
      make("figcaption", {}, output),
      legend,
    );
    element("strips").append(place);
    return { place, canvas, title, legend, grid: new Grid(canvas, output, (position) => stage.choose({ position })) };
  }

  return (changed) => {
    if (!changed("sample", "layer", "position")) return;
    const kinds = [
      ...new Set(
        Object.entries(stage.sample.tensors)
          .filter(([, { shape }]) => shape.length === 2)
          .map(([name]) => name.replace(/^layer_\d+_/, "")),
      ),
    ];
    element("vectors").hidden = kinds.length === 0;
    for (const [kind, strip] of strips) strip.place.hidden = !kinds.includes(kind);
    for (const kind of kinds) drawStrip(kind);
  };
}
