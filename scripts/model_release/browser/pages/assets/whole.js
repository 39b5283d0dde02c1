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
        const button = make("button", { type: "button", tabindex: "-1", "aria-label": `Layer ${layer}, head ${head}` });
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

  element("whole").addEventListener("keydown", (event) => {
    const at = maps.findIndex(({ button }) => button === document.activeElement);
    const here = maps[at];
    if (!here) return;
    const layers = [...new Set(maps.map(({ layer }) => layer))];
    /** @param {number} step */
    const beside = (step) =>
      maps.find(({ layer, head }) => layer === layers[layers.indexOf(here.layer) + step] && head === here.head);
    /** @type {Record<string, () => typeof here | undefined>} */
    const moves = {
      ArrowLeft: () => maps[at - 1],
      ArrowRight: () => maps[at + 1],
      ArrowUp: () => beside(-1),
      ArrowDown: () => beside(1),
      Home: () => maps[0],
      End: () => maps.at(-1),
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const next = move();
    if (!next) return;
    for (const { button } of maps) button.tabIndex = button === next.button ? 0 : -1;
    next.button.focus();
  });

  return (changed) => {
    stale ||= changed("sample");
    if (stage.chosen.view !== "whole") return;
    if (stale) build();
    stale = false;
    for (const { layer, head, button } of maps) {
      const chosen = layer === stage.chosen.layer && head === stage.chosen.head;
      button.setAttribute("aria-pressed", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    const [first] = maps;
    if (first && maps.every(({ button }) => button.tabIndex)) first.button.tabIndex = 0;
  };
}
