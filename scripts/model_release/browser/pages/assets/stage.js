// What the views of one prompt share: the prompt, what is chosen in it, and how to choose something else.

class Stage {
  /** @type {Sample} */
  sample;
  /** @type {Choice} */
  chosen = { layer: -1, head: 0, position: 0 };
  /**
   * Goes on with a token after a position; only where a model is at hand.
   * @type {((position: number, id: number) => void) | undefined}
   */
  append;
  /** @type {View[]} */
  #views = [];

  /** @param {View[]} views */
  add(...views) {
    this.#views.push(...views);
  }

  /** @param {Sample} sample */
  show(sample) {
    this.sample = sample;
    const { layers } = this;
    if (!layers.includes(this.chosen.layer)) this.chosen.layer = layers.at(-1) ?? 0;
    this.chosen.position = sample.tokens.length - 1;
    this.redraw();
  }

  /** @param {Partial<Choice>} choice */
  choose(choice) {
    Object.assign(this.chosen, choice);
    this.#draw((...names) => names.some((name) => name in choice));
  }

  // For a new prompt, and when colours change.
  redraw() {
    if (this.sample) this.#draw(() => true);
  }

  /** @param {Changed} changed */
  #draw(changed) {
    for (const view of this.#views) view(changed);
  }

  // Those with an output of their own, ascending.
  get layers() {
    const numbers = Object.keys(this.sample.tensors).map((name) => /^layer_(\d+)_/.exec(name)?.[1]);
    return [...new Set(numbers.filter(Boolean))].map(Number).sort((a, b) => a - b);
  }

  get names() {
    return this.sample.tokens.map((token) => glyphs(token.text));
  }

  /** @param {number} position */
  word(position) {
    return `“${this.names[position]}”`;
  }

  // The output of a kind: the chosen layer's, or the model's.
  /** @param {string} kind */
  tensor(kind) {
    return this.sample.tensors[`layer_${this.chosen.layer}_${kind}`] ?? this.sample.tensors[kind];
  }

  // [head, query, key] -> probability; later keys are no cells.
  attention() {
    const shown = this.tensor("attn_probs");
    if (!shown) return null;
    const [heads, seq] = shown.shape;
    const values = valuesOf(shown);
    return {
      heads,
      seq,
      /** @type {(head: number, row: number, column: number) => number} */
      at: (head, row, column) => (column > row ? NaN : (values[(head * seq + row) * seq + column] ?? NaN)),
    };
  }
}
