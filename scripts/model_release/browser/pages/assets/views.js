// The views of one prompt.

function createViews() {
  const stage = new Stage();
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
