"""Frozen dataclasses <-> JSON in bytes that fits a schema, read as if anyone had written it.

A field is a key; one with a default is a key that may be missing, and is missing where the field has its default.
Equal content gives equal bytes: keys are sorted, nothing depends on time or place.
"""

import functools
import json
import math
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from model_release.base.errors import ManifestError
from model_release.contract.activations import CONTRACT_FOLDER

if TYPE_CHECKING:
    import jsonschema

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Format(Generic[T]):
    """A kind of JSON file.

    Attributes:
        name: What it is called in messages.
        schema: The file of its schema in `contract/`.
        kind: The dataclass that holds one.
        version_key: The key that says which version of the format it is.
        version: The version that is written.
    """

    name: str
    schema: str
    kind: type[T]
    version_key: str
    version: int

    def render(self, document: T) -> bytes:
        """A document as bytes.

        Raises:
            ManifestError: It does not fit the schema, or is nothing that every reader of JSON can read.
        """
        return self._render({self.version_key: self.version, **_plain(document)})

    def load(self, content: bytes) -> Any:  # noqa: ANN401 - any JSON
        """JSON from anywhere, which need not fit the schema yet.

        Raises:
            ManifestError: It is no JSON that every reader can read.
        """
        try:
            return json.loads(content, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError) as failure:
            raise self._no_json(failure) from failure

    def typed(self, loaded: Any) -> T:  # noqa: ANN401 - any JSON
        """A document from JSON.

        Raises:
            ManifestError: It does not fit the schema.
        """
        self._render(loaded)  # What can be read can be written.
        document: T = _typed(self.kind, {key: value for key, value in loaded.items() if key != self.version_key})
        return document

    def _render(self, document: Any) -> bytes:  # noqa: ANN401 - any JSON
        try:
            self._require_fit(document)
            return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
        except (ValueError, RecursionError) as failure:  # Half a character, no number, or lists in lists in lists.
            raise self._no_json(failure) from failure

    def _require_fit(self, document: Any) -> None:  # noqa: ANN401 - any JSON
        import jsonschema  # Only manifests need it; importing it takes longer than most commands.

        problem = jsonschema.exceptions.best_match(_validator(self.schema).iter_errors(document))
        if problem is not None:
            raise ManifestError(
                f"{self.name} must fit contract/{self.schema}, "
                f"at {problem.json_path[:200]}: {problem.message[:200]}. Make the release again."
            )

    def _no_json(self, failure: Exception) -> ManifestError:
        return ManifestError(f"{self.name} must be JSON, got: {failure}. Make the release again.")


@functools.cache
def _validator(schema: str) -> "jsonschema.Validator":
    """A schema, to which 1.0 is no whole number, though it is one to JSON."""
    import jsonschema

    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator: jsonschema.Validator = jsonschema.validators.extend(base, type_checker=types)(  # type: ignore[no-untyped-call]
        json.loads((CONTRACT_FOLDER / schema).read_text(encoding="utf-8"))
    )
    return validator


def _whole(text: str) -> int:
    """A whole number that every reader of JSON has: https://www.rfc-editor.org/rfc/rfc7493#section-2.2."""
    number = int(text)
    if abs(number) > 2**53:
        raise ValueError(f"a whole number beyond 2^53, {text[:40]}")
    return number


def _finite(text: str) -> float:
    """A number; neither JSON nor the notes of a release have infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number that is not finite, {text[:40]}")
    return number


def _typed(kind: Any, value: Any) -> Any:  # noqa: ANN401 - by annotations
    """JSON that fits the schema -> what a field's annotation says it is."""
    if get_origin(kind) is UnionType:  # With None, for a key that may be missing; this one is there.
        kind = get_args(kind)[0]
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{key: _typed(kinds[key], part) for key, part in value.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(_typed(get_args(kind)[0], part) for part in value)
    return value


def _plain(value: Any) -> Any:  # noqa: ANN401 - as above
    """The way back: what equals its default is a key that is not there."""
    if is_dataclass(value):
        parts = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: _plain(part) for field, part in parts if part != field.default}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
