// The views of one prompt.

function createViews() {
  /** @type {Sample} */
  let sample;
  const chosen = { layer: -1, head: 0, position: 0 };
  const map = new Grid(element("map"), element("map-value"), choosePosition);
  /** @type {Map<string, ReturnType<typeof buildStrip>>} */
  const strips = new Map();

  const names = () => sample.tokens.map((token) => glyphs(token.text));
  /** @param {number} position */
  const word = (position) => `“${names()[position]}”`;
  /** @param {string} kind */
  const tensor = (kind) => sample.tensors[`layer_${chosen.layer}_${kind}`] ?? sample.tensors[kind];

  // [head, query, key] -> probability; later keys are no cells.
  function attention() {
    const shown = tensor("attn_probs");
    if (!shown) return null;
    const [heads, seq] = shown.shape;
    const values = valuesOf(shown);
    return {
      heads,
      seq,
      /** @type {(head: number, row: number, column: number) => number} */
      at: (head, row, column) => (column > row ? NaN : (values[(head * seq + row) * seq + column] ?? NaN)),
    };
  }

  /** @param {number} position */
  function choosePosition(position) {
    chosen.position = position;
    for (const [index, input] of element("tokens").querySelectorAll("input").entries())
      input.checked = index === position;
    drawChosen();
  }

  function buildTokens() {
    const group = sample.tokens.map((token, position) => {
      const input = make("input", { type: "radio", name: "token", value: position });
      input.checked = position === chosen.position;
      input.addEventListener("change", () => choosePosition(position));
      return make(
        "label",
        { title: `position ${position}, id ${token.id}` },
        input,
        make("span", {}, glyphs(token.text)),
      );
    });
    element("tokens").replaceChildren(...group);
  }

  function buildLayers() {
    const numbers = Object.keys(sample.tensors).map((name) => /^layer_(\d+)_/.exec(name)?.[1]);
    const layers = [...new Set(numbers.filter(Boolean))].map(Number).sort((a, b) => a - b);
    element("layer").replaceChildren(...layers.map((layer) => make("option", { value: layer }, String(layer))));
    if (!layers.includes(chosen.layer)) chosen.layer = layers.at(-1) ?? 0;
    element("layer").value = String(chosen.layer);
    element("layers").hidden = layers.length === 0;
    element("attention").hidden = !attention();
  }

  /** @type {(shown: NonNullable<ReturnType<typeof attention>>, scale: Scale) => void} */
  function drawHeads(shown, scale) {
    chosen.head = Math.min(chosen.head, shown.heads - 1);
    const heads = Array.from({ length: shown.heads }, (_, head) => {
      const input = make("input", { type: "radio", name: "head", value: head, "aria-label": `Head ${head}` });
      input.checked = head === chosen.head;
      input.addEventListener("change", () => {
        chosen.head = head;
        drawAttention();
      });
      return make(
        "label",
        {},
        input,
        paintCells({ rows: shown.seq, columns: shown.seq, value: (row, column) => shown.at(head, row, column), scale }),
        make("span", {}, String(head)),
      );
    });
    element("heads").replaceChildren(...heads);
  }

  function drawAttention() {
    const shown = attention();
    const tints = element("tokens").querySelectorAll("span");
    if (!shown) return;
    const { layer, head, position } = chosen;
    const scale = probabilityScale();
    /** @type {Cells["value"]} */
    const at = (row, column) => shown.at(head, row, column);
    const best = Array.from({ length: position + 1 }, (_, key) => key).reduce((a, b) =>
      at(position, b) > at(position, a) ? b : a,
    );
    tints.forEach((tint, key) => {
      const value = at(position, key);
      const colour = Number.isNaN(value) ? null : scale.colour(value);
      tint.style.backgroundColor = colour ? `rgb(${colour})` : "";
      tint.style.color = colour ? readableOn(colour) : "";
    });
    element("map").setAttribute(
      "aria-label",
      `Attention of layer ${layer}, head ${head}: ${shown.seq} tokens by ${shown.seq}`,
    );
    map.draw({
      rows: shown.seq,
      columns: shown.seq,
      value: at,
      scale,
      labels: names(),
      columnLabels: names(),
      marked: position,
      rest: `${word(position)} looks most at ${best === position ? "itself" : word(best)}: ${figure(at(position, best))}`,
      describe: (row, column) =>
        column > row
          ? `${word(row)} cannot see ${word(column)}: it comes later`
          : `${word(row)} → ${word(column)}: ${figure(at(row, column))} (row ${row}, column ${column})`,
    });
    drawLegend(element("map-legend"), scale);
    if (element("numbers").open) drawNumbers();
  }

  function drawNumbers() {
    const shown = attention();
    if (!shown) return;
    const head = make(
      "tr",
      {},
      make("th", { scope: "col" }, "token"),
      ...names().map((name) => make("th", { scope: "col" }, name)),
    );
    const rows = names().map((name, row) => {
      const cells = names().map((_, column) =>
        make("td", { class: "number" }, column > row ? "" : figure(shown.at(chosen.head, row, column))),
      );
      return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
    });
    element("numbers").lastElementChild?.replaceChildren(
      make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)),
    );
  }

  function drawNext() {
    const { position } = chosen;
    const entry = sample.next.find((entry) => entry.position === position);
    const follower = sample.tokens[position + 1];
    const came = follower ? ` What came: ${word(position + 1)}.` : "";
    element("next-hint").textContent = entry
      ? `What the model expects after ${word(position)}.${came}`
      : "This model returns the distribution after the last token alone.";
    element("next").replaceChildren(
      ...(entry?.top ?? []).map(({ id, text, p }) => {
        const bar = make("i", { "aria-hidden": "true" });
        bar.style.width = `${100 * p}%`;
        const right = follower?.id === id;
        const name = make("b", { title: `id ${id}` }, glyphs(text));
        return make(
          "li",
          right ? { class: "came" } : {},
          name,
          make("span", { class: "bar" }, bar),
          make("span", { class: "number" }, `${(100 * p).toFixed(1)} %`),
        );
      }),
    );
  }

  function drawStrips() {
    const kinds = [
      ...new Set(
        Object.entries(sample.tensors)
          .filter(([, { shape }]) => shape.length === 2)
          .map(([name]) => name.replace(/^layer_\d+_/, "")),
      ),
    ];
    element("vectors").hidden = kinds.length === 0;
    for (const [kind, strip] of strips) strip.place.hidden = !kinds.includes(kind);
    for (const kind of kinds) drawStrip(kind);
  }

  /** @param {string} kind */
  function drawStrip(kind) {
    const layered = `layer_${chosen.layer}_${kind}` in sample.tensors;
    const name = layered ? `layer_${chosen.layer}_${kind}` : kind;
    const strip = strips.get(kind) ?? buildStrip(kind);
    strips.set(kind, strip);
    const shown = tensor(kind);
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
      labels: names(),
      marked: chosen.position,
      value,
      rest: `${columns} channels, from ${figure(values.reduce((a, b) => Math.min(a, b)))} to ${figure(values.reduce((a, b) => Math.max(a, b)))}`,
      describe: (row, column) => `${word(row)}, channel ${column}: ${figure(value(row, column))}`,
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
    return { place, canvas, title, legend, grid: new Grid(canvas, output, choosePosition) };
  }

  function drawAll() {
    const shown = attention();
    if (shown) drawHeads(shown, probabilityScale());
    drawChosen();
  }

  function drawChosen() {
    drawAttention();
    drawNext();
    drawStrips();
  }

  element("layer").addEventListener("change", () => {
    chosen.layer = Number(element("layer").value);
    drawAll();
  });
  element("numbers").addEventListener("toggle", () => element("numbers").open && drawNumbers());
  onThemeChange(() => sample && drawAll());

  return {
    /** @param {Sample} given */
    show(given) {
      sample = given;
      chosen.position = sample.tokens.length - 1;
      element("views").hidden = false;
      buildTokens();
      buildLayers();
      drawAll();
    },
  };
}
