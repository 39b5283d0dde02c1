"""Careless and hostile input: one sentence, the right exit code, no work done first, nothing left behind."""

import contextlib
import errno
import json
import os
import pickle
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import onnx
import pytest
import torch
from huggingface_hub import constants, hf_api
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import cli
from builders import gpt2_folder, gpt2_state, save_weights
from commands import Outcome, assert_refused, call, finish, start, traced_once, tree
from families import EVERY
from model_release.base.retry import RetryPolicy
from model_release.model.weights import hub
from workroom import TAG, Workshop, at_most

UNFORESEEN, USAGE, CONTRACT, NUMERIC, WEIGHTS, EXPORT, QUANTIZE, MANIFEST, HOST, ENV = 1, 2, 3, 4, 5, 5, 6, 7, 8, 9
QUICK = ("--precision", "fp16", "--delivery", "release")
TOO_LONG = "x" * 300  # Longer than any file system's names.
INJECTION = "a\n::error::injected"  # A workflow command, if it ever started a line.


def shown(text: str) -> str:
    """A test's id for odd text."""
    return ascii(text if len(text) <= 30 else f"{text[:30]}...")


# -- options


# fmt: off
MALFORMED_LAYERS = [
    "", " ", ",", "0,", ",0", "0,,1", "a",
    "0;1", "0 1", "0-", "-", "--", "0--", "1.0", "1e0", "0x1", "+1", "²", "٣", "½",
    "0\n::error::injected", "0\x00", "9" * 21, "-" + "9" * 21, "1" * 5000, "all", "--all-layers",
]
# fmt: on


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("text", MALFORMED_LAYERS, ids=shown)
def test_layers_that_are_no_list_are_refused(workshop: Workshop, text: str) -> None:
    workshop.refuses(
        cli.export, "--model-path", "model", "--layers", text, code=USAGE, says=("layers must be", "Use e.g.")
    )


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("text", ["3", "0,3", "-4", "0-3", "0,1,999999", "-4--1"])
def test_layers_out_of_range_are_refused_with_the_range(workshop: Workshop, text: str) -> None:
    workshop.refuses(cli.export, "--model-path", "model", "--layers", text, code=USAGE, says=("from 0 to 2", "-3"))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("text", ["1-0", "2-1", "-1--2", "0,2-0"])
def test_a_range_of_layers_that_runs_backwards_is_refused(workshop: Workshop, text: str) -> None:
    workshop.refuses(cli.export, "--model-path", "model", "--layers", text, code=USAGE, says=("run upwards",))


EXPORT_OPTIONS = {
    "layers and all layers": (["--layers", "0", "--all-layers"], ["--layers", "--all-layers", "one of them"]),
    "layers without a value": (["--layers"], ["--layers", "argument"]),
    "unknown activation": (["--activations", "bogus"], ["'bogus'", "attn_probs", "mlp_output"]),
    "a tensor's name for an activation": (["--activations", "layer_0_q"], ["'layer_0_q'"]),
    "no activation": (["--activations", ""], ["activations must be"]),
    "an empty name among activations": (["--activations", "q,,v"], ["activations must be"]),
    "an activation in capitals": (["--activations", "Q"], ["'Q'"]),
    "a line break in an activation": (["--activations", INJECTION], ["activations must be"]),
    "logits of the first position": (["--logits", "first"], ["'all', 'last'"]),
    "opset too low": (["--opset", "17"], ["--opset must be from 18 to", "got 17"]),
    "opset of the guide's old exporter": (["--opset", "14"], ["got 14"]),
    "opset too high": (["--opset", "99"], ["got 99"]),
    "opset below zero": (["--opset", "-1"], ["got -1"]),
    "opset with a fraction": (["--opset", "20.0"], ["'20.0'"]),
    "opset beyond 64 bits": (["--opset", "9" * 30], ["--opset"]),
    "two sources": (["--demo"], ["--model-path", "--demo", "one of them"]),
    "three sources": (["--demo", "--model", "gpt2"], ["--model", "one of them"]),
    "revision of a folder": (["--revision", "main"], ["--revision", "Leave it out"]),
    "unknown option": (["--layer", "0"], ["--layer", "--help"]),
    "an argument": (["model.onnx"], ["model.onnx", "--help"]),
    "an argument with a line break": ([INJECTION], ["--help"]),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("options", "says"), EXPORT_OPTIONS.values(), ids=EXPORT_OPTIONS)
def test_export_options_that_cannot_be_meant_are_refused(
    workshop: Workshop, options: list[str], says: list[str]
) -> None:
    workshop.refuses(cli.export, "--model-path", "model", *options, code=USAGE, says=tuple(says))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    "model",
    ["", "../../etc", "/etc/passwd", "a/b/c", "a b", "https://models.example/gpt2", "-", INJECTION, TOO_LONG],
    ids=shown,
)
@pytest.mark.parametrize("command", ["export", "release"])
def test_a_model_that_is_no_id_is_refused_and_nothing_else_fetched(
    workshop: Workshop, model: str, command: str
) -> None:
    options = ["--tag", TAG, "--no-env"] if command == "release" else []
    workshop.refuses(getattr(cli, command), *options, "--model", model, code=USAGE, says=("model must be",))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("revision", ["", "a b", "../main", "main\n::error::injected", TOO_LONG], ids=shown)
def test_a_revision_that_is_none_is_refused(workshop: Workshop, revision: str) -> None:
    workshop.refuses(cli.export, "--model", "gpt2", "--revision", revision, code=USAGE, says=("revision must be",))


PRECISIONS = ["", ",", "bogus", "fp32", "FP16", "fp16,,int8-dynamic", "int8_dynamic", INJECTION]


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("text", PRECISIONS, ids=shown)
def test_an_unknown_precision_is_refused_with_the_known_ones(workshop: Workshop, text: str) -> None:
    says = ("precision must be", "fp16", "int8-dynamic")
    quantize = ("--model", "model.onnx", "--output-dir", "out", "--precision", text)
    workshop.refuses(cli.quantize, *quantize, code=USAGE, says=says)
    workshop.refuses(cli.release, *workshop.release("--precision", text), code=USAGE, says=says)


