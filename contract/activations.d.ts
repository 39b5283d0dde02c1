// The names of a released model's tensors: contract/activations.json as types, written by scripts/docs.py.
// T is what a tensor is in the app. Dimensions:
//   layers: layers of the model
//   batch: sequences, dynamic
//   seq: tokens of a sequence, dynamic, at most the context the model promises
//   batch_size: `batch`, as transformers.js must have it called
//   past: tokens before, whose keys and values are handed in; dynamic, 0 to begin with
//   total: past + seq, at most the context the model promises
//   vocab: rows of the token table
//   hidden: width of the residual stream
//   heads: attention heads of a layer
//   kv_heads: heads of keys and values of a layer; query head h reads kv head ⌊h × kv_heads / heads⌋
//   head_dim: width of a head (hidden / heads in most models)
//   qkv_dim: 3 × head_dim
//   intermediate: width of the MLP's hidden layer
//   experts: experts of a layer

/** The contract these types are made from. */
export type ContractVersion = "1.2.0";

/** Its major version. A model of another one may break an app that is written for this one. */
export type ContractMajor = "1";

/** What a run takes. */
export type Inputs<T> = {
  /** int64 `[batch, seq]`: Token ids, 0 to vocab − 1; at most the context the model promises. */
  readonly input_ids: T;
};

/** What a run of a file made with `--cache` takes. */
export type CachedInputs<T> = Inputs<T> & {
  /** `[batch_size, kv_heads, past, head_dim]`: Keys of the tokens before: `present.{L}.key` of the run before, or none to begin with. */
  readonly [name: `past_key_values.${number}.key`]: T;
  /** `[batch_size, kv_heads, past, head_dim]`: Values of the tokens before: `present.{L}.value` of the run before, or none to begin with. */
  readonly [name: `past_key_values.${number}.value`]: T;
};

/** What a run of a file made with `--interventions` takes besides. */
export type Interventions<T> = {
  /** `[layers, heads]`: What each head's output (`attn_z`) is multiplied with before the output projection: 1 keeps a head, 0 removes it. All 1 changes nothing. */
  readonly head_gain: T;
  /** `[layers, hidden]`: What is added to the residual stream after a layer, at every position: `resid_post` of that layer and all that follows show it. All 0 changes nothing. */
  readonly steering: T;
};

