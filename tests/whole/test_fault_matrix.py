"""Every request of a publish x everything that can go wrong with it, then a re-run: nothing is ever lost.

The requests are those of a recorded clean run. Each case has a repository of its own on one stand-in
GitHub, so that cases are equal but for the fault. By default every request of a first publish meets
its share of the faults and is killed before and after the server acted; FULL_FAULT_MATRIX=1 has it meet
every fault, and does the same to the repair of two broken drafts, to a replacement, and to publishers
that give up at the first fault.

The re-run publishes the same folder, or what another machine has built of the same request: then it ends
in the release of one build or of the other, never in a mixture. By default those are the kills alone.
"""

import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dists import TAG, TOKEN, built_by, make_dist
from fault_share import FULL, kinds_at
from model_release.base import github_client
from model_release.base.errors import ReleaseError
from model_release.base.github_access import GitHubAccess
from model_release.base.retry import RetryPolicy
from model_release.contract.manifest import BOM_NAME
from model_release.contract.tag import parse_tag
from model_release.hosts.github import GitHubHost
from model_release.release.kept import copy_released, read_public
from model_release.release.publish import PublishResult, publish
from standins.github import EVERY_FAULT, Fault, Repository, Request, StandInGitHub, fault

pytestmark = [pytest.mark.network, pytest.mark.slow]

MODEL = {"model.onnx": b"onnx " * 400}
SCRIPTS = Path(__file__).parents[2] / "scripts"
TESTS = Path(__file__).parents[1] / "support"


class Killed(BaseException):
    """The end of a process, as far as code within it could notice."""


@dataclass
class Ground:
    """One stand-in, and a fresh repository for each case."""

    site: StandInGitHub
    dist: Path
    older: Path
    builds: tuple[Path, ...]
    cases: int = 0
    name: str = ""
    seen: list[Request] = field(default_factory=list)

    def prepare(self, flow: str, dist: Path | None = None) -> Repository:
        """A repository as a flow finds it."""
        dist = dist or self.dist
        self.cases += 1
        self.name = f"someone/case-{self.cases}"
        repository = self.site.add_repository(self.name, {"README.md": "# app\n"})
        repository.create_tag(TAG)
        files = {path.name: path.read_bytes() for path in sorted(dist.iterdir())}
        if flow == "repair":
            first = repository.add_release(TAG, {**files, "manifest.json": b"other", "foreign.txt": b"x"}, draft=True)
            first.assets[-2].state = "starter"
            repository.add_release(TAG, {"model.onnx": b"half"}, draft=True)
        elif flow == "replace":
            repository.add_release(TAG, {path.name: path.read_bytes() for path in sorted(self.older.iterdir())})
        return repository

    def host(self, *, attempts: int = 8) -> GitHubHost:
        """The repository, in a client of its own as a new process would have."""
        access = GitHubAccess(token=TOKEN, api_url=self.site.url)
        client = github_client.connect(access, seconds_between_writes=0)
        return GitHubHost(client, self.name, retry_policy=RetryPolicy(attempts=attempts, sleep=lambda _: None))

    def publish(self, dist: Path | None = None, *, attempts: int = 8, **options: Any) -> PublishResult:
        """A publisher, as a new process would be."""
        return publish(dist or self.dist, parse_tag(TAG), self.host(attempts=attempts), **options)

    def released(self, folder: Path) -> dict[str, bytes]:
        """What the repository has released, read back and held against its own checksums."""
        host = self.host()
        folder.mkdir()
        copy_released(host, read_public(host, parse_tag(TAG)), folder)
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def state(self) -> Any:
        """What there is at the end of a case."""
        with self.site.lock:
            return self.site.repositories[self.name.lower()].snapshot()

    def aim(self, number: int, what: Fault | None) -> None:
        """From now on the request of this number, counted from 1, meets a fault."""
        self.seen = []

        def hook(request: Request) -> Fault | None:
            self.seen.append(request)
            return what if len(self.seen) == number else None

        self.site.hook = hook


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("matrix")
    dist = make_dist(folder / "dist", files=MODEL)
    older = make_dist(folder / "older", files={"model.onnx": b"older", "vocab.json": b"{}\n"})
    builds = tuple(built_by(folder, number, **{BOM_NAME: b"%d" % number}) for number in (1, 2))
    with StandInGitHub(rate_limit=1 << 30) as site:
        yield Ground(site, dist, older, builds)


