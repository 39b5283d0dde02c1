"""What a run of the release workflow is asked for -> its tag and its build jobs. No network, and nothing heavy."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from model_release.base.errors import UsageError, WeightsError
from model_release.base.files import read_bytes
from model_release.contract.pinned_models import is_pinned, known_entry, load_registry, locate
from model_release.contract.selection import parse_layers
from model_release.contract.tag import ReleaseTag, parse_tag
from model_release.model.weights.source import DEFAULT_MODEL, DEMO_FOLDER, SourceRequest
from model_release.release.request import BuildRequest

DEMO = "demo"
_MAX_MODELS = 16  # each is a job
_MAX_OWN_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WeightsJob:
    """One model of a run.

    Attributes:
        name: The model's own, without its organisation; unique in a run.
        model: What `--model` takes; empty for the embedded one.
        revision: The commit, branch or tag; empty for the embedded model.
        cache_key: Of its weights in the runner's cache; empty for weights that nothing pins: only a sha256
            that is known beforehand makes a cache as good as a download.
        companion: Whether its files stand beside another model's, under names that begin with its own.
        layer_count: How many layers it has; None if only its weights say so.
        parameters: How many parameters it has; None if only its weights say so.
        is_unpinned: Whether the registry has it, but nothing that pins it.
        is_gated: Whether the Hub gives it only to accounts that have accepted its terms.
        context: Tokens it shall promise, if not its positions or 2048.
    """

    name: str
    model: str = ""
    revision: str = ""
    cache_key: str = ""
    companion: bool = False
    layer_count: int | None = None
    parameters: int | None = None
    is_unpinned: bool = False
    is_gated: bool = False
    context: int | None = None

    @property
    def source(self) -> SourceRequest:
        """The same, for the steps."""
        if not self.model:
            return SourceRequest(demo=True, context=self.context)
        return SourceRequest(model=self.model, revision=self.revision, context=self.context)

    def describe(self) -> str:
        """The job in words."""
        weights = f"{self.model} at {self.revision}" if self.model else "the embedded model"
        parts = [
            weights,
            *(["pinned"] if self.cache_key else []),
            *(["not pinned"] if self.is_unpinned else []),
            *(["gated: needs HF_TOKEN"] if self.is_gated else []),
            *([f"about {self.parameters * 4 / 1e6:,.0f} MB in fp32"] if self.parameters else []),
            *([f"files named {self.name}-…"] if self.companion else []),
        ]
        return ", ".join(parts)

    def row(self) -> dict[str, Any]:
        """The job as an entry of a workflow's matrix."""
        return {
            "name": self.name,
            "model": self.model,
            "demo": not self.model,
            "revision": self.revision,
            "cache-key": self.cache_key,
            "companion": self.companion,
        }


def resolve_tag(tag: str | None, version: str | None, pushed: str | None) -> ReleaseTag:
    """The tag of a run: as asked for, or as pushed.

    Args:
        tag: A whole tag.
        version: Its version alone.
        pushed: The tag the run is about, if it is about one.

    Raises:
        UsageError: There is none, two that differ, or one that names no release.
    """
    asked = {parse_tag(text) for text in (tag, f"model-v{version}" if version is not None else None) if text}
    if len(asked) > 1:
        raise UsageError(f"--tag and --version must agree, got {tag!a} and {version!a}. Give one of them.")
    if not asked and not pushed:
        raise UsageError("the run must have a tag, got none. Push a tag model-v1.0.0, or give --tag or --version.")
    return asked.pop() if asked else parse_tag(pushed or "")


def resolve_point(wanted: str, tag: str | None, version: str | None) -> ReleaseTag:
    """The tag of a run that builds nothing.

    Args:
        wanted: The public release that the app is to use.
        tag: That of a release to make.
        version: Its version alone.

    Raises:
        UsageError: A release is to be made too, or the tag names none.
    """
    if tag is not None or version is not None:
        raise UsageError("--point-to builds nothing, got --tag or --version too. Leave one of them out.")
    return parse_tag(wanted)


