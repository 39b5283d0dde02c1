"""`fetch.py` and `fetch.mjs` are one behaviour in two languages: the same cases, the same servers, the same end."""

import contextlib
import fnmatch
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import cli
from commands import Outcome, call
from model_release.base.retry import RetryPolicy
from node import NodeLoop, run_node
from serving import Asked, Reply, Server, ranged
from small_release import CONTENTS, MODEL, QUICK, TAG, VERSION, document, release, sha256
from standins.github import Fault, StandInGitHub

CASES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("fetch_cases.json").read_bytes())
ENV = f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL={{url}}/{TAG}/model_fp16.onnx?v={{v}}\n"
DELIVERED = ["config.json", "manifest.json", "merges.txt", "model_fp16.onnx", "tokenizer.json", "vocab.json"]

del CASES["//"]


def run_python(folder: Path, options: list[str], environment: dict[str, str], timeout_s: float) -> Outcome:
    """`fetch.py` in this process, with little patience."""
    quick = asdict(replace(QUICK, request_timeout_s=timeout_s))
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("GITHUB_", "VITE_"))}
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {**clean, **environment}, clear=True),
        mock.patch.object(RetryPolicy.__init__, "__kwdefaults__", quick),
    ):
        return call(cli.fetch, *options)


Program = Callable[[Path, list[str], dict[str, str], float], Outcome]


@pytest.fixture(scope="module")
def run_mjs() -> Iterator[Program]:
    """`fetch.mjs`, in one process for all cases but those that a connection left open could keep from ending."""
    with NodeLoop() as loop:
        yield loop.run


def text_of(value: str, url: str) -> str:
    """A text of the table with its placeholders filled."""
    known = {"url": url, "v": VERSION, "sha": sha256(MODEL)[:16], "v32": f"1.2.0-{sha256(CONTENTS['model.onnx'])[:8]}"}
    return re.sub(r"\{(url|v|sha|v32)\}", lambda match: known[match[1]], value)


def served(case: dict[str, Any]) -> dict[str, bytes]:
    """The release of a case, and what is wrong with it."""
    contents = {
        **CONTENTS,
        **{name: None if text is None else text.encode() for name, text in case.get("contents", {}).items()},
    }
    kept = {name: content for name, content in contents.items() if content is not None}
    changed = document(kept)
    for key, value in case.get("manifest", {}).items():
        if key == "files+":
            changed["files"].append({"name": "tokenizer_x", "size_bytes": 1, "sha256": sha256(b"x")} | value)
        elif key == "delivery.file":
            changed["delivery"]["file"] = value
        else:
            changed[key] = value
    files = release(kept, case.get("manifest_text", json.dumps(changed)).encode())
    if extra := case.get("manifest", {}).get("files+"):
        files["SHA256SUMS"] += f"{sha256(b'x')}  {extra.get('name', 'tokenizer_x')}\n".encode()
    if "swap" in case:
        name, digest = case["swap"]
        files["SHA256SUMS"] = files["SHA256SUMS"].replace(sha256(files[name]).encode(), digest.encode())
    if "sums" in case:
        files["SHA256SUMS"] = case["sums"].encode()
    for name, text in case.get("served", {}).items():
        files.pop(name)
        if text is not None:
            files[name] = text.encode()
    return files


class Answers:
    """A web server that answers as a case wants it."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.files = served(case)
        self.answers = [dict(each) for each in case.get("answers", [])]
        self.url = ""

    def __call__(self, asked: Asked) -> Reply:
        """The answer."""
        name = asked.path.partition("?")[0].rpartition("/")[2]
        for answer in self.answers:
            if answer["times"] > 0 and fnmatch.fnmatch(asked.path, answer["path"]):
                answer["times"] -= 1
                return self._odd(asked, name, answer)
        return ranged(asked, self.files[name]) if name in self.files else Reply(404)

    def _odd(self, asked: Asked, name: str, answer: dict[str, Any]) -> Reply:
        headers = {
            key: text_of(text.replace("{name}", name), self.url) for key, text in answer.get("headers", {}).items()
        }
        content = self.files.get(name, b"")
        if "etag" in answer:
            return ranged(asked, content, etag=answer["etag"], cut=answer["cut"])
        reply = Reply(200, content) if answer.get("no_range") else ranged(asked, content, cut=answer.get("cut"))
        if "status" in answer:
            body = content[500:] if answer["status"] == 206 else b""
            reply = Reply(answer["status"], body)
        if "body" in answer:
            reply.body = answer["body"].encode() * answer["body_times"]
        if answer.get("flip"):
            reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]
        reply.body += answer.get("more", "").encode() * (20_000 if answer.get("no_length") else 1)
        return replace(
            reply,
            headers={**reply.headers, **headers},
            pause_s=answer.get("pause_s", 0.0),
            drip=answer.get("drip", 0),
            no_length=answer.get("no_length", False),
        )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a case's release is: addresses, what the environment says of them, and what was asked in the end."""

    origin: str
    url: str
    environment: dict[str, str]
    requests: Callable[[], list[tuple[str, ...]]]


