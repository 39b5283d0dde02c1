// A text in the model. With keys and values as inputs a new token runs alone, else the whole text runs again.

const PAST = "past_key_values.";
const PRESENT = "present.";
const TOP = 10;

/** @type {(session: Session) => { name: string, shape: readonly (number | string)[] }[]} */
const inputsOf = (session) => session.inputMetadata.filter((input) => input.isTensor);

/** @param {Session} session */
const hasCache = (session) => inputsOf(session).some(({ name }) => name.startsWith(PAST));

// What the model returned for the tokens so far.
class Reading {
  /** @type {number[]} */
  ids = [];
  took = 0; // milliseconds of the last run
  #model;
  /** @type {Record<string, Tensor>} */
  #past = {};
  /** @type {Record<string, Grown>} */
  #outputs = {};
  /** @type {Map<number, Float32Array>} */
  #scores = new Map();

  /** @param {Model} model */
  constructor(model) {
    this.#model = model;
    const { Tensor } = model.ort;
    for (const { name, shape } of inputsOf(model.session)) {
      const [, heads, , width] = shape;
      if (name.startsWith(PAST))
        this.#past[name] = new Tensor("float32", new Float32Array(), [1, Number(heads), 0, Number(width)]);
    }
  }

  // Runs these tokens, which come after those that are there.
  /** @param {number[]} more */
  async read(more) {
    const { ort, session } = this.#model;
    const ids = [...this.ids, ...more];
    const given = hasCache(session) ? more : ids;
    const tokens = new ort.Tensor("int64", BigInt64Array.from(given, BigInt), [1, given.length]);
    const began = performance.now();
    const results = /** @type {Results} */ (await session.run({ input_ids: tokens, ...this.#past }));
    this.took = performance.now() - began;
    this.ids = ids;
    this.#keep(results, given.length < ids.length);
  }

  /** @type {(results: Results, isStep: boolean) => void} */
  #keep({ logits, ...others }, isStep) {
    const [, rows, vocab] = logits.dims; // A model may return the last position's scores alone.
    for (let row = 0; row < rows; row++)
      this.#scores.set(this.ids.length - rows + row, logits.data.subarray(row * vocab, (row + 1) * vocab));
    for (const [name, tensor] of Object.entries(others)) {
      if (name.startsWith(PRESENT)) {
        this.#past[name.replace(PRESENT, PAST)] = tensor;
        continue;
      }
      const shape = /** @type {Part["shape"]} */ (/** @type {unknown} */ (tensor.dims.slice(1)));
      const before = isStep ? this.#outputs[name] : undefined;
      this.#outputs[name] = new Grown([...(before?.parts ?? []), { shape, values: tensor.data }]);
    }
  }

  // Of the token that comes next: [vocab].
  get scores() {
    return /** @type {Float32Array} */ (this.#scores.get(this.ids.length - 1));
  }

  /** @type {(tokenizer: Tokenizer) => Sample} */
  sample(tokenizer) {
    return {
      tokens: this.ids.map((id) => ({ id, text: spell(tokenizer, id) })),
      tensors: { ...this.#outputs },
      next: Array.from(this.#scores, ([position, scores]) => new Expected(position, scores, tokenizer)),
    };
  }
}

// One output, in the parts that the runs gave. A later part may be wider: it has columns for more keys.
class Grown {
  parts;

  /** @param {Part[]} parts */
  constructor(parts) {
    this.parts = parts;
  }

  get shape() {
    return this.#whole.shape;
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

// [..., rows, width]: rows below rows. Later keys, which a part could not see, get 0, as after a softmax.
/** @type {(parts: Part[]) => Part} */
function joinParts(parts) {
  const sizes = parts.map(({ shape }) => ({ rows: Number(shape.at(-2)), width: Number(shape.at(-1)) }));
  const rows = sizes.reduce((sum, size) => sum + size.rows, 0);
  const width = Math.max(...sizes.map((size) => size.width));
  const lead = parts[0]?.shape.slice(0, -2) ?? [];
  const blocks = lead.reduce((product, size) => product * size, 1);
  const values = new Float32Array(blocks * rows * width);
  let first = 0;
  parts.forEach((part, index) => {
    const size = /** @type {{ rows: number, width: number }} */ (sizes[index]);
    for (let row = 0; row < blocks * size.rows; row++) {
      const [block, here] = [Math.floor(row / size.rows), row % size.rows];
      const cells = part.values.subarray(row * size.width, (row + 1) * size.width);
      values.set(cells, (block * rows + first + here) * width);
    }
    first += size.rows;
  });
  return { shape: /** @type {Part["shape"]} */ ([...lead, rows, width]), values };
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

  get top() {
    this.#top ??= mostLikely(this.#scores, TOP).map(({ id, p }) => ({ id, p, text: spell(this.#tokenizer, id) }));
    return this.#top;
  }
}

/** @type {(tokenizer: Tokenizer, id: number) => string} */
const spell = (tokenizer, id) => spellAll(tokenizer, [id]) || `#${id}`;

/** @type {(tokenizer: Tokenizer, ids: number[]) => string} */
const spellAll = (tokenizer, ids) =>
  tokenizer.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
