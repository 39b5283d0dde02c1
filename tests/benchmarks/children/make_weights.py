"""A GPT-2 of random weights in a folder, as transformers saves it: `make_weights.py FOLDER CONFIG_JSON`."""

import json
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
GPT2LMHeadModel(GPT2Config(**json.loads(sys.argv[2]))).save_pretrained(sys.argv[1])
