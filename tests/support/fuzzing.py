"""Seeded broken input for every command: a group makes cases, `run` holds each to what all commands promise.

A case is made from a seed alone, so that one that failed can be made again.
"""

import contextlib
import dataclasses
import functools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import click
import onnx
import torch

import cli
from builders import gpt2_folder, gpt2_state
from commands import assert_refused, call, exported, traced_once, tree
from families import EVERY
from model_release.base.retry import RetryPolicy
from node import run_node
from pages import write_tokenizer
from serving import Asked, Endless, Reply, Server
from small_release import CONTENTS, QUICK, TAG, VERSION, document, release
from workroom import TooLong, at_most

SECONDS, MEMORY_BYTES = 120, 2 << 30
OWN_ENVIRONMENT = ("GITHUB_", "MODEL_RELEASE_", "VITE_", "HF_")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A command on broken input.

    Attributes:
        codes: Exit codes it may end with, besides 0.
        served: A server for the time of the case.
        fetch_mjs: `fetch.mjs` in place of a command.
    """

    command: click.Command = cli.fetch
    arguments: tuple[object, ...]
    codes: tuple[int, ...]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fetch_mjs: bool = False


Group = Callable[[random.Random], contextlib.AbstractContextManager[Case]]


def run(group: Group, seed: int) -> None:
    """Makes a case in the working directory, which must be empty, and holds the command to its promises.

    It ends in time and in the memory it may take, with an exit code for its input and one sentence; when it fails,
    every file is as it was.
    """
    with group(random.Random(seed)) as case, contextlib.ExitStack() as stack:
        clean = {name: text for name, text in os.environ.items() if not name.startswith(OWN_ENVIRONMENT)}
        stack.enter_context(mock.patch.dict(os.environ, {**clean, **case.environment}, clear=True))
        before = tree(Path.cwd())
        try:
            with at_most(seconds=SECONDS, memory_bytes=MEMORY_BYTES):
                if case.fetch_mjs:
                    outcome = run_node(Path.cwd(), [*map(str, case.arguments)], os.environ, QUICK.request_timeout_s)
                else:
                    outcome = call(case.command, *case.arguments)
        except TooLong as failure:
            raise AssertionError(f"it must end, {failure}: {case}") from failure
        assert "Traceback" not in outcome.err, outcome.err
        if outcome.code == 0:
            return
        assert outcome.code in case.codes, (outcome.code, outcome.err[-2000:])
        assert_refused(outcome, int(str(outcome.code)), silent=False)
        assert len(outcome.error) <= 1600, outcome.error
        assert tree(Path.cwd()) == before, "nothing may be left behind or touched"


# -- odd values and bytes

NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    7,
    255,
    65_536,
    10**6,
    2**31,
    2**32,
    2**53,
    2**63,
    10**30,
    -(2**63),
    0.5,
    -1.5,
    1e-300,
    1e308,
]
INJECTION = "a\n::error::injected"
TEXTS = [
    "",
    " ",
    "x",
    "../x",
    "/etc/passwd",
    "\0",
    INJECTION,
    "é€😀",
    "\ud800",
    "-",
    "--help",
    "%s%n",
    "$(id)",
    "1" * 30,
    "x" * 300,
    "x" * 20_000,
    "nan",
]


def odd_value(dice: random.Random, old: object = None) -> Any:
    """A value in another's place."""
    makers: list[Callable[[], Any]] = [
        lambda: dice.choice(NUMBERS),
        lambda: dice.choice(TEXTS),
        lambda: dice.choice([None, True, False, [], {}, float("nan"), float("inf")]),
        lambda: [old] * dice.choice([1, 2, 1000]),
        lambda: {"a": old},
        lambda: str(old),
        lambda: functools.reduce(lambda inner, _: [inner], range(dice.choice([5, 40, 400])), old),
        lambda: old * dice.choice([-1, 0, 2, 10**6]) if isinstance(old, int | float) else old,
        lambda: [*old, *old] if isinstance(old, list) else old,
    ]
    return dice.choice(makers)()


