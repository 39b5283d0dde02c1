import { attention, loadModel, run } from "./app";

const url = new URL(import.meta.env.VITE_MODEL_URL, new URL(import.meta.env.BASE_URL, location.href));
const session = await loadModel(url, (share) => console.log(`${Math.round(100 * share)} %`));
const outputs = await run(session, [464, 3290]); // What the tokenizer.json beside the model makes of "The dog".
console.log(attention(outputs, 0, 1)); // Layer 11, head 0: how much the second token attends to each.
