"""The sections of a benchmark: each measures one thing and returns its part of the results.

A section makes the files it needs if no section before it did, so each can run alone.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from make_smollm2 import make_smollm2
from measure import Job, Measurements, Usage, onnx_bytes, run_in_turn, run_job
from results import ActivationCost, Pair, Quality, Series, Session, StepCost, StoredFile
from workshop import (
    ACCELERATE,
    DYNAMIC,
    EXPORTERS,
    FLOAT16,
    MATMUL_NBITS,
    OLIVE,
    OPTIMUM,
    OPTIMUM_PAST,
    OURS,
    PEERS_QUANTIZERS,
    PLAIN,
    PRECISIONS,
    SCRIPTS,
    Workshop,
    child,
    make_weights,
)

THREADS = (1, 2)
VERIFY = "verify.py without reference"
CALIBRATED = ("int8-static", "small")
"""They have no peer and take longest: measured once, whatever the number of rounds."""

COPIED = ("fp16", "int8")
SESSIONS = (OURS, *PRECISIONS, OPTIMUM, PLAIN, *PEERS_QUANTIZERS)
PAIRS = ((OURS, OPTIMUM), ("int4", MATMUL_NBITS), ("int4-compute", OURS))
LONG_RUN = (OURS, "int8-dynamic", OPTIMUM, DYNAMIC)
DEMO, OUTLIERS = "embedded model", "embedded model with outliers"
SMOLLM2 = "SmolLM2-135M"
_GROWN = (OURS, OPTIMUM, "int4")
_HELD = (OURS, "int4", "int4-compute")
_TRAINED = (OURS, OPTIMUM, ACCELERATE)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is measured, and how often.

    Attributes:
        name: The model in words.
        config: Entries of GPT2Config.
        runs: Tokens of an input -> timed runs of a session.
        pairs: Tokens of an input -> runs of each of two sessions.
        lengths: Tokens -> timed runs, for latency against length.
        windows: Windows of text on which quality is measured.
        trained: The trained model of `trained`: SmolLM2-135M, which a package has, or the embedded one.
        large: Entries of GPT2Config of models that grow, for the memory of their sessions.
        scaled: Entries of GPT2Config that the models of different size share.
        growing: `layers` or `hidden size` -> the entries in which its models differ from `scaled`.
    """

    name: str
    config: Mapping[str, int]
    runs: Mapping[int, int]
    pairs: Mapping[int, int]
    lengths: Mapping[int, int]
    windows: int
    trained: str
    large: Sequence[Mapping[str, int]]
    scaled: Mapping[str, int]
    growing: Mapping[str, Sequence[Mapping[str, int]]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything a section needs.

    Attributes:
        shape: What is measured.
        rounds: How often each compared thing runs.
        patient: See `run_in_turn`.
        folder: For files that are removed at the end.
        peers: The peers' Python.
        progress: Told of each step.
    """

    shape: Shape
    rounds: int
    patient: bool
    folder: Path
    peers: Path
    progress: Callable[[str], None]

    def workshop(self) -> Workshop:
        """The files of the model of `shape`."""
        workshop = Workshop(weights=self.folder / "weights", folder=self.folder / "main", peers=self.peers)
        if not workshop.weights.exists():
            make_weights((workshop.weights, json.dumps(self.shape.config)))
        return workshop

    def run(self, jobs: Sequence[Job], rounds: int | None = None) -> dict[str, list[Usage]]:
        """Runs jobs in turn."""
        return run_in_turn(jobs, rounds or self.rounds, self.progress, patient=self.patient)

    def run_pairs(self, job: Job) -> str:
        """Runs a job that compares within itself, once; a disturbed minute hits both sides. Returns what it prints."""
        ((usage,),) = run_in_turn([job], 1, self.progress, patient=False).values()
        return usage.stdout


def measure_export(bench: Bench) -> dict[str, Any]:
    """PyTorch to ONNX, ours and theirs."""
    workshop = bench.workshop()
    return {"exports": bench.run([workshop.job(name) for name in EXPORTERS])}


def measure_quantize(bench: Bench) -> dict[str, Any]:
    """An exported file to a smaller one, beside onnxruntime's and Olive's quantizers and beside plain copies."""
    workshop = bench.workshop()
    order = (
        "fp16",
        FLOAT16,
        "fp16-compute",
        "int8",
        "int8-dynamic",
        DYNAMIC,
        "int4",
        MATMUL_NBITS,
        OLIVE,
        "int4-compute",
    )
    jobs = []
    for name in order:
        jobs += [workshop.job(name), *([workshop.copy(name)] if name in COPIED else [])]
    compared: Measurements = bench.run(jobs)
    verify = Job(name=VERIFY, command=[sys.executable, SCRIPTS / "verify.py", "--model", workshop.file(OURS)])
    once = bench.run([*(workshop.job(name) for name in CALIBRATED), verify], rounds=1)
    return {"conversions": {**compared, **once}}


def measure_sessions(bench: Bench) -> dict[str, Any]:
    """Size, creation, memory and latency of every file; then what is compared closest, alternately in one process."""
    workshop, shape = bench.workshop(), bench.shape
    vocab = shape.config["vocab_size"]
    for name in SESSIONS:
        bench.progress(f"file: {name}")
        workshop.file(name)
    sessions = {}
    for threads in THREADS:
        bench.progress(f"sessions with {threads} thread(s)")
        runs = bench.run([workshop.session(name, threads, vocab, _plan(shape.runs)) for name in SESSIONS])
        sessions[threads] = {name: [_session(usage) for usage in usages] for name, usages in runs.items()}
    pairs = []
    for name, base in PAIRS:
        for threads in THREADS:
            files = (workshop.file(base), workshop.file(name))
            job = child(f"{name} ÷ {base}", "run_pair.py", *files, str(threads), str(vocab), *_plan(shape.pairs))
            ratios = _by_tokens(json.loads(bench.run_pairs(job)))
            pairs.append(Pair(file=name, base=base, threads=threads, ratios=ratios))
    stored = {name: _stored_file(workshop.file(name)) for name in SESSIONS}
    return {"files": stored, "sessions": sessions, "pairs": pairs}


def measure_activations(bench: Bench) -> dict[str, Any]:
    """What exporting each kind costs, in one process that makes and runs one file after the other."""
    workshop = bench.workshop()
    folder = bench.folder / "activations"
    folder.mkdir()
    arguments = (str(max(THREADS)), *_plan(bench.shape.pairs))
    job = child("every kind of activation", "run_activations.py", SCRIPTS, workshop.weights, folder, *arguments)
    printed = json.loads(bench.run_pairs(job))
    rows = [ActivationCost(**{**row, "ratios": _by_tokens(row["ratios"])}) for row in printed]
    return {"activations": rows}


def measure_generation(bench: Bench) -> dict[str, Any]:
    """What a token late in a text costs with `--cache`, of the embedded model and of that of `shape`."""
    steps = {}
    rounds = max(bench.shape.pairs.values())
    for number, (title, weights) in enumerate(
        {DEMO: SCRIPTS / "demo_model", bench.shape.name: bench.workshop().weights}.items()
    ):
        folder = bench.folder / f"steps_{number}"
        folder.mkdir()
        peers_file = Workshop(weights=weights, folder=folder, peers=bench.peers).file(OPTIMUM_PAST)
        job = child(title, "run_steps.py", SCRIPTS, weights, folder, peers_file, str(max(THREADS)), str(rounds))
        steps[title] = StepCost(**json.loads(bench.run_pairs(job)))
        shutil.rmtree(folder)
    return {"steps": steps}


def measure_quality(bench: Bench) -> dict[str, Any]:
    """Agreement with PyTorch on text, of the embedded model and of the same with outliers."""
    demo, outliers = SCRIPTS / "demo_model", bench.folder / "outliers"
    run_job(child("outliers", "make_outliers.py", demo, outliers))
    names = (OURS, *PRECISIONS, *PEERS_QUANTIZERS)
    quality = {}
    for number, (title, weights) in enumerate({DEMO: demo, OUTLIERS: outliers}.items()):
        workshop = Workshop(weights=weights, folder=bench.folder / f"quality_{number}", peers=bench.peers)
        quality[title] = _quality_of(bench, title, workshop, names)
    return {"quality": quality}


def _quality_of(bench: Bench, title: str, workshop: Workshop, names: Sequence[str]) -> dict[str, Quality]:
    """Agreement with PyTorch of some files of a model."""
    paths = []
    for name in names:
        bench.progress(f"{title}: {name}")
        paths.append(workshop.file(name))
    job = child(title, "measure_quality.py", SCRIPTS, workshop.weights, str(bench.shape.windows), *paths)
    printed = json.loads(run_job(job).stdout)
    return {name: Quality(**row) for name, row in zip(names, printed, strict=True)}


def measure_trained(bench: Bench) -> dict[str, Any]:
    """A trained model of another family: export beside optimum-onnx's, every precision, agreement with PyTorch."""
    weights, folder = SCRIPTS / "demo_model", bench.folder / "trained"
    if bench.shape.trained == SMOLLM2:
        weights = bench.folder / "smollm2"
        make_smollm2(weights, bench.peers)
    workshop = Workshop(weights=weights, folder=folder, peers=bench.peers)
    exports = bench.run([workshop.job(name) for name in _TRAINED])
    made = bench.run([workshop.job(name) for name in PRECISIONS], rounds=1)
    quality = _quality_of(bench, bench.shape.trained, workshop, (OURS, *PRECISIONS))
    shutil.rmtree(folder)
    return {"trained": {**exports, **made}, "trained_quality": quality}


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Peak memory of creating a session and running 16 tokens, over models that grow; one run each."""
    vocab = bench.shape.config["vocab_size"]
    points: dict[str, list[tuple[float, float]]] = {}
    for number, model in enumerate(bench.shape.large):
        folder = bench.folder / f"large_{number}"
        make_weights((folder / "weights", json.dumps({**bench.shape.config, **model})))
        workshop = Workshop(weights=folder / "weights", folder=folder, peers=bench.peers)
        millions = float(f"{onnx_bytes(workshop.file(OURS).parent) / 4e6:.3g}")
        shutil.rmtree(folder / "weights")
        for name in _HELD:
            bench.progress(f"memory: {millions:g}M parameters, {name}")
            job = workshop.session(name, max(THREADS), vocab, _plan({16: 1}))
            ((usage,),) = bench.run([job], rounds=1).values()
            points.setdefault(name, []).append((millions, usage.peak_rss_bytes / 1e6))
        shutil.rmtree(folder)
    panel = "memory of a session, MB"
    return {
        "memory": [
            Series(panel=panel, work="parameters, millions", name=name, points=tuple(found))
            for name, found in points.items()
        ]
    }


def measure_scaling(bench: Bench) -> dict[str, Any]:
    """Cost against work: layers and hidden size for export and quantizing, length for latency."""
    series = []
    for work, models in bench.shape.growing.items():
        series += _growth(bench, work, models)
    workshop, vocab = bench.workshop(), bench.shape.config["vocab_size"]
    jobs = [workshop.session(name, max(THREADS), vocab, _plan(bench.shape.lengths)) for name in LONG_RUN]
    for name, (usage,) in bench.run(jobs, rounds=1).items():
        points = tuple(_session(usage).run_ms.items())
        series.append(Series(panel="run, ms", work="tokens", name=name, points=points))
    return {"series": series}


def _growth(bench: Bench, work: str, models: Sequence[Mapping[str, int]]) -> list[Series]:
    """Wall time and peak memory of exports and quantizing over models that grow in one entry of their config."""
    entry = {"layers": "n_layer", "hidden size": "n_embd"}[work]
    folders = [bench.folder / f"{entry}_{model[entry]}" for model in models]
    configs = [json.dumps({**bench.shape.scaled, **model}) for model in models]
    make_weights(*((folder / "weights", config) for folder, config in zip(folders, configs, strict=True)))
    walls: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    for folder in folders:
        workshop = Workshop(weights=folder / "weights", folder=folder, peers=bench.peers)
        bench.progress(f"growing {work}: {folder.name}")
        for name in _GROWN:
            ((usage,),) = bench.run([workshop.job(name)], rounds=1).values()
            walls.setdefault(name, []).append(usage.wall_s)
            peaks.setdefault(name, []).append(usage.peak_rss_bytes / 1e6)
        shutil.rmtree(folder)
    sizes = [model[entry] for model in models]
    series = []
    for panel, costs in (("wall, s", walls), ("peak memory, MB", peaks)):
        for name, values in costs.items():
            points = tuple(zip(sizes, values, strict=True))
            series.append(Series(panel=panel, work=work, name=name, points=points))
    return series


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "export": measure_export,
    "quantize": measure_quantize,
    "sessions": measure_sessions,
    "activations": measure_activations,
    "generation": measure_generation,
    "quality": measure_quality,
    "trained": measure_trained,
    "memory": measure_memory,
    "scaling": measure_scaling,
}
"""Name -> what measures it and returns some attributes of `Results`; later ones use files of earlier ones."""


def _plan(runs: Mapping[int, int]) -> list[str]:
    return [str(number) for pair in runs.items() for number in pair]


def _by_tokens(printed: Mapping[str, float]) -> dict[int, float]:
    return {int(tokens): figure for tokens, figure in printed.items()}


def _session(usage: Usage) -> Session:
    printed = json.loads(usage.stdout)
    return Session(
        usage=usage,
        create_s=printed["create_s"],
        create_peak_bytes=printed["create_peak_bytes"],
        run_ms=_by_tokens(printed["run_ms"]),
        logits=tuple(printed["logits"]),
    )


def _stored_file(path: Path) -> StoredFile:
    printed = json.loads(run_job(child(path.name, "describe.py", path)).stdout)
    return StoredFile(size_bytes=onnx_bytes(path.parent), nodes=printed["nodes"], opset=printed["opset"])
