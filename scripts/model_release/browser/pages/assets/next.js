// What the model expects after the chosen token.

/** @type {(stage: Stage) => View} */
function nextView(stage) {
  /** @type {(name: string, position: number, id: number) => HTMLElement} */
  function nameNext(name, position, id) {
    const { actions } = stage;
    if (!actions) return make("b", { title: `id ${id}` }, name);
    const button = make("button", { type: "button", title: `go on with it, id ${id}` }, name);
    button.addEventListener("click", () => actions.append(position, id));
    return button;
  }

  return (changed) => {
    if (!changed("sample", "position")) return;
    const { sample } = stage;
    const { position } = stage.chosen;
    const entry = sample.next.find((entry) => entry.position === position);
    const follower = sample.tokens[position + 1];
    const came = follower ? ` What came: ${stage.word(position + 1)}.` : "";
    element("next-hint").textContent = entry
      ? `What the model expects after ${stage.word(position)}.${came}`
      : "This model returns the distribution after the last token alone.";
    element("next").replaceChildren(
      ...(entry?.top ?? []).map((token) => {
        const { id, p } = token;
        const bar = make("i", { "aria-hidden": "true" });
        bar.style.width = `${100 * p}%`;
        const right = follower?.id === id;
        const name = nameNext(followerName(sample.tokens.slice(0, position + 1), token), position, id);
        return make(
          "li",
          right ? { class: "came" } : {},
          name,
          make("span", { class: "bar" }, bar),
          make("span", { class: "number" }, `${(100 * p).toFixed(1)} %`),
        );
      }),
    );
  };
}
