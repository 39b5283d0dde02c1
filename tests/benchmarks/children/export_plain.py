"""What one writes first: PyTorch's own exporter on the eager model with hooks: `export_plain.py FOLDER OUTPUT`.

The outputs are the default ones of this project: logits, embedding sum, and the last layer's attention
probabilities and MLP output.
"""

import sys

import torch
from transformers import GPT2LMHeadModel


class WithActivations(torch.nn.Module):
    """A model that returns what its hooks saw."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model = model
        self.seen: dict[str, torch.Tensor] = {}
        model.transformer.drop.register_forward_pre_hook(lambda _, inputs: self.seen.update(embedding=inputs[0]))
        last = model.transformer.h[-1].get_submodule("mlp")
        last.register_forward_hook(lambda _, __, output: self.seen.update(mlp=output))

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[batch, seq] int64 -> the four outputs."""
        output = self.model(input_ids, use_cache=False, output_attentions=True)
        return output.logits, self.seen["embedding"], output.attentions[-1], self.seen["mlp"]


source, target = sys.argv[1:]
eager = GPT2LMHeadModel.from_pretrained(source, attn_implementation="eager").eval()
last = eager.config.n_layer - 1
torch.onnx.export(
    WithActivations(eager).eval(),
    (torch.zeros(2, 7, dtype=torch.int64),),
    target,
    dynamo=True,
    dynamic_shapes={"input_ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq")}},
    input_names=["input_ids"],
    output_names=["logits", "embedding_sum", f"layer_{last}_attn_probs", f"layer_{last}_mlp_output"],
)
