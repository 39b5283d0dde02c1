// What the model expects after the chosen token, and what it expected before a head was switched off.

/** @param {number} share */
const percent = (share) => `${(100 * share).toFixed(1)} %`;

// The tokens that were or are the most likely, with both probabilities.
/** @type {(now: Expectation, before: Expectation | undefined) => (Token & { p: number, was?: number })[]} */
function compared(now, before) {
  if (!before) return now.top;
  const all = new Map([...before.top, ...now.top].map((token) => [token.id, token]));
  return [...all.values()]
    .map((token) => ({ ...token, p: now.shareOf?.(token.id) ?? 0, was: before.shareOf?.(token.id) ?? 0 }))
    .sort((a, b) => Math.max(b.p, b.was) - Math.max(a.p, a.was))
    .slice(0, now.top.length);
}

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
    const before = sample.before?.find((entry) => entry.position === position);
    const follower = sample.tokens[position + 1];
    const came = follower ? ` What came: ${stage.word(position + 1)}.` : "";
    element("next").classList.toggle("compared", Boolean(before));
    const both = before ? " Grey: with all heads on; then with those that are on now." : "";
    element("next-hint").textContent = entry
      ? `What the model expects after ${stage.word(position)}.${came}${both}`
      : "This model returns the distribution after the last token alone.";
    element("next").replaceChildren(
      ...(entry ? compared(entry, before) : []).map((token) => {
        const { id, p, was } = token;
        const bars = [...(was === undefined ? [] : [was]), p].map((share) => {
          const bar = make("i", { "aria-hidden": "true" });
          bar.style.width = `${100 * share}%`;
          return bar;
        });
        const right = follower?.id === id;
        const name = nameNext(followerName(sample.tokens.slice(0, position + 1), token), position, id);
        return make(
          "li",
          right ? { class: "came" } : {},
          name,
          make("span", { class: "bar" }, ...bars),
          make("span", { class: "number" }, was === undefined ? percent(p) : `${percent(was)} → ${percent(p)}`),
        );
      }),
    );
  };
}
