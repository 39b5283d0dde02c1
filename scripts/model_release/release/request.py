"""What a release is made of, as it is asked for."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_release.base.errors import UsageError
from model_release.contract.activations import load_contract, parse_activations
from model_release.contract.identity import Asked, asked_of
from model_release.contract.manifest import Manifest, SelectionEntry
from model_release.contract.precision import FULL_PRECISION, model_file_name
from model_release.contract.request import Budget, SelectionRequest
from model_release.contract.tag import ReleaseTag
from model_release.model.weights.source import SourceRequest

if TYPE_CHECKING:
    from model_release.model.weights.folder import Weights

Delivery = Literal["auto", "git", "release"]


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a release is made of.

    Attributes:
        precisions: What is made besides `model.onnx`.
        app_precision: The precision the app gets.
        threshold_bytes: Largest model that may live in the app's tree.
        validation: A text to measure next-token agreement on; ours if not given.
        calibration: A text for the precisions that look at one; ours if not given.
        budget: How large `small` may be, if that is asked for; otherwise it is fitted to the threshold, if it can be.
        companion: Whether its files are to stand beside another model's in one release: their names begin
            with the model's, and the app, which gets the other model, is not affected.
    """

    tag: ReleaseTag
    source: SourceRequest
    selection: SelectionRequest
    precisions: tuple[str, ...]
    app_precision: str
    delivery: Delivery
    threshold_bytes: int
    validation: Path | None = None
    calibration: Path | None = None
    budget: Budget | None = None
    companion: bool = False

    def asked(self, weights: "Weights") -> Asked:
        """What is asked for of these weights, as the release's manifest will say it.

        Raises:
            UsageError: The model has not what is to be seen.
        """
        selection = self.selection.resolve(weights.blueprint)
        return Asked(
            tag=self.tag.text,
            name=self.source.name,
            source=weights.source,
            revision=weights.revision,
            weights_sha256=weights.sha256,
            selection=SelectionEntry(
                layers=selection.layers,
                activations=selection.activations,
                logits=selection.logits,
                cache=selection.cache,
                interventions=selection.interventions,
                opset=self.selection.opset,
            ),
            precisions=[FULL_PRECISION, *self.precisions],
            delivery=self.delivery,
            file=self.prefix + model_file_name(self.app_precision),
            threshold_bytes=self.threshold_bytes,
            contract_version=load_contract().version,
            context=weights.blueprint.context,
            fit_bytes=self.fit_bytes,
        )

    def is_answered_by(self, document: Manifest, *, source: str, revision: str) -> bool:
        """Whether a release's model is what is asked for, as far as it is known without the weights.

        Args:
            document: Its manifest.
            source: Where the weights come from, as a manifest says it.
            revision: Their commit.
        """
        there, layers = asked_of(document), document.model.shape.get("layers")
        if type(layers) is not int:
            return False  # No release of ours, or none that can be told.
        named = {part.strip() for part in (self.selection.activations or "").split(",")}
        seen = named | set(there.selection.activations)  # Of `all` and `default` a release has what its model has.
        try:
            selection = SelectionEntry(
                layers=self.selection.layers_of(layers),
                activations=tuple(kind for kind in parse_activations(self.selection.activations) if kind in seen),
                logits=self.selection.logits,
                cache=self.selection.cache,
                interventions=self.selection.interventions,
                opset=self.selection.opset,
            )
        except UsageError:
            return False  # The build says why.
        return there == replace(
            there,
            tag=self.tag.text,
            name=self.source.name,
            source=source,
            revision=revision,
            selection=selection,
            precisions=[FULL_PRECISION, *self.precisions],
            delivery=self.delivery,
            file=self.prefix + model_file_name(self.app_precision),
            threshold_bytes=self.threshold_bytes,
            contract_version=load_contract().version,
            fit_bytes=self.fit_bytes,
            context=there.context if self.source.context is None else self.source.context,
        )

    @property
    def fit_bytes(self) -> int | None:
        """The size of the budget that is asked for."""
        return None if self.budget is None else self.budget.size_bytes

    @property
    def prefix(self) -> str:
        """What file names begin with."""
        return f"{self.source.name}-" if self.companion else ""

    def __post_init__(self) -> None:
        if self.app_precision not in (FULL_PRECISION, *self.precisions):
            raise UsageError(
                f"--app-precision must be fp32 or one of --precision, "
                f"got {self.app_precision[:60]!r} with {', '.join(self.precisions)}. Add it to --precision."
            )
        if self.threshold_bytes < 0:
            raise UsageError("--size-threshold must not be negative. The default is 50 (MB).")


def for_mirror(delivery: Delivery) -> Delivery:
    """How the app gets a model that has an address of its own: `auto` means that one.

    Raises:
        UsageError: The app's tree was asked for.
    """
    if delivery == "git":
        raise UsageError("--mirror gives the model an address of its own, got --delivery git. Leave one of them out.")
    return "release"


def require_fit(request: BuildRequest, size_bytes: int) -> None:
    """Refuses `--delivery git` for a model over the threshold; asked first of its weights alone, before any work."""
    if request.delivery == "git" and not request.companion and size_bytes > request.threshold_bytes:
        raise UsageError(
            f"--delivery git needs a model of at most {request.threshold_bytes / 1e6:g} MB, "
            f"{model_file_name(request.app_precision)} has {size_bytes / 1e6:.1f} MB. "
            "Choose a smaller precision, --delivery release, or another --size-threshold."
        )
