// The logit lens: what each layer would say comes next, if it were the last.

/** @type {(stage: Stage) => View} */
function lensView(stage) {
  // The likeliest token of each position: given, or read from the layer's scores.
  /** @type {(layer: number) => Sample["next"]} */
  function likeliest(layer) {
    const { lens, spell, tokens } = stage.sample;
    const given = lens?.[layer];
    if (given) return given;
    const shown = stage.sample.tensors[`layer_${layer}_logit_lens`];
    if (!shown || !spell) return [];
    const [rows, vocab] = /** @type {[number, number]} */ (shown.shape);
    return Array.from({ length: rows }, (_, row) => {
      const scores = valuesOf(shown).subarray(row * vocab, (row + 1) * vocab);
      let best = 0;
      for (let id = 1; id < vocab; id++) if ((scores[id] ?? 0) > (scores[best] ?? 0)) best = id;
      const highest = scores[best] ?? 0;
      const p = 1 / scores.reduce((sum, score) => sum + Math.exp(score - highest), 0);
      return { position: tokens.length - rows + row, top: [{ ...spell(best), p }] };
    });
  }

  /** @type {(layer: number, scale: Scale) => HTMLElement} */
  function row(layer, scale) {
    const cells = likeliest(layer).map(({ position, top }) => {
      const [best] = top;
      if (!best) return make("td");
      const name = followerName(stage.sample.tokens.slice(0, position + 1), best);
      const button = make("button", { type: "button" }, name);
      const colour = scale.colour(best.p);
      button.style.backgroundColor = `rgb(${colour})`;
      button.style.color = readableOn(colour);
      button.dataset.position = String(position);
      const said = `layer ${layer} after ${stage.word(position)}: “${name}” ${figure(best.p)}`;
      button.setAttribute("aria-label", said);
      tipOn(button, () => said);
      button.addEventListener("click", () => stage.choose({ layer, position }));
      return make("td", {}, button);
    });
    return make("tr", {}, make("th", { scope: "row" }, String(layer)), ...cells);
  }

  return (changed) => {
    const layers = stage.layers.concat(Object.keys(stage.sample.lens ?? {}).map(Number));
    const shown = [...new Set(layers)].filter((layer) => likeliest(layer).length).sort((a, b) => b - a);
    element("lens-rows").hidden = !shown.length;
    element("lens-missing").textContent = shown.length ? "" : stage.absence("logit_lens");
    if (!shown.length) return;
    if (changed("sample")) {
      const scale = probabilityScale();
      const from = Math.min(...shown.flatMap((layer) => likeliest(layer).map(({ position }) => position)));
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
  };
}
