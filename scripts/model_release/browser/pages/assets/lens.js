// The logit lens: what each layer would say comes next, if it were the last.

/** @type {(stage: Stage) => View} */
function lensView(stage) {
  rove(element("lens-rows"), "tr");

  // The likeliest token of each position.
  /** @param {number} layer */
  const likeliestOf = (layer) => stage.sample.lens?.[layer] ?? [];

  /** @type {(layer: number, scale: Scale) => HTMLElement} */
  function row(layer, scale) {
    const cells = likeliestOf(layer).map(({ position, top }) => {
      const [best] = top;
      if (!best) return make("td");
      const name = followerName(stage.sample.tokens.slice(0, position + 1), best);
      const button = make("button", { type: "button" }, name);
      const colour = scale.colour(best.p);
      button.style.backgroundColor = `rgb(${colour})`;
      button.style.color = readableOn(colour);
      button.dataset.position = String(position);
      button.dataset.layer = String(layer);
      const said = `layer ${layer} after ${stage.word(position)}: “${name}” ${figure(best.p)}`;
      button.setAttribute("aria-label", said);
      tipOn(button, () => said);
      button.addEventListener("click", () => stage.choose({ layer, position }));
      return make("td", {}, button);
    });
    return make("tr", {}, make("th", { scope: "row" }, String(layer)), ...cells);
  }

  return (changed) => {
    const shown = Object.keys(stage.sample.lens ?? {})
      .map(Number)
      .sort((a, b) => b - a);
    element("lens-rows").hidden = !shown.length;
    element("lens-missing").textContent = shown.length ? "" : stage.absence("logit_lens");
    if (!shown.length) return;
    if (changed("sample")) {
      const scale = probabilityScale();
      const from = Math.min(...shown.flatMap((layer) => likeliestOf(layer).map(({ position }) => position)));
      const heads = stage.names.slice(from).map((name) => make("th", { scope: "col" }, name));
      element("lens-rows").replaceChildren(
        make(
          "table",
          { class: "lens" },
          make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "layer"), ...heads)),
          make("tbody", {}, ...shown.map((layer) => row(layer, scale))),
        ),
      );
    }
    for (const button of element("lens-rows").querySelectorAll("button"))
      button.classList.toggle("chosen", Number(button.dataset.position) === stage.chosen.position);
    const chosen = [...element("lens-rows").querySelectorAll("button.chosen")];
    const here = chosen.find((one) => one instanceof HTMLElement && one.dataset.layer === String(stage.chosen.layer));
    tabTo(element("lens-rows"), here ?? chosen[0]);
    reveal(element("lens-rows"), chosen[0]);
  };
}
