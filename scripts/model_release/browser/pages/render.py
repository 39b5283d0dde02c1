"""Facts -> the bytes of a page. Pure text; equal facts give equal bytes.

A page is one file: style, script and data stand in it, and its content security policy names them by
their hash, so that a browser runs nothing else and asks no server for anything. Texts may come from
anywhere: the templates escape them, and data stands in JSON that cannot end its element.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from model_release.base.text import megabytes
from model_release.browser.pages.plot import log_plot
from model_release.contract.activations import load_contract
from model_release.contract.clauses import STEPPED, TOUCHED, VERIFIED
from model_release.contract.manifest import Manifest
from model_release.contract.measured import Measured
from model_release.contract.measures import Deviation

ASSETS = Path(__file__).parent / "assets"
_VIEWS = (
    *("basics.js", "colours.js", "tip.js", "rove.js", "grid.js", "labels.js", "stage.js"),
    *("prompt.js", "attention.js", "lines.js", "whole.js", "product.js"),
    *("next.js", "lens.js", "writes.js", "vectors.js", "tries.js", "views.js"),
)
_ELSEWHERE = ("logits", "attn_probs", "logit_lens")
"""Kinds of outputs that have a view of their own, and no strip."""

_SMALLEST_KL = 1e-9
"""Where the plot's axis begins at the latest: float32 tells no smaller divergence."""


def render_report(
    document: Manifest,
    figures: Measured,
    by_output: Mapping[str, Mapping[str, Deviation]],
    sample: Mapping[str, Any],
) -> bytes:
    """The report of a release.

    Args:
        document: Its manifest.
        figures: What was measured on its models.
        by_output: The deviation of each output, by precision and name.
        sample: What `sample.take_sample` gave for the model the app gets.
    """
    variants = [(variant, figures.of(variant.file)) for variant in document.variants]
    plot = log_plot(
        [(of.precision, of.size_bytes / 1e6, measured.agreement.mean_kl_nats) for of, measured in variants],
        floor=_SMALLEST_KL,
    )
    stages = (*VERIFIED, *(STEPPED if document.selection.cache else ()))
    stages += TOUCHED if document.selection.interventions else ()
    return _render(
        "report.html",
        scripts=(*_VIEWS, "report.js"),
        policy={"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"},
        release=document,
        sample=sample,
        variants=variants,
        plot=plot,
        outputs=_error_rows(by_output),
        origin=_origin(document, figures),
        clauses=[clause for clause in load_contract().clauses.values() if clause.stage in stages],
    )


def render_live(prompt: str) -> bytes:
    """The live page, for any release that is served together with the packages of `npm.BROWSER`.

    Args:
        prompt: What stands in its text field at first.
    """
    return _render(
        "try.html",
        styles=("live.css",),
        scripts=(*_VIEWS, "fetching.js", "loading.js", "sampling.js", "generate.js", "switches.js", "try.js"),
        policy={
            "default-src": "'none'",
            "connect-src": "'self'",
            "img-src": "data:",
            "script-src": "'self' 'wasm-unsafe-eval'",
            "worker-src": "'self' blob:",
            "base-uri": "'none'",
            "form-action": "'none'",
        },
        prompt=prompt,
    )


def _error_rows(by_output: Mapping[str, Mapping[str, Deviation]]) -> list[tuple[str, list[Deviation]]]:
    """Each output's name, with its deviation in every precision."""
    names = list(next(iter(by_output.values()), {}))
    return [(name, [deviations[name] for deviations in by_output.values()]) for name in names]


def _origin(document: Manifest, figures: Measured) -> list[tuple[str, str]]:
    """Where the model comes from, and what was made of it: terms and texts."""
    model, selection, delivery = document.model, document.selection, document.delivery
    return [
        ("source", model.source),
        ("revision", model.revision or "none"),
        ("weights sha256", model.weights_sha256),
        ("layers to see", ", ".join(map(str, selection.layers)) or "none"),
        ("activations", ", ".join(selection.activations) or "none"),
        ("logits", f"{selection.logits} positions"),
        *([("context", f"{model.context:,} tokens")] if model.context else []),
        ("ONNX opset", str(selection.opset)),
        ("for the web app", f"{delivery.file}, delivered by {delivery.mode}"),
        ("made with", ", ".join(f"{name} {version}" for name, version in sorted(figures.made_with.items()))),
    ]


def _render(
    template: str,
    *,
    scripts: tuple[str, ...],
    styles: tuple[str, ...] = (),
    policy: Mapping[str, str],
    **facts: object,
) -> bytes:
    """A template with its styles and scripts in place, and a policy that allows these and no others."""
    style, script = ("\n".join(map(_asset, names)) for names in (("page.css", *styles), scripts))
    allowed = {**policy, "style-src": _source(style)}
    allowed["script-src"] = " ".join(filter(None, (policy.get("script-src", ""), _source(script))))
    return (
        _templates()
        .get_template(template)
        .render(
            style=style,
            script=script,
            policy="; ".join(f"{name} {sources}" for name, sources in allowed.items()),
            kinds=[kind for kind in load_contract().outputs if kind.kind not in _ELSEWHERE],
            **facts,
        )
        .encode()
    )


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["megabytes"] = megabytes
    return environment


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """An inline element's name in a policy: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
