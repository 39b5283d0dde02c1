"""Sessions of onnxruntime on the CPU, as all measured processes use them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

SAMPLES = 64  # Logits of the last position by which files are compared.


def open_session(path: str | Path, threads: int, *, alone: bool = False) -> onnxruntime.InferenceSession:
    """Creates a session.

    Args:
        path: The file.
        threads: Threads within an operator.
        alone: Whether it is the only one of its process. Otherwise its threads rest between runs: onnxruntime
            lets them spin for the next one, and that would take the processors from another session.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if not alone:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feed_of(session: onnxruntime.InferenceSession, tokens: int, vocab: int) -> dict[str, np.ndarray]:
    """The same random ids for every model, and whatever else it asks for."""
    ids = np.random.default_rng(tokens).integers(0, vocab, (1, tokens), dtype=np.int64)
    every_input = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.arange(tokens, dtype=np.int64)[None, :],
    }
    return {entry.name: every_input[entry.name] for entry in session.get_inputs()}


def run_ms(session: onnxruntime.InferenceSession, feed: Mapping[str, np.ndarray]) -> float:
    """One run, with every output."""
    start = time.perf_counter()
    session.run(None, feed)
    return (time.perf_counter() - start) * 1e3


def logits_name(session: onnxruntime.InferenceSession) -> str:
    """The first output: every exporter puts the logits there, and Olive calls them `logits_Q4`."""
    return str(session.get_outputs()[0].name)


def logits_sample(session: onnxruntime.InferenceSession, feed: Mapping[str, np.ndarray]) -> list[float]:
    """Some logits of the last position. This run warms the session up."""
    (logits,) = session.run([logits_name(session)], feed)  # [1, seq, vocab]
    last = np.asarray(logits[0, -1], dtype=np.float64)
    return [float(logit) for logit in last[:: max(1, len(last) // SAMPLES)]]


def paired_ratios(
    base: onnxruntime.InferenceSession,
    other: onnxruntime.InferenceSession,
    vocab: int,
    plan: Sequence[tuple[int, int]],
) -> dict[str, float]:
    """Runs two sessions alternately; tokens -> median of `other` ÷ `base` over the pairs.

    Args:
        base: What is compared with.
        other: What is compared.
        vocab: Token ids are below it.
        plan: Tokens of an input, and the number of pairs.
    """
    ratios = {}
    for tokens, pairs in plan:
        feeds = {session: feed_of(session, tokens, vocab) for session in (base, other)}
        for session, feed in feeds.items():
            run_ms(session, feed)
        of_pairs = []
        for number in range(pairs):
            order = (base, other) if number % 2 else (other, base)
            times_ms = {session: run_ms(session, feeds[session]) for session in order}
            of_pairs.append(times_ms[other] / times_ms[base])
        ratios[str(tokens)] = median(of_pairs)
    return ratios


def read_plan(arguments: Sequence[str]) -> list[tuple[int, int]]:
    """`TOKENS RUNS TOKENS RUNS …` as pairs."""
    return list(zip(map(int, arguments[::2]), map(int, arguments[1::2]), strict=True))