@contextlib.contextmanager
def host(case: dict[str, Any]) -> Iterator[Place]:
    """Starts the server of a case."""
    if "host" not in case:
        answers = Answers(case)
        with Server(answers) as server:
            answers.url = server.url

            def requests() -> list[tuple[str, ...]]:
                kept = ("Range", "If-Range", "Authorization")
                return [(each.path, *(each.headers.get(name, "") for name in kept)) for each in server.asked]

            yield Place(origin=server.url, url=server.url, environment={}, requests=requests)
        return
    with StandInGitHub() as site:
        repository = site.add_repository("someone/app")
        repository.add_release(TAG, served(case))
        repository.private = case["host"] == "private"
        site.faults = [Fault(**fault) for fault in case.get("faults", [])]
        url = f"{site.url}/{repository.full_name}/releases/download"
        environment = {"GITHUB_SERVER_URL": site.url, "GITHUB_API_URL": site.url, "GITHUB_TOKEN": case.get("token", "")}

        def seen() -> list[tuple[str, ...]]:
            return [(each.origin, each.path, each.token) for each in site.requests]

        yield Place(origin=site.url, url=url, environment=environment, requests=seen)
        assert site.violations == []
        assert site.leaks == []


@dataclass(frozen=True, kw_only=True)
class End:
    """How a case ended, in words that do not depend on the program or on a port."""

    code: object
    out: str
    lines: tuple[str, ...]
    files: dict[str, bytes]
    folders: list[str]
    local: str | None
    requests: list[tuple[str, ...]]