/** What a run returns, every tensor float32: the logits, and what the model was exported with. */
export type Outputs<T> = {
  /** `[batch, seq, vocab]`: Scores of the next token before softmax. With `--logits last` only the last position is computed: `[batch, 1, vocab]`. */
  readonly logits: T;
  /** `[batch, seq, hidden]`: Row of the token table for each input id. */
  readonly token_embedding?: T;
  /** `[1, seq, hidden]`: Row of the position table for each position; the same for every sequence of the batch. There is one where positions have a table. */
  readonly position_embedding?: T;
  /** `[batch, seq, hidden]`: What enters layer 0: token embedding plus position embedding, or the token embedding as scaled or normed by the model. */
  readonly embedding_sum?: T;
  /** `[batch, seq, hidden]`: Residual stream entering the layer. */
  readonly [name: `layer_${number}_resid_pre`]: T | undefined;
  /** `[batch, seq, 1]`: What `ln_1` divides by: the root of the variance (of the mean square, in an RMS norm) plus epsilon. There is one where a norm stands before attention. */
  readonly [name: `layer_${number}_ln_1_scale`]: T | undefined;
  /** `[batch, seq, hidden]`: Norm before attention, gain and bias applied. There is one where a norm stands before attention. */
  readonly [name: `layer_${number}_ln_1`]: T | undefined;
  /** `[batch, heads, seq, qkv_dim]`: Queries, keys and values of each head, side by side. There is one where there are as many kv heads as heads. */
  readonly [name: `layer_${number}_qkv`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Queries as projected, before norms and rotary positions (TransformerLens puts the head axis after seq). There is one where the layer has attention. */
  readonly [name: `layer_${number}_q`]: T | undefined;
  /** `[batch, kv_heads, seq, head_dim]`: Keys as projected, before norms and rotary positions. There is one where the layer has attention. */
  readonly [name: `layer_${number}_k`]: T | undefined;
  /** `[batch, kv_heads, seq, head_dim]`: Values. There is one where the layer has attention. */
  readonly [name: `layer_${number}_v`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Queries after their norm. There is one where queries are normed. */
  readonly [name: `layer_${number}_q_normed`]: T | undefined;
  /** `[batch, kv_heads, seq, head_dim]`: Keys after their norm. There is one where keys are normed. */
  readonly [name: `layer_${number}_k_normed`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Queries turned by their position. There is one where positions are rotary. */
  readonly [name: `layer_${number}_q_rot`]: T | undefined;
  /** `[batch, kv_heads, seq, head_dim]`: Keys turned by their position. There is one where positions are rotary. */
  readonly [name: `layer_${number}_k_rot`]: T | undefined;
  /** `[batch, heads, seq, seq]`: Scaled dot products of queries (rows) and keys (columns), soft-capped where the model does so, before mask and softmax (TransformerLens hooks them after the mask). There is one where the layer has attention. */
  readonly [name: `layer_${number}_attn_scores`]: T | undefined;
  /** `[batch, heads, seq, seq]`: Attention probabilities: each query's row over the keys sums to 1, later keys get 0. Keys outside a window get 0 too; with attention sinks rows sum to less. There is one where the layer has attention. */
  readonly [name: `layer_${number}_attn_probs`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Values weighted by the probabilities, a vector a head. There is one where the layer has attention. */
  readonly [name: `layer_${number}_attn_z`]: T | undefined;
  /** `[batch, heads, seq, hidden]`: What each head adds: `attn_z` times its part of the output projection. Their sum and the projection's bias are what attention returns. There is one where the layer has attention. */
  readonly [name: `layer_${number}_head_output`]: T | undefined;
  /** `[batch, seq, hidden]`: Norm behind attention, gain and bias applied. There is one where a norm stands behind attention. */
  readonly [name: `layer_${number}_ln_1_post`]: T | undefined;
  /** `[batch, seq, hidden]`: What attention adds to the residual stream, a norm behind it applied. There is one where the layer has attention. */
  readonly [name: `layer_${number}_attn_output`]: T | undefined;
  /** `[batch, seq, hidden]`: Residual stream between attention and MLP. There is one where the MLP follows attention; parallel blocks have none. */
  readonly [name: `layer_${number}_resid_mid`]: T | undefined;
  /** `[batch, seq, 1]`: What `ln_2` divides by. There is one where a norm of its own stands before the MLP. */
  readonly [name: `layer_${number}_ln_2_scale`]: T | undefined;
  /** `[batch, seq, hidden]`: Norm before the MLP, gain and bias applied. There is one where a norm of its own stands before the MLP. */
  readonly [name: `layer_${number}_ln_2`]: T | undefined;
  /** `[batch, seq, experts]`: What the router says of each expert. There is one where the layer has experts. */
  readonly [name: `layer_${number}_router_logits`]: T | undefined;
  /** `[batch, seq, experts]`: Weight of each expert's output; 0 for those not chosen. There is one where the layer has experts. */
  readonly [name: `layer_${number}_expert_weights`]: T | undefined;
  /** `[batch, seq, intermediate]`: What the MLP's activation function is given; the gate, where there is one. There is one where the layer has an MLP and no experts. */
  readonly [name: `layer_${number}_mlp_fc1`]: T | undefined;
  /** `[batch, seq, intermediate]`: What the gate is multiplied with. There is one where the MLP has a gate. */
  readonly [name: `layer_${number}_mlp_up`]: T | undefined;
  /** `[batch, seq, intermediate]`: What the MLP's last projection is given: the activation function's output (`gelu_new` in GPT-2), times `mlp_up` where there is a gate. There is one where the layer has an MLP and no experts. */
  readonly [name: `layer_${number}_mlp_gelu`]: T | undefined;
  /** `[batch, seq, hidden]`: Norm behind the MLP, gain and bias applied. There is one where a norm stands behind the MLP. */
  readonly [name: `layer_${number}_ln_2_post`]: T | undefined;
  /** `[batch, seq, hidden]`: What the MLP adds to the residual stream, a norm behind it applied. */
  readonly [name: `layer_${number}_mlp_output`]: T | undefined;
  /** `[batch, seq, hidden]`: Residual stream leaving the layer. */
  readonly [name: `layer_${number}_resid_post`]: T | undefined;
  /** `[batch, seq, vocab]`: Scores of the next token as far as this layer knows: the last norm and the head applied to `resid_post`. With `--logits last` of the last position only. */
  readonly [name: `layer_${number}_logit_lens`]: T | undefined;
  /** `[batch, seq, 1]`: What `final_ln` divides by. */
  readonly final_ln_scale?: T;
  /** `[batch, seq, hidden]`: Last layer norm, gain and bias applied: what the head reads. */
  readonly final_ln?: T;
  /** `[batch, kv_heads, total, head_dim]`: Keys as attention takes them, after norms and rotary positions: those handed in, then those of these tokens. */
  readonly [name: `present.${number}.key`]: T | undefined;
  /** `[batch, kv_heads, total, head_dim]`: Values as attention takes them: those handed in, then those of these tokens. */
  readonly [name: `present.${number}.value`]: T | undefined;
};

/** The name of any output, such as `layer_11_attn_probs`. */
export type OutputName = keyof Outputs<unknown>;
