// The live page: what the release beside it returns for a text, through the release's own tokenizer.

const ORT = "/packages/onnxruntime-web/dist/";
const TOKENIZERS = "/packages/@huggingface/tokenizers/dist/tokenizers.mjs";
const MAX_TOKENS = 64;
const TOP = 10;

/** @type {(file: ListedFile, tell: (received: number) => void) => Promise<Uint8Array>} */
async function download({ name, size_bytes: size, sha256 }, tell) {
  const { body } = await fetchFile(name);
  const reader = /** @type {NonNullable<typeof body>} */ (body).getReader();
  const content = new Uint8Array(size);
  let received = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (received + part.value.length > size)
      throw new Explained(`${name} must have ${size} bytes as the manifest says, it has more. Make the release again.`);
    content.set(part.value, received);
    received += part.value.length;
    tell(received);
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (received !== size || hash !== sha256) {
    throw new Explained(
      `${name} must be the file of the manifest, its sha256 is ${hash.slice(0, 12)}… of ${received} bytes. Make the release again.`,
    );
  }
  return content;
}

/** @type {(names: string[]) => Promise<Tokenizer>} */
async function loadTokenizer(names) {
  if (!names.includes("tokenizer.json"))
    throw new Explained(
      "The release must hold tokenizer.json to read text, it has none. Add it to the model's folder and release again.",
    );
  const { Tokenizer } = await import(TOKENIZERS);
  const config = names.includes("tokenizer_config.json") ? await fetchJson("tokenizer_config.json") : {};
  return new Tokenizer(await fetchJson("tokenizer.json"), config);
}

// A model past 2 GiB keeps its large tensors beside its file, in FILE_data, FILE_data_1 and so on.
/** @type {(model: string, files: ListedFile[]) => ListedFile[]} */
const filesOf = (model, files) => files.filter(({ name }) => name === model || name.startsWith(`${model}_data`));

/** @type {(file: string, contents: Record<string, Uint8Array>) => Promise<{ ort: Ort, session: Session }>} */
async function loadModel(file, contents) {
  /** @type {Ort} */
  const ort = await import(`${ORT}ort.wasm.min.mjs`);
  ort.env.wasm.wasmPaths = ORT;
  ort.env.wasm.numThreads = window.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  const { [file]: model, ...data } = contents;
  const externalData = Object.entries(data).map(([path, data]) => ({ path, data }));
  try {
    const options = { executionProviders: ["wasm"], externalData };
    return { ort, session: await ort.InferenceSession.create(/** @type {Uint8Array} */ (model), options) };
  } catch (failure) {
    throw new Explained(
      `onnxruntime-web must load ${file}, it says: ${wordsOf(failure).slice(0, 200)}. Choose another precision.`,
    );
  }
}

/** @type {(tokenizer: Tokenizer, id: number) => string} */
const spell = (tokenizer, id) =>
  tokenizer.decode([id], { skip_special_tokens: false, clean_up_tokenization_spaces: false }) || `#${id}`;

// Scores of one position -> the most likely tokens. Only scores are sorted whole, not ids: it is faster.
/** @type {(scores: Float32Array, tokenizer: Tokenizer) => (Token & { p: number })[]} */
function mostLikely(scores, tokenizer) {
  const sorted = scores.toSorted();
  const [highest, least] = [sorted.at(-1) ?? 0, sorted.at(-TOP) ?? -Infinity];
  const total = scores.reduce((sum, score) => sum + Math.exp(score - highest), 0);
  /** @type {{ id: number, score: number }[]} */
  const likely = [];
  scores.forEach((score, id) => {
    if (score >= least) likely.push({ id, score });
  });
  likely.sort((a, b) => b.score - a.score);
  return likely.slice(0, TOP).map(({ id, score }) => ({
    id,
    text: spell(tokenizer, id),
    p: Math.exp(score - highest) / total,
  }));
}

// Whether heads of a model can be switched off: it was exported with --interventions.
/** @type {(session: Session) => boolean} */
const canSwitchHeads = (session) => session.inputNames.includes("head_gain");

/**
 * Token ids; where the model takes any, keys and values of no tokens before, gains that remove the heads that are
 * switched off, and vectors that steer nowhere.
 * @type {(ort: Ort, session: Session, ids: number[], off: Head[]) => Record<string, import("onnxruntime-web").Tensor>}
 */
