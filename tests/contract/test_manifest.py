"""manifest.json and measured.json: what is read can be written, byte for byte; what is none is one sentence."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dists import write_files
from model_release.base.errors import HostError, ManifestError
from model_release.contract import manifest, measured
from model_release.contract.activations import CONTRACT_FOLDER
from model_release.contract.manifest import (
    Delivery,
    FileEntry,
    Manifest,
    ModelEntry,
    SelectionEntry,
    Variant,
)
from model_release.contract.measured import AgreementEntry, BackendEntry, DeviationEntry, Measured, Measurement

OLD = Path(__file__).with_name("manifest_v1.json").read_bytes()
"""A manifest of version 1 with everything one can hold; it was written by the first code that wrote them."""

GOLDEN = Path(__file__).with_name("manifest_v2.json").read_bytes()
FIGURES_GOLDEN = Path(__file__).with_name("measured_v1.json").read_bytes()
"""What of it is kept where today."""

KNOWN, KNOWN_FIGURES = manifest.parse(GOLDEN), measured.parse(FIGURES_GOLDEN)

steady = settings(derandomize=True, deadline=None, max_examples=100)


# -- what is read and written


def test_what_was_read_is_written_as_it_was() -> None:
    assert manifest.render(KNOWN) == GOLDEN
    assert measured.render(KNOWN_FIGURES) == FIGURES_GOLDEN


def test_a_manifest_of_version_1_is_read_without_its_figures() -> None:
    assert manifest.parse(OLD) == KNOWN
    assert KNOWN.descriptions == ("tiny-report.html",)


@pytest.mark.parametrize("key", ["variants", "files", "asset_prefix"])
@pytest.mark.parametrize("value", [None, 1, "x", [1], [[]], {"a": 1}], ids=repr)
def test_nonsense_of_version_1_is_refused(key: str, value: object) -> None:
    with pytest.raises(ManifestError, match=r"must fit contract/manifest\.schema\.json"):
        manifest.parse(json.dumps(json.loads(OLD) | {key: value}).encode())


def test_a_manifest_is_read_into_its_parts() -> None:
    assert (KNOWN.tag, KNOWN.version, KNOWN.name) == ("model-v1.2.0-rc.1", "1.2.0-rc.1", "tiny")
    assert (KNOWN.asset_prefix, KNOWN.contract_version) == ("tiny-", "1.1.0")
    assert KNOWN.model.weights[0].name == "model-00001-of-00002.safetensors"
    assert KNOWN.selection == SelectionEntry(
        layers=(0, 5, 11), activations=("embedding_sum", "attn_probs"), logits="last", opset=20
    )
    unasked, asked, nowhere = KNOWN_FIGURES.models
    assert (unasked.backends, nowhere.backends) == (None, ())
    assert asked.backends == (
        BackendEntry(backend="wasm, 1 thread", runs=True, cosine=0.9999, relative=3.1e-05),
        BackendEntry(backend="webgpu", runs=False, reason="no adapter “here”"),
    )
    assert asked.deviations[0] == DeviationEntry(kind="logits", max_abs=1.9e-05, relative=3.6e-07, cosine=1.0)
    assert (asked.agreement.perplexity_ratio, nowhere.agreement.perplexity_ratio) == (1.0004, None)


def test_what_is_asked_for_most_has_a_name() -> None:
    assert KNOWN.names[:2] == ("tiny-config.json", "tiny-model.onnx")
    assert KNOWN.app_model == KNOWN.entry("tiny-model_fp16.onnx") == KNOWN.files[2]
    assert KNOWN.variant("fp16") == KNOWN.variants_by_file["tiny-model_fp16.onnx"] == KNOWN.variants[1]
    assert (KNOWN.entry("model.onnx"), KNOWN.variant("int4")) == (None, None)
    with pytest.raises(ManifestError, match=r"manifest\.json must list 'tiny-model_fp16\.onnx' among its files"):
        _ = replace(KNOWN, files=()).app_model


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
SIZES = st.integers(1, 2**53)
FIGURES = st.one_of(st.floats(0, allow_infinity=False), st.integers(0, 2**53))
SHARES = st.floats(0, 1)
FILES = st.builds(
    FileEntry, name=TEXTS, size_bytes=st.integers(0, 2**53), sha256=st.sampled_from(["0" * 64, "9af" * 21 + "b"])
)
VERSIONS = st.sampled_from(["0.0.0", "1.20.3"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), TEXTS).filter(
        lambda value: abs(value) != float("inf") if isinstance(value, float) else True
    ),
    lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(TEXTS, parts, max_size=3)),
    max_leaves=6,
)


def several(parts: st.SearchStrategy[Any], *, least: int = 0, unique: bool = False) -> st.SearchStrategy[Any]:
    return st.lists(parts, min_size=least, max_size=3, unique=unique).map(tuple)


DEVIATIONS = st.builds(DeviationEntry, kind=TEXTS, max_abs=FIGURES, relative=FIGURES, cosine=st.floats(-1.1, 1.1))
AGREEMENTS = st.builds(
    AgreementEntry,
    text=TEXTS,
    positions=SIZES,
    mean_kl_nats=FIGURES,
    top1=SHARES,
    top1_or_tie=SHARES,
    perplexity_ratio=st.one_of(st.none(), FIGURES),
)
BACKENDS = st.builds(
    BackendEntry,
    backend=TEXTS,
    runs=st.booleans(),
    reason=st.one_of(st.none(), TEXTS),
    cosine=st.one_of(st.none(), st.floats(-1.1, 1.1)),
    relative=st.one_of(st.none(), FIGURES),
)
VARIANTS = st.builds(
    Variant,
    file=TEXTS,
    precision=TEXTS,
    stored=TEXTS,
    computed=TEXTS,
    size_bytes=SIZES,
    within_threshold=st.booleans(),
)
MEASUREMENTS = st.builds(
    Measurement,
    file=TEXTS,
    clauses=several(TEXTS),
    deviations=several(DEVIATIONS),
    agreement=AGREEMENTS,
    backends=st.one_of(st.none(), several(BACKENDS)),
)
MODELS = st.builds(
    ModelEntry,
    source=TEXTS,
    revision=TEXTS,
    weights_sha256=st.just("0" * 64),
    weights=several(FILES, least=1),
    parameters=SIZES,
    shape=st.dictionaries(TEXTS, JSON, max_size=3),
)
SELECTIONS = st.builds(
    SelectionEntry,
    layers=several(st.integers(0, 99), unique=True),
    activations=several(TEXTS, unique=True),
    logits=st.sampled_from(["all", "last"]),
    opset=st.integers(-99, 99),
)
DELIVERIES = st.builds(
    Delivery,
    asked=st.sampled_from(["auto", "git", "release"]),
    mode=st.sampled_from(["git", "release"]),
    file=TEXTS,
    precision=TEXTS,
    size_bytes=SIZES,
    threshold_bytes=st.integers(0, 2**53),
    within_threshold=st.booleans(),
)
MANIFESTS = st.builds(
    Manifest,
    tag=VERSIONS.map(lambda version: f"model-v{version}"),
    version=VERSIONS,
    name=st.sampled_from(["gpt2", "Tiny_1.b-x"]),
    contract_version=VERSIONS,
    model=MODELS,
    selection=SELECTIONS,
    delivery=DELIVERIES,
    variants=several(VARIANTS, least=1),
    files=several(FILES, least=1),
    descriptions=several(TEXTS, unique=True),
    asset_prefix=st.sampled_from(["", "tiny-"]),
)


@steady
@given(MANIFESTS)
def test_any_manifest_survives_being_written_and_read(any_manifest: Manifest) -> None:
    assert manifest.parse(manifest.render(any_manifest)) == any_manifest


@steady
@given(
    st.builds(
        Measured,
        tag=VERSIONS.map(lambda version: f"model-v{version}"),
        models=several(MEASUREMENTS, least=1),
        made_with=st.dictionaries(TEXTS, TEXTS, max_size=3),
    )
)
def test_any_figures_survive_being_written_and_read(any_figures: Measured) -> None:
    assert measured.parse(measured.render(any_figures)) == any_figures


# -- what the schema allows is what the dataclasses hold


@pytest.mark.parametrize(
    ("kind", "name", "version_key", "version"),
    [
        (Manifest, "manifest.schema.json", "manifest_version", 2),
        (Measured, "measured.schema.json", "measured_version", 1),
    ],
)
def test_the_dataclasses_are_what_the_schema_describes(kind: type, name: str, version_key: str, version: int) -> None:
    schema = json.loads((CONTRACT_FOLDER / name).read_bytes())
    assert schema["properties"].pop(version_key) == {"const": version}
    schema["required"].remove(version_key)
    require_same(kind, schema, schema.get("$defs", {}))


def require_same(kind: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
    """Holds an annotation against what the schema says of the same place."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        assert schema["additionalProperties"] is False, f"{kind} would lose a key"
        assert schema["properties"].keys() == kinds.keys()
        assert {field.name for field in fields(kind) if field.default is MISSING} == set(schema["required"])
        for name, part in schema["properties"].items():
            optional = get_origin(kinds[name]) is UnionType
            require_same(get_args(kinds[name])[0] if optional else kinds[name], part, definitions)
    elif get_origin(kind) is tuple:
        require_same(get_args(kind)[0], schema["items"], definitions)
    elif get_origin(kind) is Literal:
        assert schema["enum"] == list(get_args(kind))
    elif kind == Mapping[str, str]:
        assert schema["additionalProperties"] == {"type": "string"}
    elif kind == Mapping[str, Any]:
        assert "additionalProperties" not in schema, "any key is kept"
    else:
        assert schema["type"] == {str: "string", int: "integer", float: "number", bool: "boolean"}[kind]


