"""Figures over all runs, and a precision's limits -> a judgement. Pure, as `output_checks`."""

from collections.abc import Iterator

from model_release.contract.clauses import NOTHING_JUDGED, Judgement, Ruling, check
from model_release.contract.measures import Agreement, Deviation
from model_release.contract.precision import Precision


@check("REL01", needs="PyTorch's outputs")
def check_deviation(measured: Deviation, precision: Precision) -> Iterator[Ruling]:
    """Judges one kind of output over all runs."""
    limit = precision.max_relative_error
    message = f"relative error must be at most {limit:g} for {precision.name}, got {measured.relative:.3g}"
    yield measured.kind, "" if measured.relative <= limit else message


def check_agreement(measured: Agreement, precision: Precision, *, vocab: int, on_text: bool) -> Judgement:
    """KL01, TOP01 and, on text, PPL01: what follows a random token says nothing of a model."""
    if vocab < 2:  # The one token is certain, whatever the logits are.
        return NOTHING_JUDGED
    found = check_divergence(measured, precision) + check_choices(measured, precision)
    if on_text:
        found += check_perplexity(measured, precision)
    return found


@check("KL01", needs="PyTorch's logits, and several tokens in the vocabulary")
def check_divergence(measured: Agreement, precision: Precision) -> Iterator[Ruling]:
    """Judges the mean divergence; NaN breaks the clause."""
    limit = precision.max_mean_kl
    message = f"mean KL must be at most {limit:g} nats for {precision.name}, got {measured.mean_kl:.3g}"
    yield "logits", "" if measured.mean_kl <= limit else message


@check("TOP01", needs="PyTorch's logits, and several tokens in the vocabulary")
def check_choices(measured: Agreement, precision: Precision) -> Iterator[Ruling]:
    """Judges the most likely tokens."""
    limit = precision.min_top1_agreement
    message = f"top-1 agreement must be at least {limit:.1%} for {precision.name}, got {measured.top1_or_tie:.1%}"
    yield "logits", "" if measured.top1_or_tie >= limit else message


@check("PPL01", needs="PyTorch's logits for a text, read by a tokenizer of several tokens")
def check_perplexity(measured: Agreement, precision: Precision) -> Iterator[Ruling]:
    """Judges the perplexity on a text; NaN breaks the clause."""
    limit, ratio = precision.max_perplexity_ratio, measured.perplexity_ratio
    message = f"perplexity must be at most {limit:g} times PyTorch's for {precision.name}, got {ratio:.4g} times"
    yield "logits", "" if ratio <= limit else message
