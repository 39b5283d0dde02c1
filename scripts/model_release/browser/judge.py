"""What every backend must return for the probes, and what it returned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_release.contract import file_checks, output_checks
from model_release.contract.activations import Output, Precision
from model_release.contract.measures import compare, deviation
from model_release.contract.output_checks import Array
from model_release.model.onnx_files.session import Session


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One run: `[batch, seq]` ids, and what the fp32 file returns for them."""

    ids: Array
    expected: Mapping[str, Array]


def probes(reference: Session, prompt: Sequence[int], vocab: int) -> tuple[Probe, Probe, Probe]:
    """The prompt; the prompt with its second half changed; both as one batch."""
    ids = np.array([prompt], dtype=np.int64)
    changed = ids.copy()
    changed[:, shared_tokens(ids) :] = (changed[:, shared_tokens(ids) :] + 1) % vocab
    first, second, both = (
        Probe(ids=rows, expected=reference.run(rows)) for rows in (ids, changed, np.concatenate([ids, changed]))
    )
    return first, second, both


def shared_tokens(ids: Array) -> int:
    """How many tokens the changed prompt shares with the prompt, `[1, seq]`."""
    return (int(ids.shape[1]) + 1) // 2


class Judge:
    """What every backend must return for the probes."""

    def __init__(self, expected: tuple[Output, ...], probes: tuple[Probe, Probe, Probe]) -> None:
        self._expected, self.probes = expected, probes

    def judge(self, runs: Sequence[Mapping[str, Array]], precision: Precision) -> dict[str, Any]:
        """Compares the runs of all probes.

        Returns:
            `findings`, `worst_cosine` and `worst_relative` of a `BackendRun`.
        """
        findings = file_checks.check_names(runs[0], [output.name for output in self._expected])
        for probe, got in zip(self.probes, runs, strict=True):
            findings += output_checks.check_outputs(got, self._expected, *probe.ids.shape)
        unsound = {finding.tensor for finding in findings if finding.clause in ("IO02", "RUN01", "FIN01")}
        outputs = tuple(output for output in self._expected if output.name not in unsound)
        names = {output.name for output in outputs}
        sound = [{name: array for name, array in got.items() if name in names} for got in runs]
        findings += output_checks.check_not_constant(sound[0])
        for probe, got in zip(self.probes, sound, strict=True):
            findings += output_checks.check_reference(got, probe.expected, outputs, precision)
        alone, changed, both = sound
        findings += output_checks.check_causality(alone, changed, shared_tokens(self.probes[0].ids), outputs, precision)
        for row, single in enumerate((alone, changed)):
            findings += output_checks.check_batch_rows(both, single, row, outputs, precision)
        comparisons = [
            (output.kind, compare(got[output.name], probe.expected[output.name]))
            for output in outputs
            for probe, got in zip(self.probes, sound, strict=True)
        ]
        deviations = [
            deviation(kind, (item for of, item in comparisons if of == kind))
            for kind in dict.fromkeys(output.kind for output in outputs)
        ]
        for measured in deviations:
            findings += output_checks.check_deviation(measured, precision)
        whole = bool(deviations) and not unsound
        return {
            "findings": tuple(dict.fromkeys(findings)),
            "worst_cosine": min(item.cosine for item in deviations) if whole else None,
            "worst_relative": max(item.relative for item in deviations) if whole else None,
        }
