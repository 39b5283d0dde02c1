// Runs a released model for browser/gate.py, which asks and judges. Plain data in, plain data out.

// WebAssembly's memory is nowhere to be read but from the object itself, so every one made is kept.
const memories = [];
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(descriptor) {
    super(descriptor);
    memories.push(this);
  }
};

let ort, session;

/** Loads a model, its data files beside it; `{ refused }` if onnxruntime-web says that it cannot. */
export async function open({ build, files, providers, threads }) {
  ort = await import(build);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = "/packages/onnxruntime-web/dist/";
  if (threads) ort.env.wasm.numThreads = threads;
  const options = providers.length ? { executionProviders: providers } : {};
  const start = performance.now();
  const [model, ...data] = await Promise.all(files.map(download));
  const downloaded = performance.now();
  if (data.length) options.externalData = data.map((content, index) => ({ path: files[index + 1], data: content }));
  try {
    session = await ort.InferenceSession.create(model, options);
  } catch (failure) {
    return { refused: String(failure?.message ?? failure) };
  }
  // Without cross-origin isolation onnxruntime-web goes on with one thread, and only its console says so.
  if (threads && ort.env.wasm.numThreads !== threads) return { refused: `it gives ${ort.env.wasm.numThreads} thread` };
  return { load_ms: performance.now() - start, session_ms: performance.now() - downloaded };
}

/** Runs rows of token ids once: how long it takes, and every output as base64 of its bytes. */
export async function run(rows) {
  const start = performance.now();
  let results;
  try {
    results = await session.run(feeds(rows));
  } catch (failure) {
    return { refused: String(failure?.message ?? failure) };
  }
  const run_ms = performance.now() - start;
  const outputs = {};
  for (const [name, { type, dims, data }] of Object.entries(results)) {
    outputs[name] = { type, dims, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).toBase64() };
  }
  return { run_ms, outputs };
}

/** How long each of several runs takes, in ms; no further run begins after `enough_ms`. */
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

/** A text as token ids, by the released tokenizer files; `config` may be missing. */
export async function encode({ text, tokenizer, config }) {
  const { Tokenizer } = await import("@huggingface/tokenizers");
  const [vocabulary, settings] = await Promise.all([tokenizer, config].map((url) => (url ? read(url) : {})));
  return new Tokenizer(vocabulary, settings).encode(text, { add_special_tokens: false }).ids;
}

function feeds(rows) {
  const ids = BigInt64Array.from(rows.flat(), BigInt);
  return { [session.inputNames[0]]: new ort.Tensor("int64", ids, [rows.length, rows[0].length]) };
}

const download = async (url) => new Uint8Array(await (await get(url)).arrayBuffer());

const read = async (url) => (await get(url)).json();

async function get(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer;
}
