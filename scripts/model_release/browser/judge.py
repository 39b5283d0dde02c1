"""What every backend must return for the probes, and what it returned."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_release.contract import comparison_checks, figure_checks, file_checks, output_checks
from model_release.contract.activations import Output
from model_release.contract.measures import Array, compare, deviation
from model_release.contract.output_checks import Run
from model_release.contract.precision import Precision
from model_release.model.onnx_files.session import Session


def probes(reference: Session, prompt: Sequence[int], vocab: int) -> tuple[Run, Run, Run]:
    """Runs of the fp32 file: the prompt; the prompt with its second half changed; both as one batch."""
    ids = np.array([prompt], dtype=np.int64)
    changed = ids.copy()
    same = (len(prompt) + 1) // 2
    changed[:, same:] = (changed[:, same:] + 1) % vocab
    first, second, both = (
        Run(ids=rows, outputs=reference.run(rows)) for rows in (ids, changed, np.concatenate([ids, changed]))
    )
    return first, second, both


class Judge:
    """What every backend must return for the probes."""

    def __init__(self, expected: tuple[Output, ...], probes: tuple[Run, Run, Run]) -> None:
        self._expected, self.probes = expected, probes

    def judge(self, answers: Sequence[Mapping[str, Array]], precision: Precision) -> dict[str, Any]:
        """Compares what a backend returned for all probes.

        Returns:
            `judgement`, `worst_cosine` and `worst_relative` of a `BackendRun`.
        """
        runs = [Run(ids=probe.ids, outputs=got) for probe, got in zip(self.probes, answers, strict=True)]
        judgement = file_checks.check_names(runs[0].outputs, [output.name for output in self._expected])
        for run in runs:
            judgement += output_checks.check_outputs(run, self._expected)
        unsound = {finding.tensor for finding in judgement.findings if finding.clause in ("IO02", "RUN01", "FIN01")}
        outputs = tuple(output for output in self._expected if output.name not in unsound)
        sound = [run.only({output.name for output in outputs}) for run in runs]
        alone, changed, both = sound
        judgement += output_checks.check_not_constant(alone)
        for probe, run in zip(self.probes, sound, strict=True):
            judgement += comparison_checks.check_reference(run.outputs, probe.outputs, outputs, precision)
        judgement += comparison_checks.check_causality(alone, changed, outputs, precision)
        for row, single in enumerate((alone, changed)):
            judgement += comparison_checks.check_batch_rows(both, single, row, outputs, precision)
        comparisons = [
            (output.kind, compare(run.outputs[output.name], probe.outputs[output.name]))
            for output in outputs
            for probe, run in zip(self.probes, sound, strict=True)
        ]
        deviations = [
            deviation(kind, (item for of, item in comparisons if of == kind))
            for kind in dict.fromkeys(output.kind for output in outputs)
        ]
        for measured in deviations:
            judgement += figure_checks.check_deviation(measured, precision)
        whole = bool(deviations) and not unsound
        return {
            "judgement": judgement,
            "worst_cosine": min(item.cosine for item in deviations) if whole else None,
            "worst_relative": max(item.relative for item in deviations) if whole else None,
        }