@pytest.mark.parametrize("missing", ["--model", "--precision", "--output-dir"])
def test_a_quantize_option_that_is_missing_is_named(workshop: Workshop, missing: str) -> None:
    given = {"--model": "model.onnx", "--precision": "fp16", "--output-dir": "out"}
    options = [text for option, value in given.items() if option != missing for text in (option, value)]
    workshop.refuses(cli.quantize, *options, code=USAGE, says=(f"'{missing}'", "--help"))


def test_verify_options_that_cannot_be_meant_are_refused(workshop: Workshop) -> None:
    workshop.refuses(cli.verify, code=USAGE, says=("'--model'", "--help"))
    workshop.refuses(cli.verify, "--model", "model.onnx", "--format", "xml", code=USAGE, says=("'text', 'json'",))


# -- weights


def rewrite_config(**entries: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return damage


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return damage


def rewrite_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return damage


def folder_in_place_of(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def sharded(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        save_weights(folder, gpt2_state(json.loads((folder / "config.json").read_text())), format="sharded")
        change(folder)

    return damage


def name_shards(name: str) -> Callable[[Path], object]:
    index = "model.safetensors.index.json"
    return lambda folder: (folder / index).write_text(json.dumps({"weight_map": {"transformer.wte.weight": name}}))


def in_a_pickle(content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)

    return damage


class _Evil:
    """Makes a folder when it is unpickled without care."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("the-code-ran",)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


WEIGHTS_DAMAGE: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no config": (remove("config.json"), ["config.json", "Copy it"]),
    "a folder for a config": (folder_in_place_of("config.json"), ["config.json"]),
    "an empty config": (rewrite("config.json", lambda _: b""), ["config.json must be a JSON object"]),
    "half a config": (rewrite("config.json", half), ["config.json must be a JSON object"]),
    "a list for a config": (rewrite("config.json", lambda _: b"[1]"), ["config.json must be a JSON object"]),
    "a config that is no text": (rewrite("config.json", lambda _: b"\xff\xfe{}"), ["config.json must be"]),
    "a config nested too deep": (rewrite("config.json", lambda _: b"[" * 100_000), ["config.json must be"]),
    "a config of a megabyte": (rewrite("config.json", lambda text: text + b" " * 2**20), ["config.json", "bytes"]),
    "another architecture": (rewrite_config(model_type="bert"), ["'bert'", "must be one of: gpt2, "]),
    "an architecture with a line break": (rewrite_config(model_type=INJECTION), ["must be one of: gpt2, "]),
    "no architecture": (rewrite_config(model_type=None), ["must be one of: gpt2, "]),
    "another head": (rewrite_config(architectures=["GPT2ForSequenceClassification"]), ["GPT2LMHeadModel"]),
    "code to fetch": (rewrite_config(auto_map={"AutoModel": "someone/else--code.Model"}), ["auto_map", "never"]),
    "code to choose": (rewrite_config(_attn_implementation="someone/kernel"), ["_attn_implementation", "Remove"]),
    "codes for weights": (rewrite_config(quantization_config={"bits": 4}), ["quantization_config"]),
    "a config of seven levels": (rewrite_config(x=[[[[[[[1]]]]]]]), ["6 levels"]),
    "a number beyond all sense": (rewrite_config(x=10**40), ["1e18"]),
    "a family that does not work": (rewrite_config(model_type="mpt"), ["mpt is not", "position bias"]),
    "cross attention": (rewrite_config(add_cross_attention=True), ["add_cross_attention"]),
    "a number in quotes": (rewrite_config(n_embd="16"), ["n_embd", "'16'"]),
    "a size with a fraction": (rewrite_config(n_layer=3.0), ["n_layer"]),
    "a negative size": (rewrite_config(vocab_size=-1), ["vocab_size", "-1"]),
    "a billion layers": (rewrite_config(n_layer=10**9), ["n_layer", "1000000000"]),
    "heads that do not divide": (rewrite_config(n_head=3), ["n_head", "multiple"]),
    "a width said twice, differently": (rewrite_config(hidden_size=99), ["hidden_size", "n_embd"]),
    "positions said twice, differently": (rewrite_config(max_position_embeddings=5), ["n_positions"]),
    "a config of more layers": (rewrite_config(n_layer=4), ["transformer.h.3.", "missing"]),
    "a config of a larger vocabulary": (rewrite_config(vocab_size=32), ["transformer.wte.weight", "[32, 16]"]),
    "no weights": (remove("model.safetensors"), ["model.safetensors", "pytorch_model.bin", "Copy"]),
    "a folder for weights": (folder_in_place_of("model.safetensors"), ["model.safetensors"]),
    "empty weights": (rewrite("model.safetensors", lambda _: b""), ["model.safetensors", "whole"]),
    "seven bytes of weights": (rewrite("model.safetensors", lambda _: b"1234567"), ["model.safetensors", "whole"]),
    "half the weights": (rewrite("model.safetensors", half), ["model.safetensors", "whole"]),
    "weights without their last byte": (rewrite("model.safetensors", lambda c: c[:-1]), ["model.safetensors"]),
    "weights with a byte too many": (rewrite("model.safetensors", lambda c: c + b"\0"), ["model.safetensors"]),
    "a header of exabytes": (rewrite("model.safetensors", lambda c: b"\xff" * 8 + c[8:]), ["model.safetensors"]),
    "a web page for weights": (rewrite("model.safetensors", lambda _: b"<html>" * 99), ["model.safetensors"]),
    "a pointer of large-file storage": (
        rewrite("model.safetensors", lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        ["model.safetensors"],
    ),
    "a missing tensor": (
        rewrite_tensors(lambda state: state.pop("transformer.ln_f.bias")),
        ["transformer.ln_f.bias", "missing"],
    ),
    "a further tensor": (
        rewrite_tensors(lambda state: state.update({"adapter.weight": torch.zeros(1)})),
        ["adapter.weight"],
    ),
    "a tensor of integers": (
        rewrite_tensors(lambda state: state.update({"transformer.ln_f.bias": torch.zeros(16, dtype=torch.int8)})),
        ["transformer.ln_f.bias", "I8"],
    ),
    "a missing shard": (sharded(remove("model-00002-of-00002.safetensors")), ["model-00002-of-00002.safetensors"]),
    "a shard outside the folder": (sharded(name_shards("../model.safetensors")), ["'../model.safetensors'"]),
    "an absolute shard": (sharded(name_shards("/etc/passwd")), ["'/etc/passwd'"]),
    "a broken index": (sharded(rewrite("model.safetensors.index.json", half)), ["index.json"]),
    "an empty pickle": (in_a_pickle(b""), ["pytorch_model.bin"]),
    "a pickle of text": (in_a_pickle(pickle.dumps("text")), ["pytorch_model.bin"]),
    "half an archive": (in_a_pickle(b"PK\x03\x04" + bytes(99)), ["pytorch_model.bin"]),
    "a pickle that runs code": (
        in_a_pickle(pickle.dumps({"transformer.wte.weight": _Evil()}, protocol=2)),
        ["pytorch_model.bin", "nothing in it was run", "safetensors"],
    ),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("damage", "says"), WEIGHTS_DAMAGE.values(), ids=WEIGHTS_DAMAGE)
def test_weights_that_are_broken_are_refused(
    workshop: Workshop, damage: Callable[[Path], None], says: list[str]
) -> None:
    damage(workshop.root / "model")
    workshop.refuses(cli.export, "--model-path", "model", "--output", "new/out.onnx", code=WEIGHTS, says=tuple(says))
    assert not Path("the-code-ran").exists()


@pytest.mark.usefixtures("idle")
def test_code_inside_a_real_archive_does_not_run(workshop: Workshop) -> None:
    torch.save({"transformer.wte.weight": _Evil()}, workshop.root / "model/pytorch_model.bin")
    (workshop.root / "model/model.safetensors").unlink()
    workshop.refuses(cli.export, "--model-path", "model", code=WEIGHTS, says=("nothing in it was run",))
    assert not Path("the-code-ran").exists()


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    "folder", ["nowhere", "model.onnx", "model/config.json", "loop", TOO_LONG, "a/" * 3000, INJECTION], ids=shown
)
def test_a_model_folder_that_is_none_is_refused(workshop: Workshop, folder: str) -> None:
    Path("loop").symlink_to("loop")
    workshop.refuses(cli.export, "--model-path", folder, code=WEIGHTS, says=("folder must exist", "Give a folder"))
    workshop.refuses(cli.release, *workshop.release("--model-path", folder), code=WEIGHTS, says=("folder must exist",))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("command", ["export", "release"])
def test_an_empty_model_path_does_not_mean_the_working_directory(workshop: Workshop, command: str) -> None:
    for path in (workshop.root / "model").iterdir():
        shutil.copyfile(path, path.name)  # With weights right here, it would be taken for them.
    arguments = workshop.release("--model-path", "") if command == "release" else ("--model-path", "")
    workshop.refuses(getattr(cli, command), *arguments, code=USAGE, says=("--model-path",))


ODD_ENTRIES: dict[str, Any] = {
    "output_attentions": True,
    "return_dict": False,
    "id2label": ["x"],
    "use_return_dict": 1,
    "rope_scaling": {"x": 1},
}


@pytest.mark.slow
def test_config_entries_that_play_no_part_in_the_numbers_stop_nothing(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path / "model", layers=1, hidden=4, **ODD_ENTRIES)
    outcome = call(cli.export, "--model-path", folder, "--output", tmp_path / "out.onnx")
    assert (outcome.code, (tmp_path / "out.onnx").is_file()) == (0, True), outcome.err


REFUSED_CONFIGS: dict[str, dict[str, object]] = {
    "an unknown activation function": {"activation_function": "bogus"},
    "a list for an activation function": {"activation_function": ["gelu"]},
    "text for an epsilon": {"layer_norm_epsilon": "x"},
    "no epsilon": {"layer_norm_epsilon": None},
    "text for a switch": {"scale_attn_weights": "x"},
}
ODD_FAMILIES: dict[str, dict[str, object]] = {
    "a scale of no size": EVERY["gemma3_text"] | {"query_pre_attn_scalar": 0},
    "positions that are extended from one": EVERY["phi3, longrope"] | {"original_max_position_embeddings": 1},
    "an empty list of layers": EVERY["smollm3"] | {"no_rope_layers": []},
    "experts in every layer of none": EVERY["qwen3_moe"] | {"decoder_sparse_step": 0},
    "a billion kinds of attention": EVERY["gpt_neo"] | {"attention_types": [[["global"], 10**9]]},
    "rotations that do not fit a head": EVERY["gptj"] | {"rotary_dim": 1000},
}


@pytest.mark.parametrize("entries", ODD_FAMILIES.values(), ids=ODD_FAMILIES)
def test_a_config_of_another_family_that_no_model_can_be_built_from_is_refused(
    workshop: Workshop, entries: dict[str, Any]
) -> None:
    (workshop.root / "model/config.json").write_text(json.dumps(entries))
    with at_most(seconds=60, memory_bytes=2**30):
        workshop.refuses(cli.export, "--model-path", "model", code=EXPORT)


@pytest.mark.parametrize("entries", REFUSED_CONFIGS.values(), ids=REFUSED_CONFIGS)
def test_a_config_that_no_model_can_be_built_from_is_refused(workshop: Workshop, entries: dict[str, Any]) -> None:
    rewrite_config(**entries)(workshop.root / "model")
    arguments = ("--model-path", "model", "--output", "new/folder/out.onnx")
    workshop.refuses(cli.export, *arguments, code=EXPORT, says=("config.json", "Correct the config"))


# -- files to write


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


OUTPUTS: dict[str, tuple[str, list[str]]] = {
    "a folder": ("app", ["app", "directory"]),
    "the working directory": ("", ["--output"]),
    "below a file": ("model.onnx/out.onnx", ["Not a directory"]),
    "below a folder that cannot be": ("/proc/no/out.onnx", ["/proc/no"]),
    "a name too long": (f"{TOO_LONG}.onnx", ["too long"]),
    "a path too long": ("y/" * 3000 + "out.onnx", ["too long"]),
    "a link to itself": ("loop", ["loop"]),
    "below a link to itself": ("loop/out.onnx", ["loop"]),
    "a device or pipe": ("pipe", ["pipe", "file"]),
    "its own weights": ("model/model.safetensors", ["model.safetensors"]),
    "its own config": ("model/config.json", ["config.json"]),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("output", "says"), OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    workshop: Workshop, output: str, says: list[str]
) -> None:
    Path("loop").symlink_to("loop")
    make_fifo(Path("pipe"))
    before = tree(workshop.root)
    outcome = call(cli.export, "--model-path", "model", "--output", output)
    assert tree(workshop.root) == before
    assert_refused(outcome, USAGE if output == "" else EXPORT, says)


QUANTIZE_OUTPUTS = {
    "a file": ("model.onnx", ["Not a directory"]),
    "a name too long": (TOO_LONG, ["too long"]),
    "a folder under the file's name": ("taken", ["model_fp16.onnx", "directory"]),
    "below a folder that cannot be": ("/proc/no", ["/proc/no"]),
}


@pytest.mark.parametrize(("output", "says"), QUANTIZE_OUTPUTS.values(), ids=QUANTIZE_OUTPUTS)
def test_a_folder_that_cannot_take_precisions_is_refused(workshop: Workshop, output: str, says: list[str]) -> None:
    Path("taken/model_fp16.onnx").mkdir(parents=True)
    arguments = ("--model", "model.onnx", "--precision", "fp16", "--output-dir", output)
    workshop.refuses(cli.quantize, *arguments, code=QUANTIZE, says=tuple(says))


def test_a_precision_never_replaces_the_model_it_is_made_from(workshop: Workshop) -> None:
    shutil.copyfile("model.onnx", "model_fp16.onnx")
    arguments = ("--model", "model_fp16.onnx", "--precision", "fp16", "--output-dir", ".")
    workshop.refuses(cli.quantize, *arguments, code=QUANTIZE, says=("model_fp16.onnx", "--output-dir"))


@contextlib.contextmanager
def files_of_at_most(limit_bytes: int) -> Iterator[None]:
    """The operating system refuses to let any file of this process grow further, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_no_part_of_an_export(workshop: Workshop) -> None:
    with files_of_at_most(8192):
        workshop.refuses(
            cli.export, "--model-path", "model", "--output", "new/out.onnx", code=EXPORT, says=("out.onnx", "space")
        )


def test_a_disk_that_fills_up_leaves_the_old_export(workshop: Workshop) -> None:
    with files_of_at_most(8192):
        workshop.refuses(cli.export, "--model-path", "model", "--output", "model.onnx", code=EXPORT, says=("space",))


@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic"])
def test_a_disk_that_fills_up_leaves_no_part_of_a_precision(workshop: Workshop, precision: str) -> None:
    arguments = ("--model", "model.onnx", "--precision", precision, "--output-dir", "new/folder")
    with files_of_at_most(8192):
        workshop.refuses(cli.quantize, *arguments, code=QUANTIZE, says=("space",))


def test_a_disk_that_fills_up_leaves_no_part_of_a_release(workshop: Workshop) -> None:
    with files_of_at_most(8192):
        workshop.refuses(cli.release, *workshop.release(), code=EXPORT, says=("space",))


def test_no_room_for_temporary_files_is_said_in_one_sentence(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(workshop.root / "nowhere"))
    workshop.refuses(cli.release, *workshop.release(), code=UNFORESEEN, says=("Free space",))


# -- model files


def without_metadata(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    return bytes(model.SerializeToString())


def with_metadata(**values: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        for entry in model.metadata_props:
            entry.value = values.get(entry.key.rpartition(".")[2], entry.value)
        return bytes(model.SerializeToString())

    return change


def with_blueprint(**sizes: object) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        props = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
        return with_metadata(blueprint=json.dumps(json.loads(props["model_release.blueprint"]) | sizes))(content)

    return change


def pointing_elsewhere(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return bytes(model.SerializeToString())


def with_tensor_type(data_type: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 1024).data_type = data_type
        return bytes(model.SerializeToString())

    return change


def foreign_model(_: bytes) -> bytes:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    return bytes(onnx.helper.make_model(graph).SerializeToString())


MODEL_DAMAGE: dict[str, tuple[Callable[[bytes], bytes], list[str]]] = {
    "empty": (lambda _: b"", ["must be an ONNX file"]),
    "text": (lambda _: b"hello, world\n" * 99, ["must be an ONNX file"]),
    "a pointer of large-file storage": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", ["ONNX file"]),
    "zeros": (lambda _: bytes(4096), ["must be an ONNX file"]),
    "half": (half, ["must be an ONNX file", "truncated"]),
    "without its last byte": (lambda content: content[:-1], ["must be an ONNX file"]),
    "no metadata": (without_metadata, ["META01", "metadata", "export.py"]),
    "another program's": (foreign_model, ["META01", "export.py"]),
    "tensors in other files": (pointing_elsewhere, ["another file"]),
    "a tensor of no type": (with_tensor_type(0), ["Export it again"]),
    "a tensor of an unknown type": (with_tensor_type(999), ["Export it again"]),
    "a tensor of strings": (with_tensor_type(8), ["Export it again"]),
    "an unknown precision": (with_metadata(precision="fp1"), ["META01", "'fp1'"]),
    "no layers": (with_metadata(layers=""), ["META01", "layers"]),
    "layers out of range": (with_metadata(layers="0-9"), ["META01", "layers"]),
    "an unknown activation": (with_metadata(activations="soul"), ["META01", "'soul'"]),
    "no weights' hash": (with_metadata(weights_sha256=""), ["META01", "weights_sha256"]),
    "a line break in its source": (with_metadata(source=INJECTION), ["META01", "source"]),
    "a blueprint that is no JSON": (with_metadata(blueprint="{"), ["META01", "blueprint"]),
    "a blueprint that is a list": (with_metadata(blueprint="[1]"), ["META01", "blueprint"]),
    "a blueprint nested too deep": (with_metadata(blueprint="[" * 100_000), ["META01", "blueprint"]),
    "a blueprint with a size too many": (with_blueprint(depth=1), ["META01", "blueprint"]),
    "a blueprint with a negative size": (with_blueprint(hidden=-1), ["META01", "blueprint"]),
    "a blueprint of a kind it does not know": (with_blueprint(pattern="AB"), ["META01", "pattern"]),
    "a blueprint of no token table": (with_blueprint(first=[]), ["META01", "token table"]),
    "logits of the first position": (with_metadata(logits="first"), ["META01", "logits"]),
}


@pytest.mark.parametrize(("damage", "says"), MODEL_DAMAGE.values(), ids=MODEL_DAMAGE)
def test_a_file_that_is_no_model_of_ours_is_refused(
    workshop: Workshop, damage: Callable[[bytes], bytes], says: list[str]
) -> None:
    path = workshop.root / "model.onnx"
    path.write_bytes(damage(path.read_bytes()))
    workshop.refuses(cli.verify, "--model", "model.onnx", code=CONTRACT, says=tuple(says))
    quantize = ("--model", "model.onnx", "--precision", "fp16,int8-dynamic", "--output-dir", "new")
    workshop.refuses(cli.quantize, *quantize, code=QUANTIZE, says=tuple(says))


LYING_SHAPES = {
    "a context of a billion tokens": {"context": 2**30},
    "a million layers": {"pattern": "A" * 2**20},
    "a vocabulary of two billion": {"vocab": 2**31 - 1},
    "a width of two billion": {"hidden": 2**31 - 1},
    "another number of layers": {"pattern": "AAAA"},
    "a longer context": {"context": 13},
}


@pytest.mark.parametrize("sizes", LYING_SHAPES.values(), ids=LYING_SHAPES)
def test_a_blueprint_that_the_file_has_not_is_refused_without_asking_for_its_memory(
    workshop: Workshop, sizes: dict[str, object]
) -> None:
    path = workshop.root / "model.onnx"
    path.write_bytes(with_blueprint(**sizes)(path.read_bytes()))
    with at_most(seconds=10, memory_bytes=2**30):
        workshop.refuses(cli.verify, "--model", "model.onnx", code=CONTRACT, says=("model.onnx",), silent=False)


def test_a_model_file_that_is_not_there_must_exist(workshop: Workshop) -> None:
    says = ("nowhere.onnx must exist, got no such file.",)
    workshop.refuses(cli.verify, "--model", "nowhere.onnx", code=CONTRACT, says=says)
    arguments = ("--model", "nowhere.onnx", "--precision", "fp16", "--output-dir", "new")
    workshop.refuses(cli.quantize, *arguments, code=QUANTIZE, says=says)


@pytest.mark.parametrize("name", ["app", f"{TOO_LONG}.onnx", "model/config.json"], ids=shown)
def test_a_path_that_is_no_model_file_is_refused(workshop: Workshop, name: str) -> None:
    workshop.refuses(cli.verify, "--model", name, code=CONTRACT, says=("must be an ONNX file",))
    arguments = ("--model", name, "--precision", "fp16", "--output-dir", "new")
    workshop.refuses(cli.quantize, *arguments, code=QUANTIZE, says=("must be an ONNX file",))


def test_a_model_that_is_quantized_already_is_not_quantized_again(workshop: Workshop) -> None:
    assert call(cli.quantize, "--model", "model.onnx", "--precision", "fp16", "--output-dir", ".").code == 0
    arguments = ("--model", "model_fp16.onnx", "--precision", "int8-dynamic", "--output-dir", "new")
    workshop.refuses(cli.quantize, *arguments, code=QUANTIZE, says=("must be an fp32 model, got fp16", "export.py"))


OUTLIERS = {
    "too large for fp16, in a matrix": ("transformer.h.0.attn.c_attn.weight", 1e5, "fp16"),
    "too large for fp16, in a vector": ("transformer.ln_f.bias", 1e5, "fp16"),
    "not a number, in a matrix": ("transformer.wte.weight", float("nan"), "int8-dynamic"),
    "not a number, in a small matrix": ("transformer.wpe.weight", float("nan"), "int8-dynamic"),
    "not a number, in a vector": ("transformer.ln_f.bias", float("nan"), "fp16"),
    "infinite, in a table": ("transformer.wte.weight", float("inf"), "int8-dynamic"),
}


@pytest.mark.parametrize(("name", "value", "precision"), OUTLIERS.values(), ids=OUTLIERS)
def test_a_weight_that_a_precision_cannot_hold_is_refused_by_its_name(
    workshop: Workshop, name: str, value: float, precision: str
) -> None:
    model = onnx.load(workshop.root / "model.onnx")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = value
    tensor.raw_data = values.tobytes()
    onnx.save(model, workshop.root / "model.onnx")
    arguments = ("--model", "model.onnx", "--precision", precision, "--output-dir", "new")
    workshop.refuses(cli.quantize, *arguments, code=QUANTIZE, says=(name, "must"))


@pytest.mark.slow
def test_damaged_bytes_never_end_in_a_traceback(workshop: Workshop) -> None:
    content = (workshop.root / "model.onnx").read_bytes()
    dice = random.Random(7)
    kept = len(tree(workshop.root))
    for _ in range(60):
        damaged = bytearray(content)
        # The graph is at the start, the metadata at either end; weights fill what is between.
        reach = dice.choice([len(content), 6000])
        for _ in range(dice.choice([1, 2, 5])):
            damaged[dice.choice([1, -1]) * dice.randrange(reach)] = dice.randrange(256)
        (workshop.root / "model.onnx").write_bytes(damaged)
        verified = call(cli.verify, "--model", "model.onnx")
        if verified.code != 0:
            assert_refused(verified, CONTRACT, silent=False)
        quantized = call(
            cli.quantize, "--model", "model.onnx", "--precision", "fp16,int8-dynamic", "--output-dir", "new"
        )
        if quantized.code != 0:
            assert_refused(quantized, QUANTIZE, silent=False)
        shutil.rmtree("new", ignore_errors=True)
        assert len(tree(workshop.root)) == kept


# -- references


@pytest.mark.parametrize("reference", [TOO_LONG, "", "a b", INJECTION], ids=shown)
def test_a_reference_that_is_no_folder_and_no_id_is_refused(workshop: Workshop, reference: str) -> None:
    arguments = ("--model", "model.onnx", "--reference", reference)
    workshop.refuses(cli.verify, *arguments, code=USAGE, says=("model must be",))


@pytest.mark.parametrize("reference", ["./nowhere", "/no/such/folder", "model.onnx"])
def test_a_reference_that_means_a_folder_which_is_none_is_refused(workshop: Workshop, reference: str) -> None:
    arguments = ("--model", "model.onnx", "--reference", reference)
    workshop.refuses(cli.verify, *arguments, code=WEIGHTS, says=("folder must exist",))


def test_a_reference_of_another_shape_is_refused_with_both_shapes(workshop: Workshop) -> None:
    gpt2_folder(workshop.root / "other", layers=1)
    arguments = ("--model", "model.onnx", "--reference", "other")
    workshop.refuses(cli.verify, *arguments, code=USAGE, says=("'layers': 3", "'layers': 1", "Give the weights"))


def test_a_reference_with_other_numbers_is_a_numeric_mismatch(workshop: Workshop) -> None:
    gpt2_folder(workshop.root / "other", layers=3, seed=1)
    arguments = ("--model", "model.onnx", "--reference", "other")
    workshop.refuses(cli.verify, *arguments, code=NUMERIC, says=("NUM01", "atol"), silent=False)


# -- releases


# fmt: off
TAGS = [
    "", " ", "v1.0.0", "1.0.0", "model-v1", "model-v1.0", "model-v01.0.0", "model-v1.0.0+build", "model-v1.0.0-",
    "Model-v1.0.0",
    "model-v1.0.0 ", "model-v1.0.0\n", "model-v1.0.0\n::error::injected", "../model-v1.0.0", "model-v1.0.0/../x",
    "model-v1.0.0.lock", "model-v１.0.0", "model-v1.0.0-é", "model-v" + "9" * 200 + ".0.0", "--help-me",
]
# fmt: on


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("tag", TAGS, ids=shown)
def test_a_tag_that_is_no_version_is_refused(workshop: Workshop, tag: str) -> None:
    workshop.refuses(cli.release, *workshop.release("--tag", tag), code=USAGE, says=("tag must be", "model-v1.0.0"))


RELEASE_OPTIONS = {
    "no host": (["--host", ""], ["--host must be local:DIR"]),
    "a host without a folder": (["--host", "local:"], ["--host must be local:DIR"]),
    "a host without a kind": (["--host", "releases"], ["--host must be local:DIR"]),
    "an unknown host": (["--host", "s3:bucket"], ["--host must be local:DIR", "'s3:bucket'"]),
    "a host with a line break": (["--host", INJECTION], ["--host must be local:DIR"]),
    "a negative threshold": (["--size-threshold", "-1"], ["--size-threshold", "-1"]),
    "a threshold that is no number": (["--size-threshold", "nan"], ["--size-threshold"]),
    "an endless threshold": (["--size-threshold", "inf"], ["--size-threshold"]),
    "a threshold with a unit": (["--size-threshold", "50MB"], ["'50MB'"]),
    "an unknown delivery": (["--delivery", "cdn"], ["'git', 'release'"]),
    "an app's precision that is not made": (
        ["--precision", "fp16", "--app-precision", "int8-dynamic"],
        ["--precision"],
    ),
    "an unknown app's precision": (["--app-precision", "fp64"], ["--app-precision", "'fp64'"]),
    "an empty app's precision": (["--app-precision", ""], ["--app-precision"]),
    "git over the threshold": (["--delivery", "git", "--size-threshold", "0"], ["--delivery git", "0 MB"]),
    "a base URL of code": (["--base-url", "javascript:alert(1)"], ["--base-url"]),
    "a base URL that is a path": (["--base-url", "/models"], ["--base-url"]),
    "a base URL with a space": (["--base-url", "https://models.example/a b"], ["--base-url"]),
    "a base URL with a query": (["--base-url", "https://models.example/?a=1"], ["--base-url"]),
    "a base URL with a fragment": (["--base-url", "https://models.example/#a"], ["--base-url"]),
    "a base URL with a command": (["--base-url", "https://models.example/$(id)"], ["--base-url"]),
    "a base URL with a second line": (["--base-url", "https://models.example\nEVIL=1"], ["--base-url"]),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("options", "says"), RELEASE_OPTIONS.values(), ids=RELEASE_OPTIONS)
def test_release_options_that_cannot_be_meant_are_refused_before_the_work(
    workshop: Workshop, options: list[str], says: list[str]
) -> None:
    workshop.refuses(cli.release, *workshop.release(*options), code=USAGE, says=tuple(says))


def host_is_a_file() -> None:
    Path("releases").write_text("")


def tag_is_a_file() -> None:
    Path("releases").mkdir()
    Path("releases", TAG).write_text("")


def host_is_read_only() -> None:
    Path("releases").mkdir(mode=0o555)


def host_is_below_a_file() -> None:
    Path("releases").symlink_to("model.onnx/releases")


def host_is_a_link_to_itself() -> None:
    Path("releases").symlink_to("releases")


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    "damage",
    [host_is_a_file, tag_is_a_file, host_is_read_only, host_is_below_a_file, host_is_a_link_to_itself],
    ids=lambda damage: damage.__name__,
)
def test_a_folder_that_cannot_hold_releases_is_refused_before_the_work(
    workshop: Workshop, damage: Callable[[], None]
) -> None:
    damage()
    workshop.refuses(cli.release, *workshop.release(), code=HOST, says=("releases",))


@pytest.mark.usefixtures("idle")
def test_a_host_folder_with_a_name_too_long_is_refused(workshop: Workshop) -> None:
    arguments = workshop.release("--host", f"local:{TOO_LONG}")
    workshop.refuses(cli.release, *arguments, code=HOST, says=("too long",))
    workshop.refuses(cli.release, *arguments, "--dry-run", code=HOST, says=("too long",))


def no_env_file() -> None:
    Path("app/env").unlink()


def env_is_a_folder() -> None:
    no_env_file()
    Path("app/env").mkdir()


def env_is_read_only() -> None:
    Path("app/env").chmod(0o444)


def env_folder_is_read_only() -> None:
    Path("app").chmod(0o555)


def env_has_our_key_twice() -> None:
    Path("app/env").write_text("VITE_MODEL_URL=a\n# c\nVITE_MODEL_URL=b\n")


def env_breaks_our_line() -> None:
    Path("app/env").write_text("VITE_MODEL_VERSION=\n'1'\n")


def env_is_a_pipe() -> None:
    no_env_file()
    make_fifo(Path("app/env"))


ENV_DAMAGE = {
    no_env_file: ["must exist", "--create-env-file"],
    env_is_a_folder: ["app/env", "directory"],
    env_is_read_only: ["app/env must be writable"],
    env_folder_is_read_only: ["app/env must be writable"],
    env_has_our_key_twice: ["VITE_MODEL_URL must be assigned once", "lines 1, 3"],
    env_breaks_our_line: ["VITE_MODEL_VERSION must share a line"],
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("damage", "says"), ENV_DAMAGE.items(), ids=[damage.__name__ for damage in ENV_DAMAGE])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["for real", "dry"])
def test_an_env_file_that_cannot_be_edited_is_refused_before_the_work(
    workshop: Workshop, damage: Callable[[], None], says: list[str], dry: list[str]
) -> None:
    damage()
    workshop.refuses(cli.release, *workshop.release(*dry), code=ENV, says=tuple(says))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("path", [TOO_LONG, "model.onnx/env", "app"], ids=shown)
@pytest.mark.parametrize("create", [[], ["--create-env-file"]], ids=["there", "to be made"])
def test_a_path_that_can_hold_no_env_file_is_refused_before_the_work(
    workshop: Workshop, path: str, create: list[str]
) -> None:
    workshop.refuses(cli.release, *workshop.release("--env-file", path, *create), code=ENV, says=("must be",))


@pytest.mark.usefixtures("idle")
def test_an_env_file_that_is_a_pipe_is_refused_and_not_waited_for(workshop: Workshop) -> None:
    env_is_a_pipe()
    with at_most(seconds=3):
        workshop.refuses(cli.release, *workshop.release(), code=ENV, says=("app/env",))


@pytest.mark.usefixtures("idle")
def test_a_static_folder_that_is_a_file_is_refused_before_the_release(workshop: Workshop) -> None:
    arguments = workshop.release("--static-dir", "model.onnx")
    workshop.refuses(cli.release, *arguments, code=HOST, says=("model.onnx",))


def tokenizer_with(ids: int) -> Callable[[Path], None]:
    """A tokenizer whose first two words are of the text, and whose other ids never occur in it."""

    def damage(folder: Path) -> None:
        tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "the": 1} | {f"word{i}": i for i in range(2, ids)}, "[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(folder / "tokenizer.json"))

    return damage


def tokenizer_of(content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "tokenizer.json").write_bytes(content)

    return damage


def tokenizer_of_another_model(folder: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "the": 1000}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


TOKENIZERS = {
    "empty": (tokenizer_of(b""), ["must be a tokenizer"]),
    "half": (tokenizer_of(b'{"version": "1.0", "model": {'), ["must be a tokenizer"]),
    "no text": (tokenizer_of(b"\xff\xfe\xff"), ["must be a tokenizer"]),
    "another JSON": (tokenizer_of(b'{"hello": "world"}'), ["must be a tokenizer"]),
    "of another model": (tokenizer_of_another_model, ["must be this model's tokenizer", "1000"]),
    "of another model, in words that do not occur": (tokenizer_with(500), ["must be this model's tokenizer"]),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("damage", "says"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_tokenizer_that_would_fail_in_the_app_is_refused_before_the_work(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], says: list[str]
) -> None:
    (workshop.root / "text").write_text("the cat and the dog and the bird " * 20)
    monkeypatch.setattr("model_release.model.weights.tokenizer.VALIDATION_TEXT", workshop.root / "text")
    damage(workshop.root / "model")
    workshop.refuses(cli.release, *workshop.release(), code=WEIGHTS, says=("tokenizer.json", *says))


# -- publishing


@pytest.fixture(scope="module")
def a_release(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A folder of releases with one in it."""
    folder = tmp_path_factory.mktemp("releases")
    with traced_once():
        outcome = call(cli.release, "--tag", TAG, "--model-path", tiny, "--host", f"local:{folder}", "--no-env", *QUICK)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def released(workshop: Workshop, a_release: Path) -> Workshop:
    """A workshop with a release, and with other weights than it was made from."""
    shutil.copytree(a_release, "releases")
    shutil.rmtree("model")
    gpt2_folder(Path("model"), layers=3, seed=1)
    return workshop


def test_a_tag_that_is_released_with_other_content_names_the_next_free_one(released: Workshop) -> None:
    Path("releases/model-v1.0.1").mkdir()
    arguments = released.release(*QUICK)
    released.refuses(cli.release, *arguments, code=HOST, says=(TAG, "model-v1.0.2", "--replace"))


@pytest.mark.parametrize("failing", ["a copy", "the new folder's rename"])
def test_a_disk_that_fills_up_while_replacing_leaves_the_old_release(
    released: Workshop, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    rename = Path.rename

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def rename_or_fail(self: Path, target: Path) -> Path:
        return full() if self.name.endswith(".partial") and self.is_dir() else rename(self, target)

    if failing == "a copy":
        monkeypatch.setattr(shutil, "copyfileobj", full)
    else:
        monkeypatch.setattr(Path, "rename", rename_or_fail)
    arguments = released.release(*QUICK, "--replace")
    released.refuses(cli.release, *arguments, code=HOST, says=("No space left",))


def test_a_disk_that_fills_up_while_publishing_leaves_no_folder_and_the_env_file_as_it_was(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    workshop.refuses(cli.release, *workshop.release(*QUICK), code=HOST, says=("No space left",))


def test_ctrl_c_while_publishing_leaves_no_half_release(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfileobj", interrupt)
    before = tree(workshop.root)
    outcome = call(cli.release, *workshop.release(*QUICK))
    assert (outcome.code, outcome.err.splitlines()[-1]) == (130, outcome.error)
    assert outcome.error.startswith("error: interrupted")
    assert tree(workshop.root) == before


# -- the hub


@pytest.mark.network
@pytest.mark.parametrize("command", ["export", "release", "verify"])
def test_a_hub_that_is_out_of_reach_is_tried_a_bounded_number_of_times(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with socket.socket() as taken:  # Bound and not listening: nobody answers, and nobody else gets it.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        waits: list[float] = []
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(workshop.root / "tmp/cache"))
        monkeypatch.setattr(hf_api.api, "endpoint", url)
        monkeypatch.setattr(hub, "RetryPolicy", partial(RetryPolicy, sleep=waits.append))
        arguments = {
            "export": ("--output", "new/out.onnx"),
            "release": ("--tag", TAG, "--host", "local:releases", "--env-file", "app/env"),
            "verify": ("--model", "model.onnx", "--reference", "gpt2"),
        }[command]
        before = {name for name in tree(workshop.root) if not name.startswith("tmp/cache")}
        outcome = call(getattr(cli, command), *arguments)
    assert_refused(outcome, WEIGHTS, [url, "attempts: 5", "HF_ENDPOINT", "--model-path"])
    assert {name for name in tree(workshop.root) if not name.startswith("tmp/cache")} == before
    assert 4 <= len(waits) <= 5
    assert sum(waits) < 60


# -- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("command", ["export", "release"])
def test_a_signal_while_the_graph_is_traced_leaves_nothing(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, command: str, number: signal.Signals
) -> None:
    def trace(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("model_release.model.export.trace.trace", trace)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = tree(workshop.root)
    arguments = workshop.release() if command == "release" else ("--model-path", "model", "--output", "new/out.onnx")
    outcome = call(getattr(cli, command), *arguments)
    signal.signal(signal.SIGINT, handler)
    assert (outcome.code, tree(workshop.root)) == (130 if number is signal.SIGINT else 143, before)
    assert outcome.error.startswith("error: interrupted.") == (number is signal.SIGINT)


SIGNALS = {
    "Ctrl-C in the middle of an export": ("export.py", "export:", signal.SIGINT),
    "SIGTERM in the middle of a release": ("release.py", "[5/9]", signal.SIGTERM),
}


@pytest.fixture(scope="module")
def interrupted(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Outcome, dict[str, str], dict[str, str]]]:
    """Each of `SIGNALS` in a real process, all at once: how it ended, and the folder before and after."""

    def one(name: str) -> tuple[Outcome, dict[str, str], dict[str, str]]:
        script, line, number = SIGNALS[name]
        root = tmp_path_factory.mktemp("signal")
        gpt2_folder(root / "model", layers=1, hidden=4)
        (root / "tmp").mkdir()
        (root / "env").write_bytes(b"OTHER=1\n")
        options = ["--model-path", "model"]
        options += (
            ["--output", "new/out.onnx", "--verify"]
            if script == "export.py"
            else ["--tag", TAG, "--host", "local:releases", "--env-file", "env"]
        )
        before = tree(root)
        process = start(script, *options, cwd=root)

        def send(running: "subprocess.Popen[str]") -> None:
            running.send_signal(number)

        return finish(process, when=line, then=send), before, tree(root)

    with ThreadPoolExecutor(max_workers=len(SIGNALS)) as pool:
        return dict(zip(SIGNALS, pool.map(one, SIGNALS), strict=True))


@pytest.mark.long_cases("Ctrl-C in the middle of an export")
@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_a_command_and_leaves_nothing(
    interrupted: dict[str, tuple[Outcome, dict[str, str], dict[str, str]]], name: str
) -> None:
    outcome, before, after = interrupted[name]
    ctrl_c = SIGNALS[name][2] is signal.SIGINT
    assert outcome.code == (130 if ctrl_c else 143), outcome.err
    assert after == before
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    if ctrl_c:
        assert errors == ["error: interrupted. Nothing half-written is left behind; run it again."]
    else:
        assert errors == []
