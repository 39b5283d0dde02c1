"""A GGUF file as transformers' model folder, weights in bf16: `convert_gguf.py FILE FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = map(Path, sys.argv[1:])
model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config  # The weights are decoded by now.
model.hf_quantizer = None
model.save_pretrained(target)
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, add_bos_token=False).save_pretrained(target)
