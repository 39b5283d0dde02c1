// A text in the model. With keys and values as inputs a new token runs alone, else the whole text runs again.

const PAST = "past_key_values.";
const PRESENT = "present.";
const TOP = 10;
const GAIN = "head_gain"; // [layers, heads]: 1 keeps a head, 0 removes it
/** @type {Record<string, number>} */
const NEUTRAL = { [GAIN]: 1, steering: 0 };

/** @type {(session: Session) => { name: string, shape: readonly (number | string)[] }[]} */
const inputsOf = (session) => session.inputMetadata.filter((input) => input.isTensor);

/** @param {Session} session */
const hasCache = (session) => inputsOf(session).some(({ name }) => name.startsWith(PAST));

/** @param {Session} session */
const hasGains = (session) => inputsOf(session).some(({ name }) => name === GAIN);

// What every input besides the tokens begins with: keys and values of no tokens, and values that change nothing.
/** @type {(model: Model, off: Head[]) => Record<string, Tensor>} */
function startOf({ ort, session }, off) {
  /** @type {Record<string, Tensor>} */
  const start = {};
  for (const { name, shape } of inputsOf(session)) {
    const sizes = shape.map(Number);
    if (name.startsWith(PAST)) {
      const [, heads = 0, , width = 0] = sizes;
      start[name] = new ort.Tensor("float32", new Float32Array(), [1, heads, 0, width]);
    } else if (name in NEUTRAL) {
      const values = new Float32Array(sizes.reduce((product, size) => product * size, 1)).fill(NEUTRAL[name] ?? 0);
      const [, heads = 0] = sizes;
      if (name === GAIN) for (const { layer, head } of off) values[layer * heads + head] = 0;
      start[name] = new ort.Tensor("float32", values, sizes);
    }
  }
  return start;
}

// What the model returned for the tokens so far.
class Reading {
  /** @type {number[]} */
  ids = [];
  took = 0; // milliseconds of the last run
  #model;
  #fed; // besides the tokens
  /** @type {Record<string, Grown>} */
  #outputs = {};
  /** @type {Map<number, Float32Array>} */
  #scores = new Map();
  /** @type {Record<string, Map<number, { id: number, p: number }>>} */
  #lens = {};

  /** @type {Head[]} */
  off;

  /**
   * @param {Model} model
   * @param {Head[]} off  Heads that write nothing.
   */
  constructor(model, off = []) {
    this.#model = model;
    this.off = off;
    this.#fed = startOf(model, off);
  }

  // Runs these tokens, which come after those that are there.
  /** @param {number[]} more */
  async read(more) {
    const { ort, session } = this.#model;
    const ids = [...this.ids, ...more];
    const given = hasCache(session) ? more : ids;
    const tokens = new ort.Tensor("int64", BigInt64Array.from(given, BigInt), [1, given.length]);
    const began = performance.now();
    const results = /** @type {Results} */ (await session.run({ input_ids: tokens, ...this.#fed }));
    this.took = performance.now() - began;
    this.ids = ids;
    this.#keep(results, given.length < ids.length);
  }

  /** @type {(results: Results, isStep: boolean) => void} */
  #keep({ logits, ...others }, isStep) {
    const rows = rowsOf(logits); // A model may return the last position's scores alone.
    for (const [row, scores] of rows.entries()) this.#scores.set(this.ids.length - rows.length + row, scores);
    for (const [name, tensor] of Object.entries(others)) {
      const lens = /^layer_(\d+)_logit_lens$/.exec(name)?.[1];
      if (name.startsWith(PRESENT)) this.#fed[name.replace(PRESENT, PAST)] = tensor;
      else if (lens) this.#keepLens(lens, tensor);
      else this.#keepOutput(name, tensor, isStep);
    }
  }

  // A vocabulary a token and layer is far too much to hold: the likeliest of each is kept.
  /** @type {(layer: string, scores: Tensor) => void} */
  #keepLens(layer, scores) {
    this.#lens[layer] ??= new Map();
    const rows = rowsOf(scores);
    for (const [row, here] of rows.entries()) {
      const [likely] = mostLikely(here, 1);
      this.#lens[layer].set(this.ids.length - rows.length + row, likely ?? { id: -1, p: NaN });
    }
  }

  /** @type {(name: string, tensor: Tensor, isStep: boolean) => void} */
  #keepOutput(name, tensor, isStep) {
    const shape = /** @type {Part["shape"]} */ (/** @type {unknown} */ (tensor.dims.slice(1)));
    const before = isStep ? this.#outputs[name] : undefined;
    this.#outputs[name] = new Grown([...(before?.parts ?? []), { shape, values: tensor.data }]);
  }

