// Switching heads off and on, where a model is at hand.

/** @type {(stage: Stage) => View} */
function switchesView(stage) {
  const toggle = make("button", { type: "button", id: "switch-head" });
  const all = make("button", { type: "button", id: "all-on" }, "All heads on");
  const hint = make("p", { class: "hint", id: "switch-hint" });
  const here = () => ({ layer: stage.chosen.layer, head: stage.chosen.head });
  toggle.addEventListener("click", () => stage.actions?.switchHead(here()));
  all.addEventListener("click", () => stage.actions?.switchHead());
  element("heads").after(make("p", { class: "row" }, toggle, all), hint);

  return () => {
    const { off } = stage.sample;
    const { layer, head } = here();
    const isOff = hasHead(off ?? [], layer, head);
    toggle.hidden = !off;
    toggle.textContent = `Switch head ${head} of layer ${layer} ${isOff ? "on" : "off"}`;
    all.hidden = !off?.length;
    hint.textContent = off
      ? off.length
        ? `Off: ${off.map(({ layer, head }) => `layer ${layer} head ${head}`).join(", ")}. Next token shows what that changes.`
        : "A head that is off writes nothing into the stream; all that follows runs without it."
      : "This file takes no gains of heads. A release made with --interventions lets you switch them off here.";
    for (const [index, label] of element("heads").querySelectorAll("label").entries())
      label.classList.toggle("off", hasHead(off ?? [], layer, index));
  };
}

/** @type {(heads: Head[], layer: number, head: number) => boolean} */
const hasHead = (heads, layer, head) => heads.some((each) => each.layer === layer && each.head === head);