@dataclass
class Score:
    """What a matrix has come to.

    Attributes:
        ends: How often a case ended in the release of each folder.
    """

    injected: int = 0
    met: int = 0
    lost: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)


def run_matrix(
    ground: Ground,
    flow: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    folders: tuple[Path, ...],
    kinds: Iterable[str] = EVERY_FAULT,
    attempts: int = 8,
    **options: Any,
) -> Score:
    """Every request of publishing the first folder x its faults and both kills, each before a clean run of the second.

    Each must end as a clean run of one of the two would have.
    """
    first, second = folders
    wanted: dict[str, Any] = {}
    requests = 0
    for folder in reversed(folders):
        ground.prepare(flow, first)
        ground.aim(0, None)
        ground.publish(folder, **options)
        requests, wanted[folder.name] = len(ground.seen), ground.state()
        assert [release["draft"] for release in wanted[folder.name]["releases"]] == [False]
        assert wanted[folder.name]["releases"][0]["assets"].keys() == {path.name for path in folder.iterdir()}
    score = Score()

    def case(name: str, broken_run: Callable[[], object]) -> None:
        score.injected += 1
        try:
            broken_run()
        except (ReleaseError, Killed) as failure:
            score.met += isinstance(failure, Killed)
        score.met += any(request.fault for request in ground.seen)
        ground.aim(0, None)
        try:
            ground.publish(second, **options)
        except ReleaseError as failure:
            score.lost.append(f"{name}: {failure}")
            return
        end = ground.state()
        if (ended_as := next((each for each in wanted if wanted[each] == end), None)) is None:
            score.lost.append(f"{name}: another end state")
        else:
            score.ends[ended_as] += 1

    for number in range(1, requests + 1):
        for kind in kinds_at(number, kinds):
            ground.prepare(flow, first)
            ground.aim(number, fault(kind, seconds=0.02))
            case(f"{flow}, request {number}, {kind}", lambda: ground.publish(first, attempts=attempts, **options))
        for acted in (False, True):
            ground.prepare(flow, first)
            ground.aim(0, None)
            with monkeypatch.context() as patch:
                kill_at(patch, number, acted=acted)
                case(f"{flow}, killed at request {number}, acted: {acted}", lambda: ground.publish(first, **options))
    return score


def kill_at(patch: pytest.MonkeyPatch, number: int, *, acted: bool) -> None:
    """Ends the process at a request, before it goes out or after its answer came."""
    send, sent = github_client._send, 0

    def deadly(connection: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent == number and not acted:
            raise Killed
        answer = send(connection)
        if sent == number:
            raise Killed
        return answer

    patch.setattr(github_client, "_send", deadly)


ALL_FLOWS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("first publish", "first", 8, {}),
    ("first publish, no patience", "first", 1, {}),
    ("two broken drafts", "repair", 8, {}),
    ("replacement", "replace", 8, {"replace": True}),
)
"""Name, what the repository holds before, attempts of the broken run, options of both."""


def flows(*, by_default: int) -> list[Any]:
    """The flows as parameters; all but some of them are of the full matrix."""
    skipped = pytest.mark.skipif(not FULL, reason="the full matrix")
    return [
        pytest.param(*flow, id=name, marks=[] if number < by_default else skipped)
        for number, (name, *flow) in enumerate(ALL_FLOWS)
    ]