function feeds(ort, session, ids, off) {
  /** @type {Record<string, import("onnxruntime-web").Tensor>} */
  const given = { input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]) };
  for (const input of session.inputMetadata) {
    if (!input.isTensor) continue;
    const dims = input.shape.map(Number);
    const [rows = 0, columns = 0, , width = 0] = dims;
    if (input.name.startsWith("past_key_values.")) {
      given[input.name] = new ort.Tensor("float32", new Float32Array(), [1, columns, 0, width]);
    } else if (input.name === "head_gain") {
      const gains = new Float32Array(rows * columns).fill(1);
      for (const { layer, head } of off) gains[layer * columns + head] = 0;
      given[input.name] = new ort.Tensor("float32", gains, dims);
    } else if (input.name === "steering") {
      given[input.name] = new ort.Tensor("float32", new Float32Array(rows * columns), dims);
    }
  }
  return given;
}

/** @type {(model: { ort: Ort, session: Session }, release: Release, text: string, off?: Head[]) => Promise<Sample>} */
async function runModel({ ort, session }, { manifest, tokenizer }, text, off = []) {
  if (off.length && !canSwitchHeads(session))
    throw new Explained("Heads of this model cannot be switched off. Release it with --interventions.");
  const { ids } = tokenizer.encode(text, { add_special_tokens: false });
  const most = Math.min(MAX_TOKENS, manifest.model.shape.context ?? manifest.model.shape.positions ?? MAX_TOKENS);
  if (ids.length < 1 || ids.length > most)
    throw new Explained(
      `The text must have 1 to ${most} tokens, it has ${ids.length}. ${ids.length ? "Shorten it." : "Write something."}`,
    );
  const { logits, ...others } = /** @type {Results} */ (
    /** @type {any} */ (await session.run(feeds(ort, session, ids, off)))
  );
  const [, rows, vocab] = logits.dims;
  const first = ids.length - rows; // A model may return the last position's scores alone.
  return {
    tokens: ids.map((id) => ({ id, text: spell(tokenizer, id) })),
    tensors: Object.fromEntries(
      Object.entries(others)
        .filter(([name]) => !name.startsWith("present."))
        .map(([name, { dims, data }]) => {
          const [, ...shape] = dims;
          return [name, { shape, values: data }];
        }),
    ),
    next: Array.from({ length: rows }, (_, row) => ({
      position: first + row,
      top: mostLikely(logits.data.subarray(row * vocab, (row + 1) * vocab), tokenizer),
    })),
  };
}

function startPage() {
  const views = createViews();
  /** @type {Release | undefined} */
  let release;
  /** @type {{ ort: Ort, session: Session, loaded: string } | undefined} */
  let model;

  /** @param {string} text */
  const say = (text) => (element("status").textContent = text);

  // Runs one thing at a time, and puts what went wrong into one sentence.
  /** @param {() => Promise<void>} work */
  async function attempt(work) {
    element("run").disabled = element("precision").disabled = true;
    element("error").hidden = true;
    try {
      await work();
    } catch (failure) {
      say(model?.loaded ?? "");
      element("error").textContent =
        failure instanceof Explained ? failure.message : `Unexpected: ${failure}. Please report it.`;
      element("error").hidden = false;
    } finally {
      element("precision").disabled = !release;
      element("run").disabled = !model;
    }
  }

  async function readRelease() {
    /** @type {Manifest} */
    const manifest = await fetchJson("manifest.json");
    element("tag").textContent = `Live, in this browser · ${manifest.tag}`;
    element("name").textContent = document.title = manifest.name;
    element("version").textContent = manifest.version;
    const options = manifest.variants.map(({ file, precision, size_bytes: size }) =>
      make("option", { value: file }, `${precision}, ${(size / 1e6).toFixed(1)} MB`),
    );
    element("precision").replaceChildren(...options);
    element("precision").value = manifest.delivery.file;
    release = { manifest, tokenizer: await loadTokenizer(manifest.files.map(({ name }) => name)) };
  }

  async function changeModel() {
    if (!release) return;
    await model?.session.release();
    model = undefined;
    const file = element("precision").value;
    say(`Loading ${file}`);
    const began = performance.now();
    const files = filesOf(file, release.manifest.files);
    const size = files.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
    /** @type {Record<string, Uint8Array>} */
    const contents = {};
    let loaded = 0;
    for (const entry of files) {
      contents[entry.name] = await download(entry, (received) => {
        element("progress").value = (loaded + received) / size;
      });
      loaded += entry.size_bytes;
    }
    const made = await loadModel(file, contents);
    const took = ((performance.now() - began) / 1000).toFixed(1);
    model = { ...made, loaded: `${file}: ${(size / 1e6).toFixed(1)} MB, loaded in ${took} s` };
  }

  async function run() {
    const began = performance.now();
    if (!release || !model) return;
    const sample = await runModel(model, release, element("text").value);
    say(`${model.loaded}; ran ${sample.tokens.length} tokens in ${Math.round(performance.now() - began)} ms`);
    views.show(sample);
  }

  element("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(run);
  });
  element("precision").addEventListener("change", () => attempt(() => changeModel().then(run)));
  attempt(() => readRelease().then(changeModel).then(run));
}

startPage();
