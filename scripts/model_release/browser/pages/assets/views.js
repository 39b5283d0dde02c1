// The views of one prompt.

function createViews() {
  const stage = new Stage();
  stage.add(promptView(stage), attentionView(stage), linesView(stage), wholeView(stage));
  stage.add(productView(stage), nextView(stage), lensView(stage), writesView(stage), vectorsView(stage));
  window.addEventListener("scroll", () => tip.hide(), { capture: true, passive: true });
  onThemeChange(() => stage.redraw());
  return {
    /** @type {(sample: Sample, prompt?: number) => void} */
    show(sample, prompt = 0) {
      element("views").hidden = false;
      stage.show(sample, prompt);
    },
  };
}
