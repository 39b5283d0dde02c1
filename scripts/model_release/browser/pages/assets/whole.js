// Every head of every layer in small, a row a layer; one that is chosen opens.

/** @type {(stage: Stage) => View} */
function wholeView(stage) {
  /** @type {{ layer: number, head: number, button: HTMLButtonElement }[]} */
  let maps = [];
  let stale = true;

  function build() {
    const scale = probabilityScale();
    maps = [];
    const rows = stage.layers.flatMap((layer) => {
      const shown = stage.attention(layer);
      if (!shown) return [];
      const row = Array.from({ length: shown.heads }, (_, head) => {
        const { seq } = shown;
        const map = paintCells({ rows: seq, columns: seq, value: (query, key) => shown.at(head, query, key), scale });
        const button = make("button", { type: "button", "aria-label": `Layer ${layer}, head ${head}` });
        button.append(map);
        button.addEventListener("click", () => stage.choose({ layer, head, view: "map" }));
        tipOn(button, () => `layer ${layer}, head ${head}: ${stage.lookOf(layer, head)}`);
        maps.push({ layer, head, button });
        return button;
      });
      return [make("div", {}, make("b", { title: `layer ${layer}` }, String(layer)), ...row)];
    });
    element("whole").replaceChildren(...rows);
    const most = Math.max(1, ...rows.map((row) => row.childElementCount - 1));
    element("whole").style.setProperty("--heads", String(most));
  }

  rove(element("whole"), "div");

  return (changed) => {
    stale ||= changed("sample");
    if (stage.chosen.view !== "whole") return;
    if (stale) build();
    stale = false;
    /** @param {typeof maps[number]} map */
    const isChosen = ({ layer, head }) => layer === stage.chosen.layer && head === stage.chosen.head;
    for (const map of maps) map.button.setAttribute("aria-pressed", String(isChosen(map)));
    tabTo(element("whole"), maps.find(isChosen)?.button);
  };
}
