// What the types must refuse: tsc fails where no error is below `@ts-expect-error`.
import type { OutputName, Outputs } from "./activations";

export function mistakes(outputs: Outputs<string>, layer: number): (OutputName | string | undefined)[] {
  return [
    outputs[`layer_${layer}_mlp_output`],
    // @ts-expect-error there is no such activation
    outputs.layer_11_attention,
    // @ts-expect-error a layer is a number
    outputs.layer_last_attn_probs,
    // @ts-expect-error only the logits are in every model
    outputs.layer_11_attn_probs.length,
    outputs.logits.length.toString(),
    "layer_0_q" satisfies OutputName,
    // @ts-expect-error the final layer norm is not a layer's
    "layer_0_final_ln" satisfies OutputName,
  ];
}
