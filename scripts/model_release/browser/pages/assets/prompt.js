// The prompt: its tokens to choose from, tinted with what the chosen one looks at, and the layers.

/** @type {(stage: Stage) => View} */
function promptView(stage) {
  element("layer").addEventListener("change", () => stage.choose({ layer: Number(element("layer").value) }));

  function buildTokens() {
    const group = stage.sample.tokens.map(({ id }, position) => {
      const label = /** @type {TokenLabel} */ (stage.labels[position]);
      const input = make("input", { type: "radio", name: "token", value: position, "aria-label": label.name });
      input.addEventListener("change", () => stage.choose({ position }));
      const part = label.parts > 1 ? `, part ${label.part + 1} of ${label.parts} of a character` : "";
      const small = label.hint || (label.again ? String(position) : "");
      return make(
        "label",
        { title: `position ${position}, id ${id}${part}`, ...(label.part ? { class: "part" } : {}) },
        input,
        make("span", {}, label.shown, ...(small ? [make("small", {}, small)] : [])),
      );
    });
    element("tokens").replaceChildren(...group);
  }

  function buildLayers() {
    const { layers } = stage;
    element("layer").replaceChildren(...layers.map((layer) => make("option", { value: layer }, String(layer))));
    element("layers").hidden = layers.length === 0;
  }

  function tint() {
    const shown = stage.attention();
    if (!shown) return;
    const scale = probabilityScale();
    for (const [key, span] of element("tokens").querySelectorAll("span").entries()) {
      const value = shown.at(stage.chosen.head, stage.chosen.position, key);
      const colour = Number.isNaN(value) ? null : scale.colour(value);
      span.style.backgroundColor = colour ? `rgb(${colour})` : "";
      span.style.color = colour ? readableOn(colour) : "";
    }
  }

  return (changed) => {
    if (changed("sample")) {
      buildTokens();
      buildLayers();
    }
    for (const [position, input] of element("tokens").querySelectorAll("input").entries())
      input.checked = position === stage.chosen.position;
    element("layer").value = String(stage.chosen.layer);
    tint();
  };
}
