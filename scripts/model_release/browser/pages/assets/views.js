// The views of one prompt.

/** @param {{ append?: Stage["append"] }} [actions] */
function createViews({ append } = {}) {
  const stage = new Stage();
  stage.append = append;
  stage.add(promptView(stage), attentionView(stage), nextView(stage), vectorsView(stage));
  onThemeChange(() => stage.redraw());
  return {
    /** @param {Sample} sample */
    show(sample) {
      element("views").hidden = false;
      stage.show(sample);
    },
  };
}