@pytest.mark.long_cases("first publish")
@pytest.mark.parametrize(("flow", "attempts", "options"), flows(by_default=1))
def test_no_fault_and_no_kill_loses_anything(
    ground: Ground,
    flow: str,
    attempts: int,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    score = run_matrix(ground, flow, monkeypatch, folders=(ground.dist, ground.dist), attempts=attempts, **options)
    with capsys.disabled():
        print(f"\n{flow}: faults injected {score.injected}, lost {len(score.lost)}")
    require_nothing_lost(ground, score)


@pytest.mark.parametrize(("flow", "attempts", "options"), flows(by_default=1))
def test_what_another_machine_rebuilds_finishes_a_broken_release_or_keeps_it_whole(
    ground: Ground,
    flow: str,
    attempts: int,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds: Iterable[str] = EVERY_FAULT if FULL else ()
    score = run_matrix(ground, flow, monkeypatch, folders=ground.builds, kinds=kinds, attempts=attempts, **options)
    with capsys.disabled():
        ends = ", ".join(f"{count} as build {build}" for build, count in sorted(score.ends.items()))
        print(f"\n{flow}, rebuilt: faults injected {score.injected}, lost {len(score.lost)}, ended {ends}")
    require_nothing_lost(ground, score)
    assert score.ends["2"], "some runs broke so early that the rebuild was released"
    assert score.ends["1"] or options, "some so late that their release was kept"


def test_each_build_is_released_whole(ground: Ground, tmp_path: Path) -> None:
    """The ends that the cases above are held against, byte by byte."""
    for build in ground.builds:
        ground.prepare("first", build)
        ground.aim(0, None)
        ground.publish(build)
        there = {path.name: path.read_bytes() for path in build.iterdir()}
        assert ground.released(tmp_path / build.name) == there


def require_nothing_lost(ground: Ground, score: Score) -> None:
    """What every matrix must come to."""
    assert score.lost == []
    assert score.met == score.injected, "a fault that no request met proves nothing"
    assert ground.site.violations == []
    assert ground.site.leaks == []


PUBLISHER = """
import sys
sys.path[:0] = [{scripts!r}, {tests!r}]
from pathlib import Path
from model_release.base.github_access import GitHubAccess
from model_release.base.github_client import connect
from model_release.contract.tag import parse_tag
from model_release.hosts.github import GitHubHost
from model_release.release.publish import publish
client = connect(GitHubAccess(token="{token}", api_url="{url}"), seconds_between_writes=0)
publish(Path({dist!r}), parse_tag("{tag}"), GitHubHost(client, "{name}"))
"""


@pytest.mark.parametrize("number", [4, 8, 11])
def test_a_killed_process_is_finished_by_the_next_one(ground: Ground, number: int) -> None:
    """SIGKILL, from within the server: at the draft's making, in an upload, at the publication."""
    ground.prepare("first")
    ground.publish()
    wanted = ground.state()
    ground.prepare("first")
    script = textwrap.dedent(PUBLISHER).format(
        scripts=str(SCRIPTS),
        tests=str(TESTS),
        token=TOKEN,
        url=ground.site.url,
        dist=str(ground.dist),
        tag=TAG,
        name=ground.name,
    )
    arrived, process_known = [], threading.Event()
    processes: list[subprocess.Popen[bytes]] = []

    def kill(request: Request) -> None:
        arrived.append(request)
        if len(arrived) == number:
            process_known.wait(10)
            processes[0].send_signal(signal.SIGKILL)

    ground.site.hook = kill
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    processes.append(process)
    process_known.set()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors.decode()
    ground.aim(0, None)
    ground.publish()
    assert ground.state() == wanted


@pytest.mark.parametrize("publishers", [2, 3])
def test_publishers_at_the_same_time_end_in_one_release(ground: Ground, publishers: int) -> None:
    ground.prepare("first")
    ground.publish()
    wanted = ground.state()
    ground.prepare("first")
    ground.aim(0, None)
    start, failures = threading.Barrier(publishers), []

    def run() -> None:
        start.wait()
        try:
            ground.publish(attempts=30)
        except (Exception, Killed) as failure:  # noqa: BLE001 - reported by the main thread
            failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert ground.state() == wanted
    assert ground.site.violations == []
