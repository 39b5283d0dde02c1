// Runs a released model for browser/gate.py, which asks and judges. Plain data in, plain data out.

// WebAssembly's memory is nowhere to be read but from the object itself, so every one made is kept.
/** @type {WebAssembly.Memory[]} */
const memories = [];
WebAssembly.Memory = class extends WebAssembly.Memory {
  /** @param {WebAssembly.MemoryDescriptor} descriptor */
  constructor(descriptor) {
    super(descriptor);
    memories.push(this);
  }
};

/** @type {typeof import("onnxruntime-web")} */
let ort;
/** @type {import("onnxruntime-web").InferenceSession} */
let session;

/**
 * Loads a model, its data files beside it; `{ refused }` if onnxruntime-web says that it cannot.
 * @param {{ build: string, files: [string, ...string[]], providers: string[], threads: number }} request
 */
export async function open({ build, files, providers, threads }) {
  ort = await import(build);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = "/packages/onnxruntime-web/dist/";
  if (threads) ort.env.wasm.numThreads = threads;
  const start = performance.now();
  const [file, ...others] = files;
  const [model, externalData] = await Promise.all([download(file), Promise.all(others.map(downloadData))]);
  const downloaded = performance.now();
  try {
    const chosen = providers.length ? { executionProviders: providers } : {};
    session = await ort.InferenceSession.create(model, { ...chosen, externalData });
  } catch (failure) {
    return { refused: wordsOf(failure) };
  }
  // Without cross-origin isolation onnxruntime-web goes on with one thread, and only its console says so.
  if (threads && ort.env.wasm.numThreads !== threads) return { refused: `it gives ${ort.env.wasm.numThreads} thread` };
  return { load_ms: performance.now() - start, session_ms: performance.now() - downloaded };
}

/**
 * Runs rows of token ids once: how long it takes, and every output as base64 of its bytes.
 * @param {number[][]} rows
 */
export async function run(rows) {
  const start = performance.now();
  /** @type {Record<string, { type: string, dims: readonly number[], data: ArrayBufferView }>} */
  let results;
  try {
    results = /** @type {typeof results} */ (await session.run(feeds(rows)));
  } catch (failure) {
    return { refused: wordsOf(failure) };
  }
  const run_ms = performance.now() - start;
  /** @type {Record<string, { type: string, dims: readonly number[], data: string }>} */
  const outputs = {};
  for (const [name, { type, dims, data }] of Object.entries(results)) {
    outputs[name] = { type, dims, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).toBase64() };
  }
  return { run_ms, outputs };
}

/**
 * How long each of several runs takes, in ms; no further run begins after `enough_ms`.
 * @param {{ rows: number[][], times: number, enough_ms: number }} request
 */
export async function time({ rows, times, enough_ms }) {
  const taken = [];
  const began = performance.now();
  do {
    const start = performance.now();
    await session.run(feeds(rows));
    taken.push(performance.now() - start);
  } while (taken.length < times && performance.now() - began < enough_ms);
  return taken;
}

/** Bytes in use: JavaScript's heap and WebAssembly's memories. */
export function memory() {
  const wasm = memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
  return { js: performance.memory?.usedJSHeapSize ?? null, wasm };
}

/**
 * A text as token ids, by the released tokenizer files; `config` may be missing.
 * @param {{ text: string, tokenizer: string, config: string | null }} request
 */
export async function encode({ text, tokenizer, config }) {
  const { Tokenizer } = await import("@huggingface/tokenizers");
  const [vocabulary, settings] = await Promise.all([fetchJson(tokenizer), config ? fetchJson(config) : {}]);
  return new Tokenizer(vocabulary, settings).encode(text, { add_special_tokens: false }).ids;
}

// What changes nothing, of the inputs of --interventions.
/** @type {Record<string, number>} */
const NEUTRAL = { head_gain: 1, steering: 0 };

/**
 * Rows of token ids; where the model takes any, keys and values of no tokens before, and gains and vectors that change
 * nothing.
 * @param {number[][]} rows
 */
function feeds(rows) {
  const ids = BigInt64Array.from(rows.flat(), BigInt);
  const [name = "input_ids"] = session.inputNames;
  /** @type {Record<string, import("onnxruntime-web").Tensor>} */
  const given = { [name]: new ort.Tensor("int64", ids, [rows.length, ids.length / rows.length]) };
  for (const input of session.inputMetadata) {
    if (!input.isTensor) continue;
    const neutral = NEUTRAL[input.name];
    if (neutral !== undefined) {
      const dims = input.shape.map(Number);
      const values = new Float32Array(dims.reduce((size, dim) => size * dim, 1)).fill(neutral);
      given[input.name] = new ort.Tensor("float32", values, dims);
    }
    if (!input.name.startsWith("past_key_values.")) continue;
    const [, heads, , width] = input.shape;
    given[input.name] = new ort.Tensor("float32", new Float32Array(), [rows.length, Number(heads), 0, Number(width)]);
  }
  return given;
}

/** @param {string} path */
const download = async (path) => new Uint8Array(await (await fetchFile(path)).arrayBuffer());

/** @param {string} path */
const downloadData = async (path) => ({ path, data: await download(path) });