def odd_document(dice: random.Random, value: Any, changes: int) -> Any:
    """A JSON document with a few of its values replaced, removed or added."""
    value = json.loads(json.dumps(value))
    for _ in range(changes):
        owner, key = dice.choice(list(_places(value)))
        kind = dice.random()
        if kind < 0.15:
            del owner[key]
        elif kind < 0.25 and isinstance(owner, dict):
            owner[dice.choice([*TEXTS, "x"])] = odd_value(dice)
        else:
            owner[key] = odd_value(dice, owner[key])
        if not list(_places(value)):
            break
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def odd_bytes(dice: random.Random, content: bytes, *, reach: int | None = None) -> bytes:
    """Bytes with a few changes, most within `reach` of either end."""
    changed = bytearray(content)
    for _ in range(dice.choice([1, 1, 2, 5, 20])):
        size = len(changed)
        if size == 0:
            break
        at = dice.randrange(min(size, reach or size))
        at = size - 1 - at if dice.random() < 0.3 else at
        kind = dice.randrange(6)
        if kind < 3:
            changed[at] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
        elif kind == 3:
            del changed[at : at + dice.choice([1, 4, 100, size])]
        elif kind == 4:
            changed[at:at] = dice.randbytes(dice.choice([1, 8, 100]))
        else:
            changed[at : at + 8] = dice.choice([2**31, 2**40, 2**63, 2**64 - 1]).to_bytes(8, "little")
    return bytes(changed)


def odd_file(dice: random.Random, path: Path) -> None:
    """Puts something in a file's place that is none."""
    path.unlink(missing_ok=True)
    kind = dice.randrange(5)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("/dev/zero")
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(50 << 30)


# -- models


@functools.cache
def _model() -> Path:
    import tempfile

    folder = gpt2_folder(Path(tempfile.mkdtemp()) / "model", layers=3, hidden=16, heads=2, vocab=31, positions=12)
    exported(folder)
    return folder


EXPORT = ("--model-path", "model", "--output", "new/out.onnx")


@contextlib.contextmanager
def configs(dice: random.Random) -> Iterator[Case]:
    """config.json of any family; its weights hold nothing, so that no export is made."""
    from transformers import AutoConfig

    entries = dice.choice(list(EVERY.values()))
    if dice.random() < 0.4:
        defaults = AutoConfig.for_model(entries["model_type"]).to_dict()
        entries = entries | dict(dice.sample(sorted(defaults.items()), 3))
    changed = json.dumps(odd_document(dice, entries, dice.choice([1, 1, 2, 3]))).encode()
    if dice.random() < 0.1:
        changed = odd_bytes(dice, changed)
    Path("model").mkdir()
    Path("model/config.json").write_bytes(changed)
    Path("model/model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    if dice.random() < 0.03:
        odd_file(dice, Path("model/config.json"))
    yield Case(command=cli.export, arguments=EXPORT, codes=(5,))


@contextlib.contextmanager
def safetensors(dice: random.Random) -> Iterator[Case]:
    """model.safetensors, its header above all."""
    shutil.copytree(_model(), "model")
    path = Path("model/model.safetensors")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    kind = dice.random()
    if kind < 0.6:
        header = json.dumps(odd_document(dice, json.loads(content[8 : 8 + length]), dice.choice([1, 2]))).encode()
        content = len(header).to_bytes(8, "little") + header + content[8 + length :]
    elif kind < 0.95:
        content = odd_bytes(dice, content, reach=length)
    path.write_bytes(content)
    if kind >= 0.95:
        odd_file(dice, path)
    with traced_once():
        yield Case(command=cli.export, arguments=EXPORT, codes=(5,))


@functools.cache
def _pickles() -> tuple[bytes, bytes]:
    import io

    state = gpt2_state(json.loads((_model() / "config.json").read_text()))
    made = []
    for is_archive in (True, False):
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=is_archive)
        made.append(file.getvalue())
    return made[0], made[1]


