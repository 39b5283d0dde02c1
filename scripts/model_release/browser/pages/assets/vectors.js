// Every kind of output that a file has, as rows of numbers: one row a token, one column a channel; of heads the chosen one's.

/** @type {(stage: Stage) => View} */
function vectorsView(stage) {
  /** @type {Map<string, ReturnType<typeof buildStrip>>} */
  const strips = new Map();

  // The numbers of a kind for the chosen layer and head, [rows, columns].
  /** @type {(kind: string) => { name: string, rows: number, columns: number, values: Float32Array } | null} */
  function read(kind) {
    const shown = stage.tensor(kind);
    if (!shown) return null;
    const layered = `layer_${stage.chosen.layer}_${kind}` in stage.sample.tensors;
    const name = layered ? `layer_${stage.chosen.layer}_${kind}` : kind;
    const [columns = 0, rows = 0, heads = 1] = shown.shape.toReversed();
    if (shown.shape.length === 2) return { name, rows, columns, values: valuesOf(shown) };
    const most = stage.attention()?.heads ?? heads;
    const head = Math.min(heads - 1, Math.floor((stage.chosen.head * heads) / most)); // Several heads may share one.
    const size = rows * columns;
    const values = valuesOf(shown).subarray(head * size, (head + 1) * size);
    return { name: `${name}, head ${head}`, rows, columns, values };
  }

  /** @param {string} kind */
  function drawStrip(kind) {
    const found = read(kind);
    const strip = strips.get(kind) ?? buildStrip(kind);
    strips.set(kind, strip);
    strip.place.hidden = !found;
    if (!found) return;
    const { name, rows, columns, values } = found;
    /** @type {Cells["value"]} */
    const value = (row, column) => values[row * columns + column] ?? NaN;
    const sizes = values.map(Math.abs).sort();
    const scale = signedScale(sizes[Math.floor(0.99 * (sizes.length - 1))] || sizes.at(-1) || 1);
    strip.title.textContent = name;
    strip.canvas.setAttribute("aria-label", `${name}: ${rows} tokens by ${columns} channels`);
    const [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    strip.grid.draw({
      rows,
      columns,
      scale,
      labels: stage.names,
      marked: stage.chosen.position,
      value,
      rest: `${columns === 1 ? "1 channel" : `${columns} channels`}, from ${figure(least)} to ${figure(most)}`,
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
    kindOf(kind)?.append(place);
    return { place, canvas, title, legend, grid: new Grid(canvas, output, (position) => stage.choose({ position })) };
  }

  const kinds = /** @type {NodeListOf<HTMLDetailsElement>} */ (element("kinds").querySelectorAll("details"));
  /** @param {string} kind */
  const kindOf = (kind) => [...kinds].find((one) => one.dataset.kind === kind);
  for (const one of kinds) one.addEventListener("toggle", () => one.open && stage.sample && drawKind(one));

  /** @param {HTMLDetailsElement} one */
  function drawKind(one) {
    const kind = one.dataset.kind ?? "";
    drawStrip(kind);
    const note = /** @type {HTMLElement} */ (one.querySelector(".note-of-kind"));
    note.textContent = read(kind) ? "" : stage.elsewhere(kind);
  }

  return (changed) => {
    const missing = [];
    for (const one of kinds) {
      const kind = one.dataset.kind ?? "";
      one.hidden = stage.lacks(kind);
      if (one.hidden) missing.push(kind);
      else if (one.open && changed("sample", "layer", "head", "position")) drawKind(one);
    }
    element("missing").hidden = !missing.length;
    for (const line of /** @type {NodeListOf<HTMLElement>} */ (element("missing").querySelectorAll("li")))
      line.hidden = !missing.includes(line.dataset.kind ?? "");
  };
}
