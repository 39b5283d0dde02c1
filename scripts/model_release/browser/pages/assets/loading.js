// Files of a release and of the packages beside it, into memory: the tokenizer, the runtime, a model.

const ORT = "/packages/onnxruntime-web/dist/";
const WASM = `${ORT}ort-wasm-simd-threaded`; // .mjs and .wasm
const REPORT = "report.html";
const TOKENIZERS = "/packages/@huggingface/tokenizers/dist/tokenizers.mjs";

// A script of a package. Browsers remember an import that failed, so that one is tried only where there is a server.
/** @param {string} url */
async function importPackage(url) {
  await fetchFile(url, { method: "HEAD" });
  return import(url);
}

/** @type {(name: string, answer: Response, size: number, tell: (received: number) => void) => Promise<Uint8Array>} */
async function receive(name, { body }, size, tell) {
  const reader = /** @type {NonNullable<typeof body>} */ (body).getReader();
  const next = () =>
    reader.read().catch((failure) => {
      throw new Explained(`${name} must arrive whole, the connection broke: ${wordsOf(failure)}. Try again.`);
    });
  const content = new Uint8Array(size);
  let received = 0;
  for (let part = await next(); !part.done; part = await next()) {
    if (received + part.value.length > size)
      throw new Explained(`${name} must have ${size} bytes as the manifest says, it has more. Make the release again.`);
    content.set(part.value, received);
    received += part.value.length;
    tell(received);
  }
  return content.subarray(0, received);
}

/** @type {(file: ListedFile, tell: (received: number) => void, signal: AbortSignal) => Promise<Uint8Array>} */
async function download({ name, size_bytes: size, sha256 }, tell, signal) {
  const content = await receive(name, await fetchFile(name, { signal }), size, tell);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (content)));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (content.length !== size || hash !== sha256) {
    throw new Explained(
      `${name} must be the file of the manifest, its sha256 is ${hash.slice(0, 12)}… of ${content.length} bytes. Make the release again.`,
    );
  }
  return content;
}

/** @returns {Promise<Release>} */
async function loadRelease() {
  /** @type {Manifest} */
  const manifest = await fetchJson("manifest.json");
  const has = (/** @type {string} */ name) => manifest.files.some((file) => file.name === name);
  if (!has("tokenizer.json"))
    throw new Explained(
      "The release must hold tokenizer.json to read text, it has none. Add it to the model's folder and release again.",
    );
  const { Tokenizer } = await importPackage(TOKENIZERS);
  /** @type {(name: string) => Promise<any>} */
  const optional = async (name) => (has(name) ? fetchJson(name) : {});
  const described = await optional("tokenizer_config.json");
  const config = await optional("config.json");
  /** @type {Tokenizer} */
  const tokenizer = new Tokenizer(await fetchJson("tokenizer.json"), described);
  // A config names the tokens that end a text by id, one or several, and a tokenizer's names one by its text.
  const named = described.eos_token?.content ?? described.eos_token;
  const ends = [config.eos_token_id, named && tokenizer.token_to_id(named)].flat().filter(Number.isInteger);
  const { telling = {}, tries = [] } = await loadFindings(manifest);
  return { manifest, tokenizer, ends: new Set(ends), telling, tries };
}

// What the release's report found: the heads that are worth a look, and the prompts that show them.
/** @type {(manifest: Manifest) => Promise<{ telling?: Partial<Choice>, tries?: Try[] }>} */
async function loadFindings({ descriptions = [] }) {
  if (!descriptions.includes(REPORT)) return {};
  const page = await (await fetchFile(REPORT)).text();
  // A parser of HTML would complain of the report's own style.
  return JSON.parse(/<script type="application\/json" id="sample">(.*?)<\/script>/s.exec(page)?.[1] ?? "{}");
}

// A model past 2 GiB keeps its large tensors beside its file, in FILE_data, FILE_data_1 and so on.
/** @type {(model: string, files: ListedFile[]) => ListedFile[]} */
const filesOf = (model, files) => files.filter(({ name }) => name === model || name.startsWith(`${model}_data`));

/** @type {(tell: (received: number, size: number) => void, signal: AbortSignal) => Promise<Ort>} */
async function loadRuntime(tell, signal) {
  /** @type {Ort} */
  const ort = await importPackage(`${ORT}ort.wasm.min.mjs`);
  if (ort.env.wasm.wasmBinary) {
    tell(0, 0);
    return ort;
  }
  await importPackage(`${WASM}.mjs`); // The runtime itself tries to import it but once.
  const answer = await fetchFile(`${WASM}.wasm`, { signal });
  const size = Number(answer.headers.get("Content-Length"));
  tell(0, size);
  ort.env.wasm.wasmBinary = await receive(answer.url, answer, size, (received) => tell(received, size));
  ort.env.wasm.wasmPaths = ORT;
  ort.env.wasm.numThreads = window.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  return ort;
}

// The runtime's program and the model's files come side by side; `tell` hears which share of both is there.
/** @type {(file: string, manifest: Manifest, tell: (share: number) => void) => Promise<Model>} */
async function loadModel(file, manifest, tell) {
  const began = performance.now();
  const files = filesOf(file, manifest.files);
  const size = files.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  const received = { model: 0, runtime: 0 };
  let whole = NaN; // Until the runtime's size is known.
  const told = () => Number.isNaN(whole) || tell((received.model + received.runtime) / whole);
  const stop = new AbortController();
  /** @type {Record<string, Uint8Array>} */
  const contents = {};
  async function downloadAll() {
    for (const entry of files) {
      const before = received.model;
      contents[entry.name] = await download(
        entry,
        (here) => {
          received.model = before + here;
          told();
        },
        stop.signal,
      );
    }
  }
  const runtime = loadRuntime((here, of) => {
    received.runtime = here;
    whole = size + of;
    told();
  }, stop.signal);
  try {
    const [ort] = await Promise.all([runtime, downloadAll()]);
    const session = await createSession(ort, file, contents);
    const took = ((performance.now() - began) / 1000).toFixed(1);
    return { ort, session, file, loaded: `${file}: ${(size / 1e6).toFixed(1)} MB, loaded in ${took} s` };
  } finally {
    stop.abort(); // What is still coming is of no use if the other has failed.
  }
}

/** @type {(ort: Ort, file: string, contents: Record<string, Uint8Array>) => Promise<Session>} */
async function createSession(ort, file, { [file]: model, ...data }) {
  const externalData = Object.entries(data).map(([path, data]) => ({ path, data }));
  try {
    const options = { executionProviders: ["wasm"], externalData };
    return await ort.InferenceSession.create(/** @type {Uint8Array} */ (model), options);
  } catch (failure) {
    throw new Explained(
      `onnxruntime-web must load ${file}, it says: ${wordsOf(failure).slice(0, 200)}. Choose another precision.`,
    );
  }
}
