// The report: one prompt in full, and others to try, each with the layer that it is there for.

/** @type {Sample & { tries: Try[] }} */
const given = JSON.parse(/** @type {string} */ (element("sample").textContent));
const prompts = [given, ...given.tries.map(({ sample }) => sample)];
const views = createViews();

/** @param {number} number */
function showPrompt(number) {
  const sample = prompts[number];
  views.show(sample ?? given, sample ? number : 0);
  element("first-prompt").hidden = !sample || !number;
}

offerTries(given.tries, (_, number) => {
  showPrompt(number);
  element("views").scrollIntoView({ behavior: "smooth" });
});
element("first-prompt").addEventListener("click", () => showPrompt(0));
showPrompt(Number(new URLSearchParams(location.hash.slice(1)).get("prompt")));
