"""PyTorch's own answer: transformers' eager model, independent of what is exported.

An export's attention and experts are functions of ours that the model calls; here nothing is registered. The
model's own code computes attention, and a tap sees the products around its softmax (see `export/seams.py`), so
that a mistake in our functions cannot hide in both. What both share, the roles of modules, is guarded by the
clauses between outputs.
"""

from collections.abc import Iterable

import torch

from model_release.contract.activations import Output
from model_release.contract.output_checks import Array
from model_release.model.export.network import build_network, give_parameters
from model_release.model.export.seams import Seams
from model_release.model.weights.folder import Weights


class Reference:
    """A PyTorch model that returns the contract's outputs.

    Args:
        weights: Verified weights. They are held in memory, in float32.

    Raises:
        WeightsError: A tensor cannot be read.
        ExportError: transformers refuses the config.
    """

    def __init__(self, weights: Weights) -> None:
        self._network = build_network(weights.config, in_the_open=False, tied=weights.blueprint.tied)
        give_parameters(self._network, lambda name, _: torch.tensor(weights.tensor(name)))

    def run(self, input_ids: Array, outputs: Iterable[Output], *, last_logits: bool = False) -> dict[str, Array]:
        """Runs `[batch, seq]` int64 ids; returns the outputs by name, as float32 arrays."""
        wanted = [output.name for output in outputs]
        with torch.no_grad(), Seams(self._network, route="tapped", wanted=frozenset(wanted)) as seams:
            seen = seams.run(torch.from_numpy(input_ids), last_logits=last_logits)
        return {name: seen[name].numpy() for name in wanted}
