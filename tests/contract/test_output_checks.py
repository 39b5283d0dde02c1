"""The judging rules of one run on plain arrays: each clause's boundary, without a model."""

from dataclasses import replace

import numpy as np
import pytest

from model_release.contract import output_checks
from model_release.contract.activations import Output, load_contract
from model_release.contract.blueprint import LayerKind
from model_release.contract.clauses import Judgement
from model_release.contract.output_checks import Run

FP32 = load_contract().precision("fp32")
RANDOM = np.random.default_rng(0)


def attention_arrays(seq: int = 5) -> dict[str, np.ndarray]:
    """Consistent scores, probabilities, values and z of one head."""
    scores = RANDOM.normal(size=(1, 1, seq, seq)).astype(np.float32)
    weights = np.exp(np.where(np.tri(seq, dtype=bool), scores, -np.inf))
    probs = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    values = RANDOM.normal(size=(1, 1, seq, 4)).astype(np.float32)
    return {
        "layer_0_attn_scores": scores,
        "layer_0_attn_probs": probs,
        "layer_0_v": values,
        "layer_0_attn_z": probs @ values,
    }


def judged(arrays: dict[str, np.ndarray]) -> Judgement:
    """`check_outputs` on arrays whose shapes are what is expected, of a run of one sequence of five tokens."""
    outputs = tuple(
        Output(name=name, kind=name.removeprefix("layer_0_"), layer=0, dims=array.shape)
        for name, array in arrays.items()
    )
    return output_checks.check_outputs(Run(ids=np.zeros((1, 5), int), outputs=arrays), outputs)


def test_consistent_attention_has_no_findings() -> None:
    assert judged(attention_arrays()).findings == ()


def test_probabilities_of_other_scores_break_attn01() -> None:
    arrays = attention_arrays()
    arrays["layer_0_attn_scores"] = arrays["layer_0_attn_scores"] * 2
    assert set(judged(arrays).broken) == {"ATTN01"}


def test_z_of_other_values_breaks_attn01() -> None:
    arrays = attention_arrays()
    arrays["layer_0_v"] = arrays["layer_0_v"] + 1
    assert set(judged(arrays).broken) == {"ATTN01"}


def seen_by(**traits: object) -> LayerKind:
    """A kind of layer of 4 heads that share 2."""
    kind = LayerKind(heads=4, kv_heads=2, head_dim=3, intermediate=8, outputs=("attn_probs",), parameters=())
    return replace(kind, **traits)  # type: ignore[arg-type]


def judged_in(kind: LayerKind, arrays: dict[str, np.ndarray]) -> Judgement:
    """`check_outputs` on the outputs of one layer, the model's last."""
    expected = tuple(
        Output(
            name=name,
            kind=name.removeprefix("layer_0_"),
            layer=0 if name.startswith("layer_0_") else None,
            dims=array.shape,
            of=kind,
            of_last_layer=True,
        )
        for name, array in arrays.items()
    )
    return output_checks.check_outputs(Run(ids=np.zeros((1, 5), np.int64), outputs=arrays), expected)


def windowed_attention(window: int, *, sink: float = 0.0) -> dict[str, np.ndarray]:
    """Attention of 4 heads over 2 kv heads, each query seeing `window` keys; a part may go to no token."""
    scores = RANDOM.normal(size=(1, 4, 5, 5)).astype(np.float32)
    distance = np.arange(5)[:, None] - np.arange(5)
    weights = np.where((distance >= 0) & (distance < window), np.exp(scores), 0)
    probs = (weights / (weights.sum(axis=-1, keepdims=True) + sink)).astype(np.float32)
    values = RANDOM.normal(size=(1, 2, 5, 3)).astype(np.float32)
    return {
        "layer_0_attn_scores": scores,
        "layer_0_attn_probs": probs,
        "layer_0_v": values,
        "layer_0_attn_z": probs @ values[:, [0, 0, 1, 1]],
    }


def test_a_window_is_held_to_its_width() -> None:
    assert judged_in(seen_by(window=3), windowed_attention(3)).findings == ()
    assert set(judged_in(seen_by(window=3), windowed_attention(4)).broken) == {"PROB02"}
    assert set(judged_in(seen_by(window=3), windowed_attention(2)).broken) == {"ATTN01"}
    assert set(judged_in(seen_by(), windowed_attention(3)).broken) == {"ATTN01"}


def test_rows_may_sum_to_less_than_one_where_there_are_sinks_alone() -> None:
    assert judged_in(seen_by(sinks=True), windowed_attention(5, sink=1.0)).findings == ()
    assert set(judged_in(seen_by(), windowed_attention(5, sink=1.0)).broken) == {"PROB01"}


def test_heads_that_read_another_kv_head_break_attn01() -> None:
    arrays = windowed_attention(5)
    arrays["layer_0_attn_z"] = arrays["layer_0_attn_probs"] @ arrays["layer_0_v"][:, [0, 1, 0, 1]]
    assert set(judged_in(seen_by(), arrays).broken) == {"ATTN01"}


def test_what_heads_add_sums_to_what_attention_adds_but_for_a_bias() -> None:
    parts = RANDOM.normal(size=(1, 4, 5, 8)).astype(np.float32)
    bias = RANDOM.normal(size=8).astype(np.float32)
    arrays = {"layer_0_head_output": parts, "layer_0_attn_output": parts.sum(axis=1) + bias}
    assert judged_in(seen_by(), arrays).findings == ()
    arrays["layer_0_head_output"] = parts[:, :, ::-1]
    assert set(judged_in(seen_by(), arrays).broken) == {"ATTN01"}
    assert judged_in(seen_by(outputs=("ln_1_post",)), arrays).findings == ()  # A norm stands between them.


