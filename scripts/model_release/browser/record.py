"""A browser's verdicts -> the figures of a release that is not published yet; its times beside them."""

from dataclasses import fields, replace
from pathlib import Path

from model_release.base.errors import ManifestError
from model_release.base.files import write_bytes
from model_release.browser.results import BackendRun, BrowserReport, Timings, render_timings
from model_release.contract import manifest, measured
from model_release.contract.dist import check_built
from model_release.contract.manifest import TIMINGS_NAME
from model_release.contract.measured import MEASURED_NAME, BackendEntry, rounded


def record(folder: Path, result: BrowserReport) -> None:
    """Writes into each model's `measured.json` on which backends its files run, and the checksums anew.

    Only what another run would find again is written there: verdicts and errors. Times and memory go into
    `browser.json`, for the release notes.

    Raises:
        ManifestError: The folder holds no release, or other files than its manifest says.
    """
    release = check_built(folder)
    for document in (release.document, *release.companions):
        trials = [trial for trial in result.trials if trial.file in document.variants_by_file]
        prefix = document.asset_prefix
        figures = release.figures[prefix]
        models = (
            replace(model, backends=tuple(_entry(trial) for trial in trials if trial.file == model.file))
            for model in figures.models
        )
        timings = {(trial.file, trial.backend): _timings(trial) for trial in trials}
        write_bytes(folder / f"{prefix}{TIMINGS_NAME}", render_timings(timings), error=ManifestError)
        recorded = measured.render(replace(figures, models=tuple(models)))
        write_bytes(folder / f"{prefix}{MEASURED_NAME}", recorded, error=ManifestError)
        manifest_name, checksums_name = manifest.part_names(prefix)
        described = manifest.describe_files(folder, [*document.descriptions, manifest_name])
        write_bytes(folder / checksums_name, manifest.checksums([*document.files, *described]), error=ManifestError)


def _timings(trial: BackendRun) -> Timings:
    return Timings(**{field.name: getattr(trial, field.name) for field in fields(Timings)})


def _entry(trial: BackendRun) -> BackendEntry:
    if trial.refused:
        return BackendEntry(backend=trial.backend, runs=False, reason=trial.refused)
    if trial.worst_cosine is None or trial.worst_relative is None:
        raise ManifestError(f"{trial.file} must be right on {trial.backend} to be recorded. Do not release this file.")
    return BackendEntry(
        backend=trial.backend,
        runs=True,
        cosine=round(trial.worst_cosine, 4),
        relative=rounded(trial.worst_relative),
    )
