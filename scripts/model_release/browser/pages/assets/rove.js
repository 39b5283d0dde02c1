// Many buttons in rows that Tab passes as one: arrow keys, Home and End move among them.

/** @type {(place: Element, chosen: Element | null | undefined) => void} */
function tabTo(place, chosen) {
  const buttons = [...place.querySelectorAll("button")];
  const target = buttons.find((button) => button === chosen) ?? buttons[0];
  for (const button of buttons) button.tabIndex = button === target ? 0 : -1;
}

/** @type {(place: HTMLElement, row: string) => void} */
function rove(place, row) {
  place.addEventListener("keydown", (event) => {
    const rows = [...place.querySelectorAll(row)].map((one) => [...one.querySelectorAll("button")]);
    const filled = rows.filter((one) => one.length);
    const here = /** @type {HTMLButtonElement} */ (event.target);
    const at = filled.findIndex((one) => one.includes(here));
    const column = filled[at]?.indexOf(here) ?? -1;
    /** @type {Record<string, HTMLButtonElement | undefined>} */
    const moves = {
      ArrowLeft: filled[at]?.[column - 1],
      ArrowRight: filled[at]?.[column + 1],
      ArrowUp: filled[at - 1]?.[column],
      ArrowDown: filled[at + 1]?.[column],
      Home: filled[0]?.[0],
      End: filled.at(-1)?.at(-1),
    };
    if (column < 0 || !(event.key in moves)) return;
    event.preventDefault();
    const next = moves[event.key];
    if (!next) return;
    tabTo(place, next);
    next.focus();
  });
}
