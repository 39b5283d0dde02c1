"""Runs commands one at a time, each in a process of its own, and measures what each one costs.

Things that are compared run in turn (A B C A B C …), so that a slow minute of the machine hits all of
them; ratios are taken within a round, and the median over the rounds is what is reported. A run that
other processes disturbed is repeated.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TIMEOUT_S = 600.0
"""Longest a measured process may take; the slowest, which measures every kind of activation, needs four minutes."""

DISTURBED = 0.05
"""A run counts as disturbed when other processes took more than this share of the processors."""

_ATTEMPTS = 4
_IDLE_WAIT_S = 60.0
_IDLE_SAMPLE_S = 0.5


class BenchmarkError(Exception):
    """A measured process failed, or the peers cannot be installed."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one process cost.

    Attributes:
        wall_s: From start to exit, imports included.
        cpu_s: User and system time, of all threads.
        peak_rss_bytes: Peak resident memory of the largest process of its tree.
        size_bytes: The ONNX files it wrote, with their external data.
        others_share: Share of all processors that other processes, or other virtual machines, took meanwhile.
        stdout: What it printed.
    """

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    size_bytes: int
    others_share: float
    stdout: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to measure.

    Attributes:
        name: Its row in the table.
        command: Program and arguments.
        output: The folder it writes into, emptied before each run; None if it writes nothing.
    """

    name: str
    command: Sequence[str | Path]
    output: Path | None = None


Measurements = Mapping[str, Sequence[Usage]]
"""The runs of each job, by its name; the runs at one index are one round."""


def run_in_turn(
    jobs: Sequence[Job], rounds: int, progress: Callable[[str], None], *, patient: bool = True
) -> dict[str, list[Usage]]:
    """Runs all jobs once, then all once more, `rounds` times.

    Args:
        jobs: What to compare.
        rounds: How often each job's run counts.
        progress: Told of each run.
        patient: Each run waits for an idle machine, though not forever, and a disturbed one is repeated;
            of its repetitions the least disturbed one counts.

    Returns:
        The runs of each job, by its name.

    Raises:
        BenchmarkError: A job fails or takes longer than `TIMEOUT_S`.
    """
    runs: dict[str, list[Usage]] = {job.name: [] for job in jobs}
    for number in range(1, rounds + 1):
        for job in jobs:
            attempts: list[Usage] = []
            while not attempts or (patient and len(attempts) < _ATTEMPTS and attempts[-1].others_share > DISTURBED):
                if patient:
                    _wait_until_idle()
                attempts.append(run_job(job))
            usage = min(attempts, key=lambda attempt: attempt.others_share)
            repeated = f" (attempt {attempts.index(usage) + 1} of {len(attempts)})" if len(attempts) > 1 else ""
            progress(f"round {number}/{rounds}: {job.name}: {usage.wall_s:.1f} s{repeated}")
            runs[job.name].append(usage)
    return runs


def run_job(job: Job) -> Usage:
    """Runs one job and waits for it.

    The peak of a process starts at what its parent held when it was started
    (https://man7.org/linux/man-pages/man2/getrusage.2.html, kernel: `exec_mmap`), so whoever calls this
    must stay small: import nothing heavy there.

    Raises:
        BenchmarkError: The job fails or takes longer than `TIMEOUT_S`.
    """
    if job.output is not None:
        shutil.rmtree(job.output, ignore_errors=True)
        job.output.mkdir(parents=True)
    os.sync()  # What the job before wrote is not written to disk on this one's time.
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        busy_s, start = _busy_s(), time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in job.command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=_environment(),
        )
        timer = threading.Timer(TIMEOUT_S, os.kill, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        wall_s, busy_s = time.perf_counter() - start, _busy_s() - busy_s
        process.returncode = os.waitstatus_to_exitcode(status)  # Popen need not wait for it any more.
        stdout.seek(0)
        stderr.seek(0)
        printed, complaints = stdout.read(), stderr.read().strip()
    if process.returncode != 0:
        last = complaints.splitlines()[-1][:400] if complaints else "nothing on stderr"
        raise BenchmarkError(
            f"{job.name} must succeed, got exit code {process.returncode} after {wall_s:.0f} s: {last}"
        )
    cpu_s = used.ru_utime + used.ru_stime
    return Usage(
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_rss_bytes=used.ru_maxrss * 1024,  # Linux counts it in KiB.
        size_bytes=onnx_bytes(job.output) if job.output is not None else 0,
        others_share=max(0.0, busy_s - cpu_s) / (wall_s * _processors()),
        stdout=printed,
    )


def onnx_bytes(folder: Path) -> int:
    """The size of a folder's ONNX files and their external data."""
    return sum(file.stat().st_size for file in folder.glob("*.onnx*"))


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios.

    >>> median_ratio([1.0, 2.0, 9.0], [2.0, 4.0, 3.0])
    0.5
    """
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def _wait_until_idle() -> None:
    deadline = time.monotonic() + _IDLE_WAIT_S
    while time.monotonic() < deadline:
        before = _busy_s()
        time.sleep(_IDLE_SAMPLE_S)
        if (_busy_s() - before) / (_IDLE_SAMPLE_S * _processors()) <= DISTURBED:
            return


def _busy_s() -> float:
    """Seconds that all processors together were not idle, theft by other virtual machines included.

    https://man7.org/linux/man-pages/man5/proc_stat.5.html
    """
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _processors() -> int:
    return os.cpu_count() or 1


def _environment() -> dict[str, str]:
    """Ours, with no way to a model hub and with Python's compiled files, which the peers' imports need most."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