@contextlib.contextmanager
def pickles(dice: random.Random) -> Iterator[Case]:
    """pytorch_model.bin, old and new: its bytes, and the pickle in it."""
    shutil.copytree(_model(), "model")
    Path("model/model.safetensors").unlink()
    content = dice.choice(_pickles())
    at = content.find(b"\x80\x02}")  # Where the tensors are named, in an old file after three small pickles.
    size = content.find(b".PK" if content[:2] == b"PK" else b".\x80\x02]", at)
    if at >= 0 and dice.random() < 0.7:
        flips = bytearray(content)
        for _ in range(dice.choice([1, 1, 3])):
            flips[at + dice.randrange(max(size - at, 1000))] = dice.choice(
                b".()0123RcbQqrtu}]aehsINMKJ\x80\x81\x85\x86\x87\x8a\x8b\x96\xff"
            )
        content = bytes(flips)
    else:
        content = odd_bytes(dice, content, reach=4000)
    Path("model/pytorch_model.bin").write_bytes(content)
    with traced_once():
        yield Case(command=cli.export, arguments=EXPORT, codes=(5,))


@contextlib.contextmanager
def tokenizers(dice: random.Random) -> Iterator[Case]:
    """tokenizer.json, read to calibrate a precision on a text."""
    Path("model.onnx").write_bytes(exported(_model()))
    write_tokenizer(Path("tokenizer.json"))
    document = json.loads(Path("tokenizer.json").read_text())
    document["model"]["vocab"] = {letter: token for letter, token in document["model"]["vocab"].items() if token < 31}
    document["model"]["unk_token"] = dice.choice([None, "!"])
    changed = json.dumps(odd_document(dice, document, dice.choice([1, 1, 2]))).encode()
    Path("tokenizer.json").write_bytes(odd_bytes(dice, changed) if dice.random() < 0.2 else changed)
    Path("text").write_text("a few words, for a few products " * 3)
    options = ("--model", "model.onnx", "--precision", "int8-static", "--output-dir", "new", "--calibration", "text")
    yield Case(command=cli.quantize, arguments=options, codes=(2, 5))


@contextlib.contextmanager
def onnx_files(dice: random.Random) -> Iterator[Case]:
    """model.onnx: bytes of the file, fields of the message, entries of the metadata."""
    content = exported(_model())
    kind = dice.random()
    if kind < 0.45:
        content = odd_bytes(dice, content, reach=dice.choice([len(content), 8000]))
    else:
        model = onnx.load_from_string(content)
        for _ in range(dice.choice([1, 1, 2, 4])):
            _odd_message(dice, model) if kind < 0.85 else _odd_metadata(dice, model)
        content = model.SerializeToString()
    Path("model.onnx").write_bytes(content)
    if kind > 0.98:
        odd_file(dice, Path("model.onnx"))
    if dice.random() < 0.5:
        yield Case(command=cli.verify, arguments=("--model", "model.onnx"), codes=(3,))
    else:
        precision = dice.choice(
            ["fp16", "int8", "int4", "int4-compute", "int8-dynamic", "fp16-compute", "int8-static", "small"]
        )
        options = ("--model", "model.onnx", "--precision", precision, "--output-dir", "new")
        yield Case(command=cli.quantize, arguments=options, codes=(6,))


def _odd_message(dice: random.Random, message: Any) -> None:
    """Changes one field somewhere in a protobuf message."""
    for _ in range(8):
        fields = message.ListFields()
        if not fields:
            return
        field, value = dice.choice(fields)
        parts = list(value) if field.is_repeated else [value]
        if field.message_type is not None and parts and dice.random() < 0.9:
            message = dice.choice(parts)
            continue
        if field.message_type is not None or dice.random() < 0.2:
            message.ClearField(field.name)
        elif field.is_repeated:
            del value[dice.randrange(len(value)) :]
            value.extend(_odd_scalars(dice, parts))
        else:
            setattr(message, field.name, _odd_scalars(dice, [value])[0])
        return


