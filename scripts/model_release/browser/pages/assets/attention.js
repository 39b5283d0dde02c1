// The attention of one layer: its heads in small, and the chosen one as a map and as numbers.

/** @type {(stage: Stage) => View} */
function attentionView(stage) {
  const map = new Grid(element("map"), element("map-value"), (position, key) =>
    stage.choose(key <= position ? { position, key } : { position }),
  );
  for (const input of element("view").querySelectorAll("input"))
    input.addEventListener("change", () => stage.choose({ view: /** @type {Choice["view"]} */ (input.value) }));
  element("numbers").addEventListener("toggle", () => element("numbers").open && drawNumbers());

  /** @type {(shown: Attention) => void} */
  function buildHeads(shown) {
    const scale = probabilityScale();
    const heads = Array.from({ length: shown.heads }, (_, head) => {
      const input = make("input", { type: "radio", name: "head", value: head, "aria-label": `Head ${head}` });
      input.addEventListener("change", () => stage.choose({ head }));
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

  /** @type {(shown: Attention) => void} */
  function drawMap(shown) {
    const { layer, head, position } = stage.chosen;
    const { names } = stage;
    const scale = probabilityScale();
    /** @type {Cells["value"]} */
    const at = (row, column) => shown.at(head, row, column);
    element("map").setAttribute(
      "aria-label",
      `Attention of layer ${layer}, head ${head}: ${shown.seq} tokens by ${shown.seq}`,
    );
    map.draw({
      rows: shown.seq,
      columns: shown.seq,
      value: at,
      scale,
      labels: names,
      columnLabels: names,
      marked: position,
      rest: stage.lookOf(),
      describe: (row, column) => stage.pairOf(row, column) + (column > row ? "" : ` (row ${row}, column ${column})`),
    });
    drawLegend(element("map-legend"), scale);
  }

  function drawNumbers() {
    const shown = stage.attention();
    if (!shown) return;
    const { names } = stage;
    const head = make(
      "tr",
      {},
      make("th", { scope: "col" }, "token"),
      ...names.map((name) => make("th", { scope: "col" }, name)),
    );
    const rows = names.map((name, row) => {
      const cells = names.map((_, column) =>
        make("td", { class: "number" }, column > row ? "" : figure(shown.at(stage.chosen.head, row, column))),
      );
      return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
    });
    element("numbers").lastElementChild?.replaceChildren(
      make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)),
    );
  }

  return (changed) => {
    const shown = stage.attention();
    element("attention").hidden = !shown;
    if (!shown) return;
    stage.chosen.head = Math.min(stage.chosen.head, shown.heads - 1);
    for (const input of element("view").querySelectorAll("input")) input.checked = input.value === stage.chosen.view;
    for (const panel of /** @type {NodeListOf<HTMLElement>} */ (element("attention").querySelectorAll("[data-views]")))
      panel.hidden = !panel.dataset.views?.split(" ").includes(stage.chosen.view);
    if (changed("sample", "layer")) buildHeads(shown);
    for (const [head, input] of element("heads").querySelectorAll("input").entries())
      input.checked = head === stage.chosen.head;
    drawMap(shown);
    if (element("numbers").open) drawNumbers();
  };
}
