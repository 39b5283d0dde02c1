import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor } from "onnxruntime-web/wasm";
import type { ContractMajor, Inputs, Outputs } from "./activations";

const MAJOR: ContractMajor = "1"; // Another one may break this app; tsc then stops here.

type File = { name: string; size_bytes: number };
type Manifest = {
  contract_version: string;
  selection: { layers: number[] };
  model: { shape: { context: number } };
  files: File[];
};

export type Model = { session: InferenceSession; tokenizer: Tokenizer; layers: number[]; context: number };

/** Loads the model at VITE_MODEL_URL, below the app's base; `tell` hears how much is there, from 0 to 1. */
export async function loadModel(path: string | undefined, base: URL, tell: (share: number) => void): Promise<Model> {
  if (!path) throw new Error("VITE_MODEL_URL must be set, got nothing. Run fetch first, then build or start again.");
  const url = new URL(path, base);
  const beside = (name: string) => new URL(name + url.search, url);
  const json = async (name: string) => (await get(beside(name))).json();
  const { contract_version, selection, model: described, files }: Manifest = await json("manifest.json");
  if (contract_version.split(".")[0] !== MAJOR)
    throw new Error(`The model must keep contract ${MAJOR}.x, got ${contract_version}. Update the app.`);
  const tokenizer = new Tokenizer(await json("tokenizer.json"), {});
  const model = url.pathname.replace(/.*\//, "");
  const wanted = files.filter(({ name }) => name === model || name.startsWith(`${model}_data`)); // Past 2 GiB.
  const size = wanted.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
  const contents = new Map<string, Uint8Array>();
  let received = 0;
  const count = (bytes: number) => {
    received += bytes;
    tell(received / size);
  };
  for (const { name, size_bytes } of wanted) contents.set(name, await read(beside(name), size_bytes, count));
  const content = contents.get(model);
  if (!content) throw new Error(`manifest.json must list ${model}, but does not. Run fetch first.`);
  contents.delete(model);
  const externalData = [...contents].map(([path, data]) => ({ path, data }));
  const session = await InferenceSession.create(content, { executionProviders: ["wasm"], externalData });
  return { session, tokenizer, layers: selection.layers, context: described.shape.context };
}

/** What the model returns for a text, and the tokens that it sees. */
export async function run({ session, tokenizer, context }: Model, text: string) {
  const { ids, tokens } = tokenizer.encode(text);
  if (!ids.length || ids.length > context)
    throw new Error(`The text must have 1 to ${context} tokens, it has ${ids.length}. Give another.`);
  const inputs: Inputs<Tensor> = { input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]) };
  return { tokens, outputs: (await session.run(inputs)) as Outputs<Tensor> };
}

/** How much each token (a row) attends to each token, in one head of a layer. */
export function attention(outputs: Outputs<Tensor>, layer: number, head: number): Float32Array[] {
  const probabilities = outputs[`layer_${layer}_attn_probs`]; // [batch, heads, seq, seq]
  if (!probabilities) throw new Error(`The model must show layer ${layer}. Release it with --layers ${layer}.`);
  const seq = probabilities.dims.at(-1) ?? 0;
  const row = (query: number) => (head * seq + query) * seq;
  return Array.from({ length: seq }, (_, query) =>
    (probabilities.data as Float32Array).slice(row(query), row(query + 1)),
  );
}

/** Draws rows as a picture, a pixel a share from 0 to 1; CSS makes it large. */
export function draw(canvas: HTMLCanvasElement | null, rows: Float32Array[]): void {
  if (!canvas) throw new Error("The page must have a canvas.");
  canvas.width = canvas.height = rows.length;
  const image = new ImageData(rows.length, rows.length);
  const shares = rows.flatMap((row) => [...row]);
  shares.forEach((share, pixel) => {
    image.data.set([30, 90, 200, 255 * share], 4 * pixel);
  });
  canvas.getContext("2d")?.putImageData(image, 0, 0);
}

/** Reads a file of known size as it arrives. */
async function read(url: URL, size: number, tell: (bytes: number) => void): Promise<Uint8Array> {
  const content = new Uint8Array(size);
  const reader = (await get(url)).body?.getReader();
  for (let at = 0, part = await reader?.read(); part?.value; part = await reader?.read()) {
    content.set(part.value, at);
    at += part.value.length;
    tell(part.value.length);
  }
  return content;
}

/** Asks for a file; where it is missing, dev servers answer with the app's page. */
async function get(url: URL): Promise<Response> {
  const answer = await fetch(url);
  const isPage = answer.headers.get("content-type")?.startsWith("text/html");
  const got = isPage ? "a page" : `status ${answer.status}`;
  if (!answer.ok || isPage) throw new Error(`${url} must be a file of the model, got ${got}. Run fetch first.`);
  return answer;
}
