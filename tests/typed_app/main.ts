import { attention, draw, loadModel, run } from "./app";

const base = new URL(import.meta.env.BASE_URL, location.href);
const model = await loadModel(import.meta.env.VITE_MODEL_URL, base, (share) => console.log(share));
const { tokens, outputs } = await run(model, "The dog was found in a field");
console.log(tokens); // Rows and columns of the picture.
draw(document.querySelector("canvas"), attention(outputs, model.layers.at(-1) ?? 0, 0)); // The last layer, head 0.
