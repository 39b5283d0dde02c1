// What the views of one prompt share: the prompt, what is chosen in it, and how to choose something else.

class Stage {
  /** @type {Sample} */
  sample;
  /** @type {Choice} */
  chosen = { layer: -1, head: 0, position: 0, key: -1, view: "map" };
  /** @type {TokenLabel[]} */
  labels = [];
  /** @type {Actions | undefined} */
  actions;
  /** @type {View[]} */
  #views = [];

  #fresh = true;
  // The number of a prompt among those that a page offers; 0 is its first.
  prompt = 0;

  constructor() {
    window.addEventListener("hashchange", () => this.sample && this.choose(this.#addressed()));
  }

  /** @param {View[]} views */
  add(...views) {
    this.#views.push(...views);
  }

  /** @type {(sample: Sample, prompt?: number) => void} */
  show(sample, prompt = 0) {
    const isSame = this.sample?.tokens.map(({ id }) => id).join() === sample.tokens.map(({ id }) => id).join();
    this.sample = sample;
    this.prompt = prompt;
    this.labels = labelTokens(sample.tokens);
    const { layers } = this;
    if (!isSame) Object.assign(this.chosen, { position: sample.tokens.length - 1, key: -1 });
    Object.assign(this.chosen, sample.telling, this.#fresh ? this.#addressed() : {});
    if (!layers.includes(this.chosen.layer)) this.chosen.layer = layers.at(-1) ?? 0;
    this.#fresh = false;
    this.redraw();
  }

  /** @param {Partial<Choice>} choice */
  choose(choice) {
    if ("position" in choice || "layer" in choice || "head" in choice) this.chosen.key = -1;
    Object.assign(this.chosen, choice);
    this.#draw((...names) => names.some((name) => name in choice));
    const { layer, head, position, key, view } = this.chosen;
    const address = {
      ...(this.prompt ? { prompt: this.prompt } : {}),
      layer,
      head,
      position,
      ...(key < 0 ? {} : { key }),
      view,
    };
    const entries = Object.entries(address).map(([name, value]) => `${name}=${value}`);
    history.replaceState(null, "", `#${entries.join("&")}`);
  }

  // What the page's address asks for, as far as it is there.
  /** @returns {Partial<Choice>} */
  #addressed() {
    const asked = new URLSearchParams(location.hash.slice(1));
    /** @type {(name: string, most: number) => Record<string, number>} */
    const number = (name, most) => {
      const text = asked.get(name) ?? "";
      return /^\d{1,6}$/.test(text) && Number(text) <= most ? { [name]: Number(text) } : {};
    };
    const last = this.sample.tokens.length - 1;
    const layer = number("layer", Infinity);
    const view = VIEWS.find((view) => view === asked.get("view"));
    return {
      ...(this.layers.includes(layer.layer ?? -1) ? layer : {}),
      ...number("head", Infinity),
      ...number("position", last),
      ...number("key", last),
      ...(view ? { view } : {}),
    };
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
    return this.labels.map(({ name }) => name);
  }

  // Isolated, from left to right: what runs from right to left turns nothing around it.
  /** @param {number} position */
  word(position) {
    return `“\u2066${this.labels[position]?.name}\u2069”`;
  }

  // The output of a kind: a layer's, by default the chosen one's, or the model's.
  /** @type {(kind: string, layer?: number) => Shown | undefined} */
  tensor(kind, layer = this.chosen.layer) {
    return this.sample.tensors[`layer_${layer}_${kind}`] ?? this.sample.tensors[kind];
  }

  // [head, query, key] -> probability; later keys are no cells.
  attention(layer = this.chosen.layer) {
    const shown = this.tensor("attn_probs", layer);
    if (!shown) return null;
    const [heads = 0, seq = 0] = shown.shape;
    const values = valuesOf(shown);
    return {
      heads,
      seq,
      /** @type {(head: number, row: number, column: number) => number} */
      at: (head, row, column) => (column > row ? NaN : (values[(head * seq + row) * seq + column] ?? NaN)),
    };
  }

  // Whether the file has no output of this kind; what a page left out, the file has.
  /** @param {string} kind */
  lacks(kind) {
    const { tensors, left_out: left = [], lens, writes } = this.sample;
    if ((kind === "logit_lens" && Object.keys(lens ?? {}).length) || (kind === "head_output" && writes)) return false;
    return ![...Object.keys(tensors), ...left].some((name) => name.replace(/^layer_\d+_/, "") === kind);
  }

  // How to get what a file lacks, or why a page does not show it.
  /** @type {(...kinds: string[]) => string} */
  absence(...kinds) {
    const lacking = kinds.filter((kind) => this.lacks(kind));
    if (!lacking.length) return this.elsewhere(kinds[0] ?? "");
    return `This file has no ${lacking.join(" and ")}. To get ${lacking.length > 1 ? "them" : "it"}: export --activations default,${lacking.join(",")}`;
  }

  // Where a kind is that the file has, and this picture not.
  /** @param {string} kind */
  elsewhere(kind) {
    const of = Object.keys(this.sample.tensors).map((name) => /^layer_(\d+)_(.*)$/.exec(name));
    const layers = of.flatMap((match) => (match?.[2] === kind ? [match[1]] : []));
    if (layers.length) return `Of this layer the page has no ${kind}. It has that of layer ${layers.join(", ")}.`;
    return `The file returns ${kind}; this page has no room for all of it.`;
  }

  // What the chosen token looks at most, in words.
  lookOf(layer = this.chosen.layer, head = this.chosen.head) {
    const { position } = this.chosen;
    const shown = this.attention(layer);
    if (!shown) return "";
    const best = mostOf(position + 1, (key) => shown.at(head, position, key));
    const what = best === position ? "itself" : this.word(best);
    return `${this.word(position)} looks most at ${what}: ${figure(shown.at(head, position, best))}`;
  }

  // The attention from one token to another, in words.
  /** @type {(query: number, key: number) => string} */
  pairOf(query, key) {
    if (key > query) return `${this.word(query)} cannot see ${this.word(key)}: it comes later`;
    const p = this.attention()?.at(this.chosen.head, query, key) ?? NaN;
    return `${this.word(query)} → ${this.word(key)}: ${figure(p)}`;
  }
}

/** @type {Choice["view"][]} */
const VIEWS = ["map", "lines", "whole"];

// The index of the largest of some values.
/** @type {(count: number, value: (index: number) => number) => number} */
const mostOf = (count, value) =>
  Array.from({ length: count }, (_, index) => index).reduce((a, b) => (value(b) > value(a) ? b : a));
