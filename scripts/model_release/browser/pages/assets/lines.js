// Lines from a token to what it attends to: the thicker, the more. The chosen token's are strong.

/** @type {(tag: string, attributes?: Record<string, string | number>, ...children: (Node | string)[]) => SVGElement} */
function makeSvg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** @type {(stage: Stage) => View} */
function linesView(stage) {
  const ROW = 24;
  const NAME = 0.3; // Of the width, for names on either side.
  const FAINT = 0.2; // The least of other tokens that is drawn.

  /** @type {(shown: Attention, width: number) => SVGElement} */
  function draw(shown, width) {
    const { head, position } = stage.chosen;
    const [from, to] = [NAME * width, (1 - NAME) * width];
    /** @param {number} row */
    const y = (row) => (row + 0.5) * ROW;
    /** @type {(query: number, key: number) => SVGElement[]} */
    const line = (query, key) => {
      const p = shown.at(head, query, key);
      const strong = query === position;
      if (!(p >= (strong ? 0.005 : FAINT))) return [];
      const middle = (from + to) / 2;
      return [
        makeSvg("path", {
          d: `M${from} ${y(query)}C${middle} ${y(query)} ${middle} ${y(key)} ${to} ${y(key)}`,
          "stroke-width": 1 + 9 * p,
          opacity: strong ? 0.45 + 0.55 * p : 0.08,
        }),
      ];
    };
    const rows = Array.from({ length: shown.seq }, (_, row) => row);
    const lines = [
      ...rows.filter((query) => query !== position).flatMap((query) => rows.flatMap((key) => line(query, key))),
      ...rows.flatMap((key) => line(position, key)),
    ];
    const names = rows.flatMap((row) => {
      const p = shown.at(head, position, row);
      const share = p >= 0.005 ? ` ${Math.round(100 * p)} %` : "";
      const query = makeSvg("text", { x: from - 8, y: y(row), "text-anchor": "end" }, stage.names[row] ?? "");
      if (row === position) query.setAttribute("class", "chosen");
      query.addEventListener("click", () => stage.choose({ position: row }));
      const key = makeSvg("text", { x: to + 8, y: y(row) }, stage.names[row] ?? "", makeSvg("tspan", {}, share));
      if (row > position) key.setAttribute("class", "later");
      key.addEventListener("click", () => row <= position && stage.choose({ key: row }));
      tipOn(key, () => stage.pairOf(position, row));
      return [query, key];
    });
    const height = shown.seq * ROW;
    return makeSvg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": stage.lookOf() },
      ...lines,
      ...names,
    );
  }

  function paint() {
    const shown = stage.chosen.view === "lines" && stage.attention();
    if (shown) element("lines").replaceChildren(draw(shown, element("lines").clientWidth));
  }

  let width = 0;
  new ResizeObserver(() => {
    if (width === element("lines").clientWidth) return;
    width = element("lines").clientWidth;
    paint();
  }).observe(element("lines"));
  return paint;
}