def _odd_scalars(dice: random.Random, old: list[Any]) -> list[Any]:
    kind = type(old[0])
    if kind is int:
        return [dice.choice([0, 1, -1, 2, 7, 16, 2**31 - 1, -5])]
    if kind is float:
        return [dice.choice([0.0, float("nan"), float("inf"), 1e30])]
    if kind is bytes:
        return [odd_bytes(dice, old[0])]
    return [dice.choice(["", "x", "input_ids", "logits", "x" * 300, INJECTION, old[0] + "x"])]


def _odd_metadata(dice: random.Random, model: onnx.ModelProto) -> None:
    entry = dice.choice(model.metadata_props)
    if entry.key.endswith("blueprint") and dice.random() < 0.9:
        entry.value = json.dumps(odd_document(dice, json.loads(entry.value), 1))
    else:
        entry.value = dice.choice([*(text for text in TEXTS if text != "\ud800"), "0-9", "all", "fp16", "1.0.0"])


# -- releases, env files, servers


@contextlib.contextmanager
def releases(dice: random.Random) -> Iterator[Case]:
    """A release's folder: published, fetched from, or what the app is pointed at."""
    files = _odd_release(dice)
    folder = Path("from") / TAG
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for name in dice.sample(sorted(files), 2):
        if dice.random() < 0.1:
            odd_file(dice, folder / name)
    Path("env").write_bytes(b"A=1\n")
    yield dice.choice(
        [
            Case(
                command=cli.publish,
                arguments=("--dist", folder, "--tag", TAG, "--host", "local:to", "--no-env"),
                codes=(7, 8),
            ),
            Case(arguments=("--tag", TAG, "--env-file", "env", "--from", "local:from"), codes=(5, 7, 8)),
            Case(
                command=cli.point,
                arguments=("--tag", TAG, "--host", "local:from", "--env-file", "env"),
                codes=(7, 8),
            ),
        ]
    )


def _odd_release(dice: random.Random) -> dict[str, bytes]:
    """A release of which the manifest, the checksums or a file is odd; most have checksums that fit."""
    small = {name: content[:2000] for name, content in CONTENTS.items()}
    manifest = json.dumps(document(small)).encode()
    kind = dice.random()
    if kind < 0.6:
        manifest = json.dumps(odd_document(dice, document(small), dice.choice([1, 1, 2]))).encode()
    elif kind < 0.75:
        manifest = odd_bytes(dice, manifest)
    files = release(small, manifest)
    lines = files["SHA256SUMS"].decode().splitlines(keepends=True)
    files["SHA256SUMS"] = "".join(sorted(lines, key=lambda line: line[66:])).encode()
    if kind >= 0.75:
        name = dice.choice(["SHA256SUMS", *files])
        files[name] = odd_bytes(dice, files[name])
    return files


ENV_PARTS = [
    "VITE_MODEL_URL",
    "VITE_MODEL_VERSION",
    "=",
    "'",
    '"',
    "`",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "#",
    "$",
    "\\",
    "export ",
    ":",
    "A",
    "1.2.0",
    "{",
    "}",
    "\ufeff",
    "\u2028",
    "\0",
    "é",
    "models/gpt2/model_fp16.onnx?v=" + VERSION,
]


@contextlib.contextmanager
def env_files(dice: random.Random) -> Iterator[Case]:
    """An env file that a fetch reads, or writes."""
    text = "".join(dice.choice(ENV_PARTS) for _ in range(dice.choice([3, 10, 40, 300])))
    if dice.random() < 0.2:
        text = dice.choice(ENV_PARTS) * dice.choice([5_000, 50_000])
    content = text.encode()
    if dice.random() < 0.5:
        content = (
            f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL=models/gpt2/model_fp16.onnx?v={VERSION}\n".encode() + content
        )
    Path("app").mkdir()
    name = dice.choice(["env", "env", "env.local"])
    Path("app/env").write_bytes(b"VITE_MODEL_VERSION=1.2.0\n")
    Path(f"app/{name}").write_bytes(content)
    if dice.random() < 0.1:
        odd_file(dice, Path(f"app/{name}"))
    folder = Path("from") / TAG
    folder.mkdir(parents=True)
    for file, whole in release({file: whole[:2000] for file, whole in CONTENTS.items()}).items():
        (folder / file).write_bytes(whole)
    options: tuple[object, ...] = ("--env-file", "app/env")
    if dice.random() < 0.2:
        yield Case(arguments=options, codes=(2, 5, 7, 9), fetch_mjs=True)
    elif dice.random() < 0.5:
        yield Case(arguments=(*options, "--from", "local:from"), codes=(2, 5, 7, 8, 9))
    else:
        yield Case(arguments=(*options, "--tag", TAG, "--from", "local:from"), codes=(7, 9))


