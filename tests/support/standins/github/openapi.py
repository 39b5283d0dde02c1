"""Whether an answer is what GitHub's official OpenAPI description says it must be."""

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

DESCRIPTION = Path(__file__).parent.parent / "github_openapi.json"
_URI = "urn:github"
_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@_FORMATS.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme and " " not in value)


def as_json_schema(node: Any, *, names: bool = False) -> Any:
    """OpenAPI 3.0 -> JSON Schema 2020-12; `names` says that the keys are names of properties.

    `nullable` becomes a type. `oneOf` becomes `anyOf`, because GitHub's alternatives overlap: every
    error fits both schemas that are given for a conflict.

    >>> as_json_schema({"type": "string", "nullable": True})
    {'type': ['string', 'null']}
    """
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {key: as_json_schema(value) for key, value in node.items()}
    if "$ref" in node:
        return {"$ref": node["$ref"].replace("#/", f"{_URI}#/")}
    node = {
        ("anyOf" if key == "oneOf" else key): as_json_schema(value, names=key == "properties")
        for key, value in node.items()
        if key != "discriminator"
    }
    if not node.pop("nullable", False):
        return node
    if "enum" in node:
        node["enum"] = [*node["enum"], None]
    if "type" in node:
        return node | {"type": [node["type"], "null"]}
    return {"anyOf": [node, {"type": "null"}]}


@cache
def _description() -> tuple[dict[str, Any], Registry[Any]]:
    document = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    schemas = {name: as_json_schema(schema) for name, schema in document["components"]["schemas"].items()}
    resource = DRAFT202012.create_resource({"components": {"schemas": schemas}})
    return document["answers"], Registry().with_resource(_URI, resource)


@cache
def _validator(template: str, method: str, status: int) -> Draft202012Validator | None:
    """None if the answer must have no JSON, or is not described."""
    answers, registry = _description()
    described = answers.get(template, {}).get(method.lower(), {})
    schema = described.get(str(status))
    if schema is None and status >= 400:  # Such as 401 and 403, which few paths name.
        schema = {"$ref": f"#/components/schemas/{'validation' if status == 422 else 'basic'}-error"}
    if schema is None:
        return None
    return Draft202012Validator(as_json_schema(schema), registry=registry, format_checker=_FORMATS)


def is_described(template: str, method: str) -> bool:
    """Whether the description has this operation."""
    return method.lower() in _description()[0].get(template, {})


def violations(template: str, method: str, status: int, body: Any) -> list[str]:
    """What is wrong with an answer, in sentences; empty if nothing is."""
    where = f"{method} {template} {status}"
    answers = _description()[0].get(template, {}).get(method.lower(), {})
    if status < 400 and str(status) not in answers:
        return [f"{where}: the description has no such answer"]
    validator = _validator(template, method, status)
    if validator is None:
        return [] if body is None else [f"{where}: the answer must be empty"]
    if body is None:
        return [f"{where}: the answer must not be empty"]
    return [f"{where}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(body)]
