"""GPT-2s of random weights, as transformers saves them: `make_weights.py [FOLDER CONFIG_JSON]…`."""

import json
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel

for folder, config in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**json.loads(config))).save_pretrained(folder)
