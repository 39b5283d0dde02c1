// The names of a released model's tensors: contract/activations.json as types, written by scripts/docs.py.
// T is what a tensor is in the app. Dimensions:
//   batch: sequences, dynamic
//   seq: tokens of a sequence, dynamic, at most the model's positions
//   vocab: rows of the token table
//   hidden: width of the residual stream
//   heads: attention heads of a layer
//   head_dim: hidden / heads
//   intermediate: width of the MLP's hidden layer

/** The contract these types are made from. */
export type ContractVersion = "1.1.0";

/** Its major version. A model of another one may break an app that is written for this one. */
export type ContractMajor = "1";

/** What a run takes. */
export type Inputs<T> = {
  /** int64 `[batch, seq]`: Token ids, 0 to vocab − 1; at most the model's positions. */
  readonly input_ids: T;
};

/** What a run returns, every tensor float32: the logits, and what the model was exported with. */
export type Outputs<T> = {
  /** `[batch, seq, vocab]`: Scores of the next token before softmax. With `--logits last` only the last position is computed: `[batch, 1, vocab]`. */
  readonly logits: T;
  /** `[batch, seq, hidden]`: Row of the token table for each input id. */
  readonly token_embedding?: T;
  /** `[1, seq, hidden]`: Row of the position table for each position; the same for every sequence of the batch. */
  readonly position_embedding?: T;
  /** `[batch, seq, hidden]`: Token embedding plus position embedding: what enters layer 0. */
  readonly embedding_sum?: T;
  /** `[batch, seq, hidden]`: Residual stream entering the layer. */
  readonly [name: `layer_${number}_resid_pre`]: T | undefined;
  /** `[batch, seq, hidden]`: First layer norm, gain and bias applied. */
  readonly [name: `layer_${number}_ln_1`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Queries (TransformerLens puts the head axis after seq). */
  readonly [name: `layer_${number}_q`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Keys. */
  readonly [name: `layer_${number}_k`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Values. */
  readonly [name: `layer_${number}_v`]: T | undefined;
  /** `[batch, heads, seq, seq]`: Scaled dot products of queries (rows) and keys (columns), before mask and softmax (TransformerLens hooks them after the mask). */
  readonly [name: `layer_${number}_attn_scores`]: T | undefined;
  /** `[batch, heads, seq, seq]`: Attention probabilities: each query's row over the keys sums to 1, later keys get 0. */
  readonly [name: `layer_${number}_attn_probs`]: T | undefined;
  /** `[batch, heads, seq, head_dim]`: Values weighted by the probabilities, a vector a head. */
  readonly [name: `layer_${number}_attn_z`]: T | undefined;
  /** `[batch, seq, hidden]`: What attention adds to the residual stream. */
  readonly [name: `layer_${number}_attn_output`]: T | undefined;
  /** `[batch, seq, hidden]`: Residual stream between attention and MLP. */
  readonly [name: `layer_${number}_resid_mid`]: T | undefined;
  /** `[batch, seq, hidden]`: Second layer norm, gain and bias applied. */
  readonly [name: `layer_${number}_ln_2`]: T | undefined;
  /** `[batch, seq, intermediate]`: The MLP's hidden layer before its activation function. */
  readonly [name: `layer_${number}_mlp_fc1`]: T | undefined;
  /** `[batch, seq, intermediate]`: The MLP's hidden layer after its activation function (`gelu_new` in GPT-2). */
  readonly [name: `layer_${number}_mlp_gelu`]: T | undefined;
  /** `[batch, seq, hidden]`: What the MLP adds to the residual stream. */
  readonly [name: `layer_${number}_mlp_output`]: T | undefined;
  /** `[batch, seq, hidden]`: Residual stream leaving the layer. */
  readonly [name: `layer_${number}_resid_post`]: T | undefined;
  /** `[batch, seq, hidden]`: Last layer norm, gain and bias applied: what the head reads. */
  readonly final_ln?: T;
};

/** The name of any output, such as `layer_11_attn_probs`. */
export type OutputName = keyof Outputs<unknown>;
