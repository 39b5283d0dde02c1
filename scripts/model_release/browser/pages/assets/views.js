// The views of one prompt.

/**
 * @param {Actions} [actions]
 * @param {((stage: Stage) => View)[]} more  Views that only this page has.
 */
function createViews(actions, ...more) {
  const stage = new Stage();
  stage.actions = actions;
  stage.add(promptView(stage), attentionView(stage), linesView(stage), wholeView(stage));
  stage.add(productView(stage), nextView(stage), lensView(stage), writesView(stage), vectorsView(stage));
  stage.add(...more.map((view) => view(stage)));
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