# -- what is no manifest


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"manifest_version": 3}', b"[" * 100_000, b"\xff"])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json must"):
        manifest.parse(content)


def changed(place: tuple[Any, ...], value: object, golden: bytes = GOLDEN) -> bytes:
    """A golden file with another value in one place."""
    document = {"whole": json.loads(golden)}
    *way, last = ("whole", *place)
    within: Any = document
    for key in way:
        within = within[key]
    within[last] = value
    return json.dumps(document["whole"]).encode()


DEVIATION = ("models", 0, "deviations", 0)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ((*DEVIATION, "cosine"), float("nan"), "a number that is not finite, NaN"),
        ((*DEVIATION, "relative"), float("inf"), "a number that is not finite, Infinity"),
        ((*DEVIATION, "relative"), 10**400, r"a whole number beyond 2\^53, 1000"),
        ((*DEVIATION, "script"), "x", "'script' was unexpected"),
        (("made_with", "torch"), ["2.13.0"], r"at \$\.made_with\.torch: \['2\.13\.0'\] is not of type 'string'"),
        (("models", 0, "backends"), None, r"at \$\.models\[0\]\.backends: None is not of type 'array'"),
    ],
)
def test_what_figures_cannot_hold_is_told_in_a_sentence(place: tuple[Any, ...], value: object, said: str) -> None:
    with pytest.raises(ManifestError, match=rf"^measured\.json must .*{said}.*\. Make the release again\.$"):
        measured.parse(changed(place, value, FIGURES_GOLDEN))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("model", "parameters"), float("nan"), "a number that is not finite, NaN"),
        (("model", "parameters"), float("inf"), "a number that is not finite, Infinity"),
        (("model", "shape", "layers"), -(2**53) - 1, r"a whole number beyond 2\^53, -9007199254740993"),
        (("model", "source"), "\ud800", "surrogates not allowed"),
        (("files", 0, "size_bytes"), 464.0, r"at \$\.files\[0\]\.size_bytes: 464\.0 is not of type 'integer'"),
        (("files", 0, "size_bytes"), True, r"at \$\.files\[0\]\.size_bytes: True is not of type 'integer'"),
        (("files", 0), {}, r"at \$\.files\[0\]: '[a-z0-9_]+' is a required property"),
        (("delivery", "mode"), "mail", r"at \$\.delivery\.mode: 'mail' is not one of \['git', 'release'\]"),
        (("asset_prefix",), "", r"at \$\.asset_prefix: '' does not match"),
        (("variants",), [], r"at \$\.variants: \[\] should be non-empty"),
        (("descriptions", 0), None, r"at \$\.descriptions\[0\]: None is not of type 'string'"),
    ],
)
def test_what_a_manifest_cannot_hold_is_told_in_a_sentence(place: tuple[Any, ...], value: object, said: str) -> None:
    with pytest.raises(ManifestError, match=rf"^manifest\.json must .*{said}.*\. Make the release again\.$"):
        manifest.parse(changed(place, value))


