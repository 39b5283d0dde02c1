"""Stored weights decoded in several passes, so that a session needs little more memory than its fp32 weights take.

onnxruntime decodes what depends on no input when a session is created: its optimizer folds constants, up to ten
passes over the graph, and frees what is no longer read only between them. Decoded in one pass, all codes, their
integers, their unscaled and their scaled values live at once. So the weights are put into a few groups, and each
group but the first waits for a token that becomes a constant one pass after the one before it.

A token is an `If` of a constant condition, whose branches both copy a one by a `Dropout`. A pass puts the branch in
place of the `If`, and the next one removes the `Dropout`, which is not folded as other copies are. That is
no documented behaviour. With a runtime that does otherwise, values are the same: it decodes all in one pass and takes
more memory, or in each run. A test of the memory notices.
"""

import math
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from model_release.contract.blueprint import Parameter
from model_release.model.precision.graph_edits import Builder

_PASSES = 8  # Of the optimizer's ten: other folding takes some as well.
_LIVE_AT_ONCE = 3.5
"""Times what a group's weights take in fp32, while they are decoded: indices, unscaled, scaled and joined values."""


class FoldPasses:
    """Says which pass decodes which parameter, and makes codes wait for theirs.

    Args:
        build: Builds nodes before all others.
        parameters: Those that are stored as codes.
    """

    def __init__(self, build: Builder, parameters: Iterable[Parameter]) -> None:
        self._build = build
        self._numbers = number_passes({parameter.name: parameter.size for parameter in parameters})
        self._token, self._dims = build.constant("one_each_pass", [1], np.float32), list[ir.Value]()

    def wait(self, codes: ir.Value, parameter: str) -> ir.Value:
        """The codes of a parameter, from its pass on.

        Before: `codes`. After, but for the first pass: `Expand(codes, token)`, where the token is [1].
        """
        number = self._numbers[parameter]
        while len(self._dims) < number:
            self._add_pass()
        return self._build("Expand", codes, self._dims[number - 1]) if number else codes

    def _add_pass(self) -> None:
        one, number = self._build.constant("one_each_pass", [1], np.float32), len(self._dims) + 1
        condition = self._build("Cast", self._token, to=ir.DataType.BOOL)
        then, otherwise = (_copying(one, f"pass_{number}_{branch}") for branch in ("then", "else"))
        self._token = self._build("If", condition, then_branch=then, else_branch=otherwise)
        self._dims.append(self._build("Cast", self._token, to=ir.DataType.INT64))


def number_passes(sizes: dict[str, int]) -> dict[str, int]:
    """Name -> the pass that decodes it, from 0. The largest come first, while little else is in memory.

    A pass takes as much as brings memory to where the one before had it: a fixed share of what remains.

    Args:
        sizes: Name -> number of weights.

    >>> number_passes({"small": 2, "large": 10, "middle": 6})
    {'large': 0, 'middle': 1, 'small': 2}
    """
    left = 1 - 1 / _LIVE_AT_ONCE  # By a pass, of what remains.
    total = sum(sizes.values()) / (1 - left**_PASSES)
    done, numbers = 0, dict[str, int]()
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        numbers[name] = math.floor(math.log(1 - done / total, left) + 1e-9)
        done += sizes[name]
    used = sorted(set(numbers.values()))  # A large parameter leaves the pass after it nothing.
    return {name: used.index(number) for name, number in numbers.items()}


def _copying(one: ir.Value, name: str) -> ir.Graph:
    """A branch that returns a copy of `one`."""
    copy = ir.node("Dropout", [one], name=name)
    (result,) = copy.outputs
    result.name, result.type, result.shape = name, one.type, one.shape
    return ir.Graph([], [result], nodes=[copy], name=name)