def test_the_lens_of_the_last_layer_is_the_logits() -> None:
    logits = RANDOM.normal(size=(1, 5, 9)).astype(np.float32)
    assert judged_in(seen_by(), {"logits": logits, "layer_0_logit_lens": logits}).findings == ()
    broken = judged_in(seen_by(), {"logits": logits, "layer_0_logit_lens": logits * 1.01})
    assert set(broken.broken) == {"LENS01"}


def test_parallel_blocks_add_up_without_a_stream_between() -> None:
    before, attention, mlp = (RANDOM.normal(size=(1, 5, 8)).astype(np.float32) for _ in range(3))
    arrays = {
        "layer_0_resid_pre": before,
        "layer_0_attn_output": attention,
        "layer_0_mlp_output": mlp,
        "layer_0_resid_post": before + attention + mlp,
    }
    assert judged(arrays).findings == ()
    assert set(judged(arrays | {"layer_0_mlp_output": mlp * 2}).broken) == {"SUM01"}


@pytest.mark.parametrize("layer", ["layer_0_resid_mid", "layer_0_attn_output", "layer_0_resid_pre"])
def test_a_residual_stream_that_does_not_add_up_breaks_sum01(layer: str) -> None:
    before, added = RANDOM.normal(size=(2, 1, 5, 8)).astype(np.float32)
    arrays = {"layer_0_resid_pre": before, "layer_0_attn_output": added, "layer_0_resid_mid": before + added}
    assert judged(arrays).findings == ()
    arrays[layer] = arrays[layer] + 0.01
    assert set(judged(arrays).broken) == {"SUM01"}


def test_streams_of_neighbouring_layers_must_meet() -> None:
    stream = RANDOM.normal(size=(1, 5, 8)).astype(np.float32)
    arrays = {"layer_0_resid_post": stream, "layer_1_resid_pre": stream}
    assert judged(arrays).findings == ()
    assert set(judged(arrays | {"layer_1_resid_pre": stream[..., ::-1]}).broken) == {"SUM01"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_value_that_is_not_finite_breaks_fin01(value: float) -> None:
    arrays = attention_arrays()
    arrays["layer_0_v"][0, 0, 2, 1] = value
    assert "FIN01" in judged(arrays).broken


def test_a_row_that_sums_to_less_than_one_breaks_prob01() -> None:
    arrays = attention_arrays()
    arrays["layer_0_attn_probs"][0, 0, 3] *= 0.999
    assert "PROB01" in judged(arrays).broken


def test_a_little_mass_on_a_later_token_breaks_prob02() -> None:
    arrays = attention_arrays()
    arrays["layer_0_attn_probs"][0, 0, 1, 2] = 1e-5
    assert "PROB02" in judged(arrays).broken


def a_run(ids: list[list[int]], **outputs: np.ndarray) -> Run:
    return Run(ids=np.array(ids), outputs={name: array.astype(np.float32) for name, array in outputs.items()})


ATTENTION_PARTS = [
    ({"attn_scores", "attn_probs"}, {"PROB01", "PROB02", "ATTN01"}),
    ({"attn_probs", "v", "attn_z"}, {"PROB01", "PROB02", "ATTN01"}),
    ({"attn_probs", "v"}, {"PROB01", "PROB02"}),
    ({"attn_scores", "v", "attn_z"}, set()),
]


@pytest.mark.parametrize(
    ("kinds", "held"), ATTENTION_PARTS, ids=[" ".join(sorted(kinds)) for kinds, _ in ATTENTION_PARTS]
)
def test_attention_is_judged_by_what_is_there(kinds: set[str], held: set[str]) -> None:
    arrays = {name: array for name, array in attention_arrays().items() if name.removeprefix("layer_0_") in kinds}
    assert set(judged(arrays).held) == {"RUN01", "FIN01"} | held


def test_parts_of_two_layers_are_no_sum_and_no_attention() -> None:
    stream = RANDOM.normal(size=(1, 5, 8))
    run = a_run([[0] * 5], layer_0_resid_pre=stream, layer_1_attn_output=stream, layer_1_resid_mid=stream)
    assert output_checks.check_sums(run).judged == set()
    probs = attention_arrays()["layer_0_attn_probs"]
    assert (
        output_checks.check_attention(a_run([[0] * 5], layer_0_attn_probs=probs, layer_1_attn_scores=probs), ()).judged
        == set()
    )


def test_what_has_a_wrong_shape_is_judged_by_nothing_else() -> None:
    outputs = (Output(name="layer_0_attn_probs", kind="attn_probs", layer=0, dims=("batch", 2, "seq", "seq")),)
    judgement = output_checks.check_outputs(a_run([[0] * 5], layer_0_attn_probs=np.ones((5, 5))), outputs)
    assert (judgement.broken, judgement.held) == (("RUN01",), ())


def test_a_single_token_has_no_later_one_and_no_variety() -> None:
    run = a_run([[7]], layer_0_attn_probs=np.ones((1, 2, 1, 1)))
    assert output_checks.check_values(run, ()).held == ("FIN01", "PROB01")
    assert output_checks.check_not_constant(run).judged == set()


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [([[0, 0], [1, 1]], {"EMB01"}), ([[0, 0], [0, 0]], set()), ([[0], [1]], set())],
    ids=["two tokens", "the same token", "one position"],
)
def test_parts_of_an_embedding_show_in_two_tokens_at_two_positions(ids: list[list[int]], wanted: set[str]) -> None:
    values = np.arange(2)[:, None, None] + np.arange(len(ids[0]))[None, :, None] + np.zeros(4)
    assert output_checks.check_embedding_parts(a_run(ids, embedding_sum=values), FP32).judged == wanted
    assert output_checks.check_embedding_parts(a_run(ids, logits=values), FP32).judged == set()