@pytest.mark.parametrize("place", [(), ("delivery",), ("model",), ("selection",), ("files", 0), ("variants", 0)])
def test_a_key_that_nobody_knows_is_refused_and_not_lost(place: tuple[Any, ...]) -> None:
    with pytest.raises(ManifestError, match=r"'script' was unexpected"):
        manifest.parse(changed((*place, "script"), "x"))


@pytest.mark.parametrize("place", [("model", "shape", "layers"), ("selection", "layers"), ("tag",)])
@pytest.mark.parametrize("depth", [100, 300, *range(500, 1100, 20)])
def test_lists_in_lists_in_lists_are_kept_or_refused(place: tuple[Any, ...], depth: int) -> None:
    content = changed(place, "here").replace(b'"here"', b"[" * depth + b"]" * depth)
    try:
        read = manifest.parse(content)
    except ManifestError:
        return
    assert place == ("model", "shape", "layers")
    assert json.loads(manifest.render(read)) == json.loads(content)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of JSON."""
    yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*way, key))


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, -1, 2**53 + 1, 10**400, -(10**4000), 1e300]),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=[]), max_size=5),
        st.sampled_from(["x" * 100_000, "\ud800", "\x1b[31m\n::error::"]),
    ),
    lambda parts: st.one_of(st.lists(parts, max_size=3), st.dictionaries(TEXTS, parts, max_size=3)),
    max_leaves=5,
)


@steady
@given(st.sampled_from(list(places(json.loads(GOLDEN)))), ANYTHING)
def test_anything_in_any_place_is_kept_or_refused_in_a_short_sentence(place: tuple[Any, ...], value: Any) -> None:
    content = changed(place, value)
    try:
        read = manifest.parse(content)
    except ManifestError as failure:
        assert str(failure).startswith("manifest.json must ")
        assert len(str(failure)) < 700
        assert failure.exit_code == 7
    else:
        assert manifest.parse(manifest.render(read)) == read
        assert json.loads(manifest.render(read)) == json.loads(content)


# -- files and their checksums


def test_checksums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    entries = write_files(tmp_path, {"b.txt": b"two", "a.txt": b"one"})
    assert manifest.checksums(entries).decode().splitlines() == [
        f"{hashlib.sha256(b'one').hexdigest()}  a.txt",
        f"{hashlib.sha256(b'two').hexdigest()}  b.txt",
    ]


@pytest.mark.parametrize("name", ["a b", "../x", "-rf", ".hidden", "x\ny", "ü", "a" * 201, "a:b", "", "a/b"])
def test_a_name_that_no_asset_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="name must match"):
        manifest.describe_files(tmp_path, [name])


def test_a_file_of_two_gibibytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_ASSET_BYTES", 3)
    with pytest.raises(HostError, match="smaller than 2 GiB"):
        write_files(tmp_path, {"model.onnx": b"four"})
