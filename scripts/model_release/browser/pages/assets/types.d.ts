// What the scripts of the pages hand to one another: types alone, in no page. tests/test_javascript.py checks them.

/** The elements that scripts ask for, by id, and their tags in the templates. */
interface Ids {
  theme: "button";
  views: "div";
  tokens: "div";
  layers: "p";
  layer: "select";
  attention: "section";
  view: "div";
  heads: "div";
  lines: "div";
  whole: "div";
  map: "canvas";
  "map-value": "output";
  "map-legend": "div";
  numbers: "details";
  "next-hint": "p";
  next: "ol";
  product: "section";
  "product-hint": "p";
  "product-rows": "div";
  "lens-rows": "div";
  "lens-missing": "p";
  "writes-place": "div";
  "writes-missing": "p";
  "writes-hint": "p";
  "writes-value": "output";
  "writes-legend": "div";
  writes: "canvas";
  "spoken-for": "select";
  "spoken-for-row": "p";
  kinds: "div";
  missing: "details";
  tries: "div";
  "first-prompt": "button";
  sample: "script";
  tag: "span";
  name: "span";
  version: "span";
  ask: "form";
  text: "textarea";
  precision: "select";
  run: "button";
  step: "button";
  write: "button";
  stop: "button";
  count: "input";
  temperature: "input";
  "top-k": "input";
  seed: "input";
  pace: "span";
  "no-cache": "p";
  stale: "p";
  progress: "progress";
  status: "p";
  error: "p";
}

type FindElement = <Id extends keyof Ids>(id: Id) => HTMLElementTagNameMap[Ids[Id]];

type MakeElement = <Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes?: Record<string, string | number>,
  ...children: (Node | string)[]
) => HTMLElementTagNameMap[Tag];

/** Red, green and blue, 0 to 255. */
type Colour = [number, number, number];

interface Scale {
  colour(value: number): Colour;
  /** The value at a share of the legend, 0 to 1. */
  at(share: number): number;
  ticks: { share: number; label: string }[];
}

interface Cells {
  rows: number;
  columns: number;
  /** NaN is no cell. */
  value(row: number, column: number): number;
  scale: Scale;
}

interface GridFacts extends Cells {
  labels: string[];
  columnLabels?: string[];
  /** A row. */
  marked: number;
  /** The text without a cursor. */
  rest: string;
  describe(row: number, column: number): string;
}

interface Cell {
  row: number;
  column: number;
}

/** [heads, seq, channels] or [seq, channels]. It holds its values, or float16 in base64 until they are asked for. */
interface Shown {
  shape: number[];
  values?: Float32Array;
  float16?: string;
}

interface Token {
  id: number;
  text: string;
  /** As the vocabulary writes it, where the text is a part of a character. */
  piece?: string | undefined;
}

/** Tokens from `start` up to `end` that stand for one text together, most often one token. */
interface TokenGroup {
  start: number;
  end: number;
  text: string;
}

interface TokenLabel {
  /** In sentences and beside maps; no two of a prompt are equal. */
  name: string;
  /** In the prompt: the first token of a character shows it. */
  shown: string;
  /** In the prompt: the bytes of a part of a character. */
  hint: string;
  part: number;
  parts: number;
  /** Whether the prompt has the same token elsewhere. */
  again: boolean;
}

/** What may come after a position. */
interface Expectation {
  position: number;
  top: (Token & { p: number })[];
  /** The probability of any token, where all are at hand. */
  shareOf?(id: number): number;
}

/** A head by the numbers of its layer and of itself, both counted from 0. */
interface Head {
  layer: number;
  head: number;
}

/** One prompt, and what the model returned for it. */
interface Sample {
  tokens: Token[];
  tensors: Record<string, Shown>;
  /** Positions without an entry have no scores. */
  next: Expectation[];
  /** Heads that were switched off; none can be where this is missing. */
  off?: Head[];
  /** With all heads on. */
  before?: Expectation[];
  /** Outputs of the file that a page had no room for. */
  left_out?: string[];
  /** Layer -> of each position the likeliest next token as far as the layer knows. */
  lens?: Record<string, Sample["next"]>;
  writes?: Writes | null;
  /** What to show first. */
  telling?: Partial<Choice>;
}

/** What heads write into the residual stream. */
interface Writes {
  layers: number[];
  /** [layers, heads, seq]: the length of each head's output; NaN is no head. */
  norms: Shown;
  /** [seq, k, layers, heads]: what it adds to the score of each of the k likeliest next tokens. */
  parts?: Shown;
  /** Why there are none. */
  why?: string;
}

/** A query, the keys of its row, and how their products lead to probabilities. */
interface Product {
  kinds: string;
  query: Float32Array;
  keyOf(key: number): Float32Array;
  sums: number[];
  row: number[];
  scale: number;
  /** The largest of a logarithm. */
  error: number;
}

/** A prompt that shows a kind of head, or the best score where no head is of that kind. */
interface Try {
  name: string;
  says: string;
  /** The attention at the keys of its kind, a mean; and what it were if a head looked at all alike. */
  score: number;
  chance: number;
  text?: string;
  sample?: Sample;
}

/** What is chosen among all that there is to see. */
interface Choice {
  layer: number;
  head: number;
  position: number;
  /** What the chosen token is compared with; -1 is the one it looks at most. */
  key: number;
  view: "map" | "lines" | "whole";
}

/** Whether any of these is new; all are with a new sample, and when colours change. */
type Changed = (...names: ("sample" | keyof Choice)[]) => boolean;

/** What a page that has the model at hand can do besides showing. */
interface Actions {
  /** Goes on with a token after a position. */
  append(position: number, id: number): void;
  /** Switches a head off, or on again; all on without one. */
  switchHead(head?: Head): void;
}

/** Draws its part of the page again. */
type View = (changed: Changed) => void;

interface Attention {
  heads: number;
  seq: number;
  /** NaN is no cell. */
  at(head: number, row: number, column: number): number;
}

interface Performance {
  /** Chromium's alone. */
  memory?: { usedJSHeapSize: number };
}
