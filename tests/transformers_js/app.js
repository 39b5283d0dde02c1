import { AutoModelForCausalLM, AutoTokenizer, env } from "@huggingface/transformers";

/** Loads a release from its mirror on the Hub.
 * @param {string} repository ORG/REPO @param {string} tag The release's, e.g. model-v1.0.0
 * @param {string} [runtime] See `load`. */
export async function loadMirrored(repository, tag, runtime) {
  if (runtime && env.backends.onnx.wasm) env.backends.onnx.wasm.wasmPaths = runtime;
  const model = await AutoModelForCausalLM.from_pretrained(repository, { revision: tag });
  return { tokenizer: await AutoTokenizer.from_pretrained(repository, { revision: tag }), model };
}

/** Loads what `fetch --layout transformers.js` has laid out.
 * @param {string} url VITE_MODEL_URL: models/NAME/onnx/FILE.onnx?v=…
 * @param {string} base A path, with a slash at its end: import.meta.env.BASE_URL, or the static folder in Node.js.
 * @param {string} [runtime] Where onnxruntime's files are served; by default a CDN, which the library asks. */
export async function load(url, base, runtime) {
  const [, folder, name = "", file] = /^(.*\/)?([^/]+)\/onnx\/([^/]+)\.onnx/.exec(url) ?? [];
  if (!file)
    throw new Error(`VITE_MODEL_URL must lead into onnx/, got ${url}. Run fetch with --layout transformers.js.`);
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  if (runtime && env.backends.onnx.wasm) env.backends.onnx.wasm.wasmPaths = runtime;
  env.localModelPath = `${base}${folder ?? ""}`;
  // "fp32" adds nothing to the file's name; what is stored in it is the file's own affair.
  const model = await AutoModelForCausalLM.from_pretrained(name, { model_file_name: file, dtype: "fp32" });
  return { tokenizer: await AutoTokenizer.from_pretrained(name), model };
}

/** What the model returns for a text: logits and activations, by name, each with `dims` and `data`.
 * @param {Awaited<ReturnType<typeof load>>} loaded @param {string} text */
export const see = async ({ tokenizer, model }, text) => model(tokenizer(text));

/** The text and how the model goes on with it.
 * @param {Awaited<ReturnType<typeof load>>} loaded @param {string} text @param {number} tokens */
export async function goOn({ tokenizer, model }, text, tokens) {
  const ids = await model.generate({ ...tokenizer(text), max_new_tokens: tokens, do_sample: false });
  return tokenizer.batch_decode(/** @type {import("@huggingface/transformers").Tensor} */ (ids), {
    skip_special_tokens: true,
  })[0];
}
