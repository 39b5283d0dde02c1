// What the scripts of the live page hand to one another, besides what types.d.ts says: types alone, in no page.

interface ListedFile {
  name: string;
  size_bytes: number;
  sha256: string;
}

/** The parts of manifest.json that the live page reads. */
interface Manifest {
  name: string;
  version: string;
  tag: string;
  model: { shape: { context?: number; positions?: number } }; // Releases before contract 1.2 say positions.
  variants: { precision: string; file: string; size_bytes: number }[];
  delivery: { file: string };
  files: ListedFile[];
  /** Files that describe the release, and are no part of what it is. */
  descriptions?: string[];
}

type Ort = typeof import("onnxruntime-web");
type Session = import("onnxruntime-web").InferenceSession;
type Tensor = import("onnxruntime-web").TypedTensor<"float32">;
type Tokenizer = import("@huggingface/tokenizers").Tokenizer;

/** What the live page reads of a release before it loads a model. */
interface Release {
  manifest: Manifest;
  tokenizer: Tokenizer;
  /** Tokens that end a text. */
  ends: Set<number>;
  /** From its report: what to show first, and prompts to try. */
  telling: Partial<Choice>;
  tries: Try[];
}

/** A model in memory. */
interface Model {
  ort: Ort;
  session: Session;
  file: string;
  /** How large it is, and how long it took to load. */
  loaded: string;
}

/** What a run returns for one text: by the contract all outputs are float32, and the scores are among them. */
type Results = Record<string, Tensor> & { logits: Tensor };

/** What one run gave of an output: [..., rows, width]. */
interface Part {
  shape: Shown["shape"];
  values: Float32Array;
}

/** A token that may come next. */
interface Likely {
  id: number;
  score: number;
  p: number;
}

/** How the next token is chosen. */
interface Settings {
  temperature: number;
  topK: number;
  seed: number;
}

/** What the pictures show. */
interface Written {
  model: Model;
  reading: Reading;
  /** With all heads on, to compare with: the same, or up to date when nothing more is written. */
  plain: Reading;
  /** What a person typed, and how many tokens it has: what is beyond them was written by the model. */
  typed: string;
  prompt: number;
  /** All of it. */
  text: string;
}