  /** @param {Tokenizer} tokenizer */
  #expected(tokenizer) {
    return Array.from(this.#scores, ([position, scores]) => new Expected(position, scores, tokenizer));
  }

  // Of the token that comes next: [vocab].
  get scores() {
    return /** @type {Float32Array} */ (this.#scores.get(this.ids.length - 1));
  }

  // `plain` is the same text with all heads on, to compare with.
  /** @type {(tokenizer: Tokenizer, plain: Reading) => Sample} */
  sample(tokenizer, plain) {
    return {
      tokens: this.ids.map((id) => tokenOf(tokenizer, id)),
      tensors: { ...this.#outputs },
      next: this.#expected(tokenizer),
      lens: Object.fromEntries(
        Object.entries(this.#lens).map(([layer, likely]) => [
          layer,
          Array.from(likely, ([position, { id, p }]) => ({ position, top: [{ ...tokenOf(tokenizer, id), p }] })),
        ]),
      ),
      ...(hasGains(this.#model.session) ? { off: this.off } : {}),
      ...(plain !== this && plain.ids.length === this.ids.length ? { before: plain.#expected(tokenizer) } : {}),
    };
  }
}

// [1, rows, vocab], row by row.
/** @type {(scores: Tensor) => Float32Array[]} */
function rowsOf({ dims, data }) {
  const [, rows = 0, vocab = 0] = dims;
  return Array.from({ length: rows }, (_, row) => data.subarray(row * vocab, (row + 1) * vocab));
}

// One output, in the parts that the runs gave. A later part may be wider: it has columns for more keys.
class Grown {
  parts;

  /** @param {Part[]} parts */
  constructor(parts) {
    this.parts = parts;
  }

  get shape() {
    return joinedShape(this.parts);
  }

  get values() {
    return this.#whole.values;
  }

  // Put together when it is looked at, once.
  get #whole() {
    if (this.parts.length > 1) this.parts = [joinParts(this.parts)];
    return /** @type {Part} */ (this.parts[0]);
  }
}

// [..., rows, width]: rows below rows, as wide as the widest.
/** @type {(parts: Part[]) => Part["shape"]} */
function joinedShape(parts) {
  const rows = parts.reduce((sum, { shape }) => sum + Number(shape.at(-2)), 0);
  const width = Math.max(...parts.map(({ shape }) => Number(shape.at(-1))));
  return /** @type {Part["shape"]} */ ([...(parts[0]?.shape.slice(0, -2) ?? []), rows, width]);
}

// Later keys, which a part could not see, get 0, as after a softmax.
/** @type {(parts: Part[]) => Part} */
function joinParts(parts) {
  const shape = joinedShape(parts);
  const [rows, width] = [Number(shape.at(-2)), Number(shape.at(-1))];
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  let first = 0;
  for (const part of parts) {
    const [given, narrow] = [Number(part.shape.at(-2)), Number(part.shape.at(-1))];
    for (let row = 0; row * narrow < part.values.length; row++) {
      const to = Math.floor(row / given) * rows + first + (row % given);
      values.set(part.values.subarray(row * narrow, (row + 1) * narrow), to * width);
    }
    first += given;
  }
  return { shape, values };
}

// What may come after a position: counted when it is looked at, once.
class Expected {
  position;
  #scores;
  #tokenizer;
  /** @type {(Token & { p: number })[] | undefined} */
  #top;

  /**
   * @param {number} position
   * @param {Float32Array} scores
   * @param {Tokenizer} tokenizer
   */
  constructor(position, scores, tokenizer) {
    this.position = position;
    this.#scores = scores;
    this.#tokenizer = tokenizer;
  }

  /** @param {number} id */
  shareOf(id) {
    const [best] = this.top;
    return best ? best.p * Math.exp((this.#scores[id] ?? NaN) - (this.#scores[best.id] ?? NaN)) : NaN;
  }

  get top() {
    this.#top ??= mostLikely(this.#scores, TOP).map(({ id, p }) => ({ ...tokenOf(this.#tokenizer, id), p }));
    return this.#top;
  }
}

// With its piece where its text is a part of a character.
/** @type {(tokenizer: Tokenizer, id: number) => Token} */
function tokenOf(tokenizer, id) {
  const text = spell(tokenizer, id);
  return text.includes("\ufffd") ? { id, text, piece: tokenizer.id_to_token(id) } : { id, text };
}

/** @type {(tokenizer: Tokenizer, id: number) => string} */
const spell = (tokenizer, id) => spellAll(tokenizer, [id]) || `#${id}`;

/** @type {(tokenizer: Tokenizer, ids: number[]) => string} */
const spellAll = (tokenizer, ids) =>
  tokenizer.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
