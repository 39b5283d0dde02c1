import { InferenceSession, Tensor } from "onnxruntime-web/wasm";
import type { ContractMajor, Inputs, Outputs } from "./activations";

const MAJOR: ContractMajor = "1"; // Another one may break this app; tsc then stops here.

type Manifest = { contract_version: string; files: { name: string; size_bytes: number }[] };

/** Loads a model that has its manifest beside it; `tell` hears how much is there, from 0 to 1. */
export async function loadModel(url: URL, tell: (share: number) => void): Promise<InferenceSession> {
  const manifest: Manifest = await (await get(new URL(`manifest.json${url.search}`, url))).json();
  if (manifest.contract_version.split(".")[0] !== MAJOR)
    throw new Error(`The model must keep contract ${MAJOR}.x, got ${manifest.contract_version}. Update the app.`);
  const size = manifest.files.find(({ name }) => url.pathname.endsWith(`/${name}`))?.size_bytes ?? NaN;
  let received = 0;
  const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(part, out) {
      received += part.length;
      tell(received / size);
      out.enqueue(part);
    },
  });
  const content = await new Response((await get(url)).body?.pipeThrough(counted)).arrayBuffer();
  return InferenceSession.create(content, { executionProviders: ["wasm"] });
}

/** What the model returns for one text's token ids. */
export async function run(session: InferenceSession, ids: number[]): Promise<Outputs<Tensor>> {
  const inputs: Inputs<Tensor> = { input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]) };
  return (await session.run(inputs)) as Outputs<Tensor>;
}

/** Layer 11: how much `query` attends to each token, in one head. */
export function attention(outputs: Outputs<Tensor>, head: number, query: number): Float32Array {
  const probabilities = outputs.layer_11_attn_probs; // [batch, heads, seq, seq]
  if (!probabilities) throw new Error("The model must show layer 11. Release it with --layers 11.");
  const seq = probabilities.dims[3];
  const first = (head * seq + query) * seq;
  return (probabilities.data as Float32Array).slice(first, first + seq);
}

async function get(url: URL): Promise<Response> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} must be served, the server answers ${answer.status}. Run fetch.py first.`);
  return answer;
}
