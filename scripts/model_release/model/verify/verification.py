"""Verifies a model file: its structure, its behaviour on fixed inputs, and its numbers against PyTorch's.

It decides what to run; the checks of `contract` judge the results.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_release.base.errors import ContractError, NumericMismatchError, ReleaseError
from model_release.contract import file_checks
from model_release.contract.activations import Output, load_contract
from model_release.contract.clauses import Finding, Judgement
from model_release.contract.measures import (
    Agreement,
    Array,
    Deviation,
)
from model_release.contract.metadata import ModelMetadata, metadata_of
from model_release.contract.precision import FULL_PRECISION
from model_release.contract.request import FITTED
from model_release.model.onnx_files.facts import read_facts
from model_release.model.onnx_files.session import Session
from model_release.model.verify.probes import OutputRow, Probes, PyTorchModel

MOST_DECODED_BYTES = 2_000_000_000
"""Of weights in float32 that a session may decode once and for all: some 500M parameters."""

_CACHE_BYTES = 512 * 2**20
_WIDEST = (FULL_PRECISION, "fp16")  # What breaks these is no matter of bits.


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result of verifying one file.

    Attributes:
        outputs: What the dummy run (batch 1, seq 7) returned.
        judgement: Which clauses hold, which are broken, and by what.
        deviations: The deviation of each output kind, over all probes; none without a reference.
        by_output: The same of each output, by name.
        agreement: Next-token agreement; None without a reference.
        on_text: Whether that was measured on a text, and not on random ids.
    """

    file: str
    file_bytes: int
    metadata: ModelMetadata
    outputs: tuple[OutputRow, ...]
    judgement: Judgement
    deviations: tuple[Deviation, ...]
    by_output: Mapping[str, Deviation]
    agreement: Agreement | None
    on_text: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What breaks clauses; nothing means the file is good."""
        return self.judgement.findings

    @property
    def clauses(self) -> tuple[str, ...]:
        """IDs of the clauses that were judged and hold."""
        return self.judgement.held

    @property
    def passed(self) -> bool:
        """Whether no clause is broken."""
        return not self.findings

    def require(self) -> None:
        """Fails once, with everything that was found.

        Raises:
            ContractError: A clause of structure or behaviour is broken.
            NumericMismatchError: Only clauses against PyTorch are.
        """
        if self.passed:
            return
        stages = load_contract().clauses
        error: type[ReleaseError] = NumericMismatchError
        if any(stages[finding.clause].stage != "reference" for finding in self.findings):
            error = ContractError
        raise error(
            f"{self.file} must fulfil the contract, {len(self.findings)} finding(s) break "
            f"{', '.join(self.judgement.broken)}; "
            f"the first: {self.findings[0]}. "
            f"{_advice(self.metadata.precision) if error is NumericMismatchError else ''}"
            "See contract/ACTIVATIONS_CONTRACT.md."
        )


def _advice(precision: str) -> str:
    """What may help where a precision loses too much of a model: a sentence, or nothing where none does."""
    if precision in _WIDEST:
        return ""
    wider = "fp16" if precision == "int8" else "int8 or fp16"
    return f"Choose {wider}{', or give --fit more MB' if precision == FITTED else ''}. "


def verify_file(
    path: Path,
    *,
    name: str = "",
    reference: PyTorchModel | None = None,
    text_ids: Sequence[int] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Verifies a model file.

    Args:
        path: The file.
        name: What to call it in the result, if not by its own name.
        reference: PyTorch's model of the same weights; without it the clauses of the stage `reference` have nothing
            to judge.
        text_ids: Token ids of real text on which next-token agreement is measured; random ids
            otherwise.
        progress: Told of each step.

    Raises:
        ContractError: The file is no ONNX model, lacks our metadata, or cannot be loaded. Broken
            clauses do not raise here; see `Verification.require`.
    """
    progress("reading the graph")
    facts = read_facts(path)
    metadata = metadata_of(name or path.name, facts.props)
    structure = file_checks.check_structure(facts, metadata)
    claimed = file_checks.stored_bytes(metadata.blueprint, metadata.stored_precision)
    if claimed > 2 * facts.file_bytes:
        # The file cannot be what it says; running it would cost the memory of the model it claims to be.
        raise ContractError(
            f"{name or path.name} must hold the model its metadata describes: {structure.findings[0]}. Export it again."
        )
    if decode_in_runs := is_large(metadata):
        progress("a large model: weights are decoded in each run, which takes long and little memory")
    session = Session(path, name=name, decode_in_runs=decode_in_runs)
    probes = Probes(session, metadata, reference, text_ids, progress)
    probes.run_all()
    return Verification(
        file=name or path.name,
        file_bytes=facts.file_bytes,
        metadata=metadata,
        outputs=probes.rows,
        judgement=structure + probes.judgement,
        deviations=probes.deviations,
        by_output=probes.by_output,
        agreement=probes.agreement,
        on_text=probes.on_text,
    )


def is_large(metadata: ModelMetadata) -> bool:
    """Whether a model's weights, decoded, would take more memory than a verification should.

    Apps decode once, when they create a session, and so does the verification of every smaller model.
    """
    contract = load_contract()
    is_decoded = metadata.precision != FULL_PRECISION and contract.precision(metadata.precision).computed == "fp32"
    full_bytes = file_checks.stored_bytes(metadata.blueprint, contract.precision(FULL_PRECISION))
    return is_decoded and full_bytes > MOST_DECODED_BYTES


class CachedReference:
    """Remembers a reference's answers, as several precisions are verified on the same inputs."""

    def __init__(self, reference: PyTorchModel) -> None:
        self._reference = reference
        self._known: dict[Hashable, dict[str, Array]] = {}
        self._room_bytes = _CACHE_BYTES

    def run(
        self,
        input_ids: Array,
        outputs: Sequence[Output],
        *,
        last_logits: bool,
        touch: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """As `PyTorchModel.run`."""
        touched = tuple((name, array.tobytes()) for name, array in (touch or {}).items())
        key = (input_ids.tobytes(), input_ids.shape, tuple(output.name for output in outputs), last_logits, touched)
        if key in self._known:
            return self._known[key]
        answer = self._reference.run(input_ids, outputs, last_logits=last_logits, touch=touch)
        size_bytes = sum(array.nbytes for array in answer.values())
        if size_bytes <= self._room_bytes:
            self._room_bytes -= size_bytes
            self._known[key] = answer
        return answer
