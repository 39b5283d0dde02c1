// A value beside what it belongs to. Screen readers have it from the view's own output.

const tip = {
  /** @type {HTMLElement | undefined} */
  place: undefined,

  /** @type {(text: string, box: Pick<DOMRect, "left" | "right" | "top" | "bottom">) => void} */
  show(text, { left, right, top, bottom }) {
    this.place ??= document.body.appendChild(make("div", { class: "tip", "aria-hidden": "true" }));
    this.place.textContent = text;
    this.place.hidden = false;
    const { width, height } = this.place.getBoundingClientRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const x = right + 10 + width < clientWidth ? right + 10 : left - 10 - width;
    const y = bottom + 10 + height < clientHeight ? bottom + 10 : top - 10 - height;
    this.place.style.left = `${Math.max(4, Math.min(x, clientWidth - width - 4))}px`;
    this.place.style.top = `${Math.max(4, y)}px`;
  },

  hide() {
    if (this.place) this.place.hidden = true;
  },
};

// For elements that say something of themselves: under the pointer, and in focus.
/** @type {(of: Element, text: () => string) => void} */
function tipOn(of, text) {
  const show = () => tip.show(text(), of.getBoundingClientRect());
  of.addEventListener("pointerenter", show);
  of.addEventListener("pointerleave", () => tip.hide());
  of.addEventListener("focus", () => of.matches(":focus-visible") && show());
  of.addEventListener("blur", () => tip.hide());
}
