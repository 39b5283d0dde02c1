"""TransformerLens' activations of a GPT-2 folder, as an .npz; run by an interpreter that has transformer-lens.

Loaded as it is: `enable_compatibility_mode`, which folds and centres weights, is not called.
"""

import json
import sys

import numpy as np
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2LMHeadModel

folder, ids, output = sys.argv[1:]
model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager")
bridge = TransformerBridge.boot_transformers(folder, hf_model=model)
logits, cache = bridge.run_with_cache(torch.tensor([json.loads(ids)]))
np.savez(output, logits=logits.detach(), **{name: value.detach() for name, value in cache.items()})