def plan_models(models: str | None, revision: str | None, context: int | None = None) -> tuple[WeightsJob, ...]:
    """The build jobs for a list of models; the first one's files keep their plain names.

    Args:
        models: Registry names, Hub ids or `demo`, separated by commas.
        revision: Of the only model.
        context: Tokens that each shall promise, if not its positions or 2048.

    Raises:
        UsageError: An entry names no model, or two would have files of the same names.
    """
    names = [name.strip() for name in (DEFAULT_MODEL if models is None else models).split(",")]
    if len(names) > _MAX_MODELS:
        raise UsageError(f"--model must be at most {_MAX_MODELS} models, got {len(names)}. Make several releases.")
    if revision is not None and (len(names) > 1 or names == [DEMO]):
        raise UsageError("--revision belongs to one model of the Hub. Leave it out, or give that model alone.")
    pinned = load_registry()
    jobs = [
        replace(_job(name, revision, pinned, companion=number > 0), context=context)
        for number, name in enumerate(names)
    ]
    folded = [job.name.casefold() for job in jobs]
    if len(set(folded)) != len(folded):
        raise UsageError(f"--model must be models of different names, got {', '.join(folded)}. Name each once.")
    return tuple(jobs)


def registered_models() -> tuple[WeightsJob, ...]:
    """Every model of the registry, by name."""
    pinned = load_registry()
    return tuple(_job(name, None, pinned, companion=False) for name in sorted(pinned))


def require_pins(jobs: Iterable[WeightsJob], *, by_hand: bool) -> None:
    """Refuses models whose bytes nobody has pinned, where no person has asked for them in this very run.

    Raises:
        WeightsError: The registry has a model, but no commit and sha256 of it.
    """
    unpinned = [job.model for job in jobs if job.is_unpinned]
    if unpinned and not by_hand:
        names = ",".join(unpinned)
        raise WeightsError(
            f"a release that nobody starts by hand must be of pinned weights, got {names} without commit and sha256. "
            f"Run python scripts/weights.py --pin {names} and commit contract/models.json, or start the run by hand."
        )


def check_layers(jobs: Iterable[tuple[WeightsJob, BuildRequest]]) -> None:
    """Refuses layers that a model of known size does not have, before its weights are fetched.

    Raises:
        UsageError: One is out of its range.
    """
    for job, request in jobs:
        if job.layer_count is not None and request.selection.layers is not None:
            try:
                parse_layers(request.selection.layers, job.layer_count)
            except UsageError as failure:
                raise UsageError(f"{job.name}: {failure}") from failure


def matrix(jobs: Iterable[WeightsJob]) -> str:
    """Jobs as a workflow's matrix, in JSON."""
    return json.dumps({"include": [job.row() for job in jobs]}, separators=(",", ":"))


def describe_run(jobs: Iterable[tuple[WeightsJob, BuildRequest]]) -> list[list[str]]:
    """A plan as rows of model, weights, what is seen of it and what is made of it."""
    return [
        [
            job.name,
            job.describe(),
            ("all layers" if request.selection.all_layers else f"layers {request.selection.layers or 'the last'}")
            + (f", {job.context} tokens" if job.context else "")
            + (", keys and values" if request.selection.cache else "")
            + (", interventions" if request.selection.interventions else ""),
            ", ".join(("fp32", *request.precisions)),
        ]
        for job, request in jobs
    ]


def _job(model: str, revision: str | None, pinned: Mapping[str, Any], *, companion: bool) -> WeightsJob:
    if model == DEMO:
        config = json.loads(read_bytes(DEMO_FOLDER / "config.json", limit_bytes=_MAX_OWN_BYTES))
        return WeightsJob(name=DEMO, companion=companion, layer_count=config["n_layer"])
    repository, commit = locate(model, revision, pinned)
    entry = known_entry(repository, commit, pinned)
    key = f"weights-{repository.replace('/', '--')}-{commit}" if is_pinned(entry) else ""
    return WeightsJob(
        name=SourceRequest(model=model).name,
        model=model,
        revision=commit,
        cache_key=key,
        companion=companion,
        layer_count=entry.get("layers"),
        parameters=entry.get("parameters"),
        is_unpinned=bool(entry) and not is_pinned(entry),
        is_gated=entry.get("gated", False),
    )
