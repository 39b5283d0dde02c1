// "Try this": prompts that show kinds of heads, with the scores that found them.

/** @type {(one: Try) => string} */
const shares = ({ score, chance }) =>
  `${Math.round(100 * score)} % of its attention (evenly spread: ${Math.round(100 * chance)} %)`;

/**
 * @param {Try[]} tries
 * @param {(chosen: Try, number: number) => void} choose
 */
function offerTries(tries, choose) {
  const buttons = tries.flatMap((one, index) => {
    if (!one.sample) return [];
    const { layer, head } = one.sample.telling ?? {};
    const button = make(
      "button",
      { type: "button" },
      make("b", {}, `${one.name} head`),
      make("span", {}, `Layer ${layer}, head ${head} looks at ${one.says} with ${shares(one)}.`),
      make("q", { title: one.text ?? "" }, one.text ?? ""),
    );
    button.addEventListener("click", () => choose(one, index + 1));
    return button;
  });
  const none = tries
    .filter(({ sample }) => !sample)
    .map((one) => `No ${one.name} head: the nearest looks at ${one.says} with ${shares(one)}.`);
  element("tries").hidden = !tries.length;
  element("tries").replaceChildren(
    make("h3", {}, "Try this"),
    make("div", {}, ...buttons),
    ...(none.length ? [make("p", { class: "hint" }, none.join(" "))] : []),
  );
}