LOCATIONS = [
    "http://[::1",
    "http://",
    "//",
    "\\\\x",
    "http://a:b@c/",
    "javascript:1",
    "http://127.0.0.1:9/x",
    "?",
    "x" * 9000,
    "http://x:99999/",
    "file:///etc/passwd",
    "é",
    "/" + TAG + "/SHA256SUMS",
]


@contextlib.contextmanager
def servers(dice: random.Random) -> Iterator[Case]:
    """A web server that a fetch or a probe asks: statuses, headers, lengths, redirects, bodies without end."""
    files = _odd_release(dice) if dice.random() < 0.3 else release({n: c[:2000] for n, c in CONTENTS.items()})
    seed = dice.randrange(1 << 30)

    def reply(asked: Asked) -> Reply:
        answer = random.Random(f"{seed}{asked.path}")
        content = files.get(asked.path.partition("?")[0].rpartition("/")[2], b"")
        if answer.random() < 0.6:
            return Reply(200 if content else 404, content)
        odd = {
            name: answer.choice([*LOCATIONS, "bytes 0-1/2", "0", "-1", "9" * 30, "gzip", '"x"', "*", "nan"])
            for name in answer.sample(
                [
                    "Location",
                    "Content-Range",
                    "Retry-After",
                    "ETag",
                    "Content-Encoding",
                    "Content-Type",
                    "Access-Control-Allow-Origin",
                    "Set-Cookie",
                    "Date",
                ],
                2,
            )
        }
        odd = {name: text.encode("latin-1", "ignore").decode("latin-1") for name, text in odd.items()}
        return Reply(
            answer.choice([200, 201, 204, 206, 301, 302, 303, 307, 304, 400, 401, 403, 404, 416, 429, 500, 503, 600]),
            odd_bytes(answer, content),
            odd,
            cut=answer.choice([None, None, 0, 100]),
            no_length=answer.random() < 0.2,
        )

    with contextlib.ExitStack() as stack:
        if dice.random() < 0.15:
            beginning = dice.choice([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\nLocation: /x\r\n", b""])
            again = dice.choice([b"x" * 4096, b"a: b\r\n", b"\r\n", b"1\r\nx\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
            more = dice.choice(
                [b"", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n"]
            )
            url = stack.enter_context(Endless(beginning + more, again, pause_s=0.001)).url
        else:
            url = stack.enter_context(Server(reply)).url
        quick = dataclasses.asdict(dataclasses.replace(QUICK, request_timeout_s=0.3, total_timeout_s=2, attempts=2))
        stack.enter_context(mock.patch.object(RetryPolicy.__init__, "__kwdefaults__", quick))
        Path("env").write_text(
            f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL={url}/{TAG}/model_fp16.onnx?v=1.2.0-00000000\n"
        )
        kind = dice.random()
        if kind < 0.3:
            yield Case(command=cli.probe, arguments=(f"{url}/{TAG}/model_fp16.onnx",), codes=(8,))
        elif kind < 0.4:
            yield Case(arguments=("--env-file", "env"), codes=(5, 7, 8), fetch_mjs=True)
        elif kind < 0.6:
            yield Case(arguments=("--env-file", "env"), codes=(5, 7, 8))
        else:
            yield Case(arguments=("--env-file", "env", "--tag", TAG, "--base-url", url), codes=(5, 7, 8))


# -- options and the environment

USAGE, ANY = 2, (1, 2, 3, 5, 6, 7, 8, 9)
COMMANDS: dict[str, tuple[click.Command, tuple[str, ...]]] = {
    "plan": (cli.plan, ("--tag", TAG, "--model", "demo")),
    "fetch": (cli.fetch, ("--tag", TAG, "--env-file", "env", "--from", "local:from")),
    "publish": (cli.publish, ("--dist", "from", "--tag", TAG, "--host", "local:to", "--no-env")),
    "point": (cli.point, ("--tag", TAG, "--host", "local:from", "--env-file", "env")),
    "verify": (cli.verify, ("--model", "nothing.onnx")),
    "quantize": (cli.quantize, ("--model", "nothing.onnx", "--precision", "fp16", "--output-dir", "new")),
    "export": (cli.export, ("--model-path", "nothing")),
    "release": (cli.release, ("--tag", TAG, "--model-path", "nothing", "--host", "local:to", "--no-env")),
}
_AS_ARGUMENT = {0: None, 0xD800: "\udcff"}  # Of what is no text, what the system can hand over.
REACHING = {
    "--model",
    "--revision",
    "--repo",
    "--env-repo",
    "--mirror",
    "--mirror-url",
    "--reference",
    "--base-url",
    "--host",
    "--from",
}
"""Options that may name a server; `servers` and the tests of each are about those."""


@contextlib.contextmanager
def options(dice: random.Random) -> Iterator[Case]:
    """A command's options with odd values, twice, missing or unknown."""
    command, arguments = dice.choice(list(COMMANDS.values()))
    given = list(arguments)
    for _ in range(dice.choice([1, 1, 2, 3])):
        known = [name for each in command.params if isinstance(each, click.Option) for name in each.opts]
        name = dice.choice([*known, "--no-such", "-", "--"])
        if name in REACHING and command is not cli.plan:
            continue
        value = str(odd_value(dice, dice.choice(["1", "fp16", "0,1", "all", "a/b"]))).translate(_AS_ARGUMENT)
        given[dice.randrange(len(given) + 1) : 0] = dice.choice([[name], [name, value], [f"{name}={value}"], [value]])
    yield Case(command=command, arguments=tuple(given), codes=ANY)


@contextlib.contextmanager
def environments(dice: random.Random) -> Iterator[Case]:
    """Variables that commands look at, with odd values."""
    command, arguments = dice.choice([COMMANDS[name] for name in ("plan", "fetch", "publish", "point")])
    names = [
        *(
            "GITHUB_OUTPUT",
            "GITHUB_STEP_SUMMARY",
            "GITHUB_ACTIONS",
            "GITHUB_REPOSITORY",
            "GITHUB_TOKEN",
            "GITHUB_REF_NAME",
        ),
        *(
            "GITHUB_REF_TYPE",
            "GITHUB_API_URL",
            "GITHUB_SERVER_URL",
            "HF_HOME",
            "HF_TOKEN",
            "VITE_MODEL_URL",
            "VITE_MODEL_VERSION",
        ),
        *(
            f"MODEL_RELEASE_{name.removeprefix('--').upper().replace('-', '_')}"
            for each in command.params
            if isinstance(each, click.Option)
            for name in each.opts
            if name not in REACHING
        ),
    ]
    odd = {name: str(odd_value(dice, "1")).translate(_AS_ARGUMENT) for name in dice.sample(names, 3)}
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        if name in odd and "/" in odd[name]:
            odd[name] = "/nowhere/told"
    yield Case(command=command, arguments=arguments, codes=ANY, environment=odd)


GROUPS: dict[str, Group] = {
    "config.json": configs,
    "safetensors": safetensors,
    "pickles": pickles,
    "tokenizers": tokenizers,
    "ONNX files": onnx_files,
    "releases": releases,
    "env files": env_files,
    "options": options,
    "environment": environments,
    "servers": servers,
}