def play(folder: Path, case: dict[str, Any], program: Program) -> list[End]:
    """Runs one of the programs in an app of its own."""
    app = folder / "web"
    models = app / "static" / "models" / "gpt2"
    app.mkdir(parents=True)
    ends = []
    with host(case) as place:
        if case.get("env", "") is not None:
            text = text_of(case.get("env", ENV), place.url)
            (app / ".env.production").write_bytes(text.encode(case.get("encoding", "utf-8")))
        if "local" in case:
            (app / ".env.production.local").write_bytes(text_of(case["local"], place.url).encode())
        lying = {name: served(case)[name] for name in DELIVERED} if case.get("tree") else {}
        lying |= {
            text_of(name, ""): (MODEL + b"x")[:value] if isinstance(value, int) else value.encode()
            for name, value in case.get("before", {}).items()
        }
        for name, content in lying.items():
            path = Path(os.path.normpath(models / name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        environment = {"PATH": os.environ["PATH"], **place.environment, **case.get("environment", {})}
        options = ["--env-file", "web/.env.production", *case.get("options", [])]
        for _ in range(2 if case.get("twice") else 1):
            outcome = program(folder, options, environment, case.get("timeout_s", 5.0))
            local = app / ".env.production.local"
            ends.append(
                End(
                    code=outcome.code,
                    out=neutral(outcome.out, place.origin),
                    lines=tuple(filter(is_shared, neutral(outcome.err, place.origin).splitlines())),
                    files=lying_in(models),
                    folders=sorted(str(path.relative_to(app)) for path in app.rglob("*") if path.is_dir()),
                    local=local.read_bytes().decode() if local.exists() else None,
                    requests=place.requests(),
                )
            )
    return ends


def lying_in(models: Path) -> dict[str, bytes]:
    """Every file and its bytes; of a partial one it is chance how much arrived before a line broke."""
    files = {str(path.relative_to(models)): path for path in models.rglob("*") if path.is_file()}
    return {name: b"" if name.endswith(".partial") else path.read_bytes() for name, path in files.items()}


def is_shared(line: str) -> bool:
    """`fetch.py` also looks at the repository's other files for what would override the URL."""
    return not line.startswith("warning: ") or line.startswith("warning: the environment ")


ADVICE = {
    "or give --tag and where it is.": "or correct its path.",
    ", or give --tag.": ".",
    ", or give --from.": ".",
    "or give --from to fetch them.": "or set VITE_MODEL_URL to its address to fetch them.",
    "Give --from too.": "Set VITE_MODEL_URL to its address.",
    "Check --repo and the tag, and that": "Check the env file, and that",
}
"""What `fetch.py` advises with options that `fetch.mjs` lacks -> what that says."""


def advised(text: str) -> str:
    """A text of `fetch.py` with the advice of `fetch.mjs`."""
    for ours, theirs in ADVICE.items():
        text = text.replace(ours, theirs)
    return text


def neutral(text: str, origin: str) -> str:
    """Without a port, and with one word for the ways in which a connection can end."""
    text = text.replace(origin, "{origin}").replace("fetch.mjs", "fetch.py")
    return re.sub(r"connection reset by peer|an answer that broke off", "a connection that broke off", text)


def questions(case: dict[str, Any], end: End) -> list[tuple[str, ...]]:
    """The requests; where a line breaks it is chance whether the next one can go on, and from where."""
    return end.requests if case.get("progress", True) else [(path,) for path, *_ in end.requests]


@pytest.mark.network
@pytest.mark.parametrize("name", CASES)
def test_both_programs_end_alike(tmp_path: Path, name: str, run_mjs: Program) -> None:
    case = CASES[name]
    must_end = "timeout_s" in case or "twice" in case
    python = [
        replace(end, out=advised(end.out), lines=tuple(map(advised, end.lines)))
        for end in play(tmp_path / "py", case, run_python)
    ]
    node = play(tmp_path / "mjs", case, run_node if must_end else run_mjs)
    for ours, theirs in zip(python, node, strict=True):
        assert (ours.code, theirs.code) == (case["code"], case["code"]), (ours.lines, theirs.lines)
        if case.get("words", True):
            assert theirs.lines[-1:] == ours.lines[-1:]
            assert theirs.out == ours.out
            if case.get("progress", True):
                assert theirs.lines == ours.lines
        assert theirs.files == ours.files
        assert theirs.folders == ours.folders
        assert theirs.local == ours.local
        assert questions(case, theirs) == questions(case, ours)
    for end in (python[-1], node[-1]):
        check(case, end)


def check(case: dict[str, Any], end: End) -> None:
    """Both being alike, are they right?"""
    said = advised(text_of(case.get("says", ""), "{origin}").removesuffix("{sha"))
    if said:
        assert said in end.lines[-1]
        assert end.lines[-1].startswith(("error: ", "warning: "))
    file = case.get("file", "model_fp16.onnx")
    delivered = [file if name == "model_fp16.onnx" else name for name in DELIVERED]
    files = case.get("files", delivered if case["code"] == 0 else [])
    if files != "some":
        assert sorted(end.files) == sorted(files)
    for name in set(end.files) & {file, f"onnx/{file}"} if end.code == 0 else ():
        assert end.files[name] == CONTENTS[file]
    if "text" in case:
        assert end.local == (None if case["text"] is None else text_of(case["text"], ""))
    elif case["code"] == 0 and "local" not in case:
        version = f"1.2.0-{sha256(CONTENTS[file])[:8]}"
        assert end.local == f"VITE_MODEL_URL=models/gpt2/{file}?v={version}\nVITE_MODEL_VERSION=1.2.0\n"
    elif case["code"] != 0:
        assert end.local is None
    if "asked" in case:
        assert len([path for path, *_ in end.requests if path.endswith(f"/{file}")]) == case["asked"]


@pytest.mark.network
def test_two_runs_of_fetch_mjs_at_once_both_end_well(tmp_path: Path) -> None:
    """`vite dev` beside `vite build`; `fetch.py` waits for the other run."""
    case = {"answers": [{"path": "*/model_fp16.onnx", "times": 9, "pause_s": 0.2}]}
    (tmp_path / "web").mkdir()
    with host(case) as place:
        (tmp_path / "web" / ".env.production").write_text(text_of(ENV, place.url))

        def run(_: int) -> Outcome:
            return run_node(tmp_path, ["--env-file", "web/.env.production"], {"PATH": os.environ["PATH"]}, 5.0)

        with ThreadPoolExecutor(2) as pool:
            for outcome in pool.map(run, range(2)):
                assert outcome.code == 0, outcome.err
    assert {name: lying_in(tmp_path / "web/static/models/gpt2")[name] for name in DELIVERED} == {
        name: served({})[name] for name in DELIVERED
    }
    assert not [*tmp_path.rglob("*.partial")]


@pytest.mark.network
def test_fetch_mjs_goes_on_with_what_a_killed_run_left(tmp_path: Path) -> None:
    folder = tmp_path / "web/static/models/gpt2"
    folder.mkdir(parents=True)
    (folder / f".model_fp16.onnx.{sha256(MODEL)[:16]}.999999999-0123abcd.partial").write_bytes(MODEL[:1000])
    with host({}) as place:
        (tmp_path / "web/.env.production").write_text(text_of(ENV, place.url))
        outcome = run_node(tmp_path, ["--env-file", "web/.env.production"], {"PATH": os.environ["PATH"]}, 5.0)
        assert outcome.code == 0, outcome.err
        assert (f"/{TAG}/model_fp16.onnx", "bytes=1000-", "", "") in place.requests()
    assert sorted(lying_in(folder)) == sorted(DELIVERED)
    assert (folder / "model_fp16.onnx").read_bytes() == MODEL
