"""Answers that have to fit a pydantic model or a JSON schema: which completions do, and what object each one says."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.answers import Answers
from swift_client.answers.json import canonicalize, find_json
from swift_client.errors import BadRequestError, ConfigurationError, MissingExtraError, NoCompletionError
from swift_client.structured.request_fields import (
    OUTPUT_FORMAT_FIELDS,
    require_self_contained,
    schema_fields,
    to_strict_schema,
)
from swift_client.types import Completion, Selection

MAX_TEXT_LENGTH = 1_000_000
"""Characters; a longer text is no answer to any question and is not read."""

Validator = Callable[[str], Any]
"""From JSON text to the object; raises whatever it likes where the text does not fit."""


@dataclass(frozen=True, kw_only=True)
class ParsedAnswer:
    """One completion's object."""

    parsed: Any
    members: Mapping[str, Any]
    """The top-level members, by the names that ``parsed`` has for them; empty where it is no object."""
    aliases: Mapping[str, tuple[str, ...]]
    """For each member the names that it may have in the text."""
    canonical_members: Mapping[str, str]
    """The members' values, canonically written: equal texts are equal values."""
    canonical_text: str
    """The object, or the call, canonically written."""
    is_tool_call: bool
    """Whether it is the arguments of a tool call."""


@dataclass(frozen=True, kw_only=True)
class ResponseSchema:
    """What answers have to fit. Made by :func:`shape_of`."""

    name: str
    schema: Mapping[str, Any]
    """JSON schema, as it is sent."""
    validate: Validator
    aliases: Mapping[str, tuple[str, ...]]
    """A model's fields and the names that each may have in the text; empty for a schema."""

    def parse(self, completion: Completion) -> ParsedAnswer:
        """Read one completion.

        Raises:
            Misfit: it does not fit; the message says why.
        """
        if not completion.complete:
            raise SchemaMismatch(f"it ended with {completion.finish_reason!r}")
        if len(completion.text) > MAX_TEXT_LENGTH:
            raise SchemaMismatch(f"it is longer than {MAX_TEXT_LENGTH:,} characters")
        try:
            called, source = _extract_json(completion)
            _decode_strict(source)
        except RecursionError:
            raise SchemaMismatch("its JSON is nested too deep") from None
        except ValueError as error:
            raise SchemaMismatch(f"its JSON cannot be read ({_short_message(error)})") from None
        try:
            parsed = self.validate(source)
            members = self._members(parsed)
            keys = {name: canonicalize(value) for name, value in members.items()}
            whole = canonicalize(parsed.model_dump() if hasattr(parsed, "model_dump") else parsed)
            if called is not None:
                whole = f"{json.dumps(called, ensure_ascii=False)}:{whole}"
            whole.encode()  # half a surrogate pair is no text that could be shown or sent
        except Exception as error:  # a model's own validators may raise anything; paid completions are not lost over it
            raise SchemaMismatch(_short_message(error)) from None
        spellings = {name: self.aliases.get(name, (name,)) for name in members}
        return ParsedAnswer(
            parsed=parsed,
            members=members,
            aliases=spellings,
            canonical_members=keys,
            canonical_text=whole,
            is_tool_call=called is not None,
        )

    def parse_all(self, completions: Sequence[Completion]) -> tuple[tuple[ParsedAnswer | None, ...], Answers]:
        """Read N completions; their answers are whole objects, and the note counts those that do not fit."""
        fits: list[ParsedAnswer | None] = []
        reasons: list[str] = []
        for completion in completions:
            try:
                fits.append(self.parse(completion))
            except SchemaMismatch as misfit:
                fits.append(None)
                reasons.append(str(misfit))
        note = None
        if reasons:
            note = f"{len(reasons)} of {len(fits)} completions do not fit {self.name}; the first: {reasons[0]}."
        values = tuple(None if each is None else each.canonical_text for each in fits)
        groups: dict[str, int] = {}
        numbers = tuple(None if value is None else groups.setdefault(value, len(groups)) for value in values)
        return tuple(fits), Answers(values=values, groups=numbers, note=note)

    def request_fields(self, codec: str, sampling: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Return the fields that tell a provider of the shape, and a note where it cannot be told.

        Nothing is added where the caller's own fields say what shape an answer has.
        """
        if OUTPUT_FORMAT_FIELDS & sampling.keys():
            return {}, None
        fields = schema_fields(codec, self.name, self.schema)
        if fields is None:
            return (
                {},
                f"The schema of {self.name} is not sent: this wire format has no field for it. Put it in the prompt.",
            )
        return fields, None

    def _members(self, parsed: Any) -> dict[str, Any]:
        if isinstance(parsed, dict):
            return dict(parsed)
        return {name: getattr(parsed, name) for name in self.aliases}


class SchemaMismatch(ValueError):
    """A completion that does not fit; never leaves this room."""


def create_response_schema(response_model: object | None) -> ResponseSchema | None:
    """Return the shape that ``response_model=`` asks for: a pydantic model class, a JSON schema dict, or None.

    Raises:
        ConfigurationError: it is neither, or is no schema.
        MissingExtraError: a JSON schema, and the extra "schema" is not installed.
    """
    if response_model is None:
        return None
    if isinstance(response_model, Mapping):
        return _from_json_schema(dict(response_model))
    from pydantic import BaseModel

    if not (isinstance(response_model, type) and issubclass(response_model, BaseModel)):
        raise ConfigurationError(
            "response_model= takes a pydantic model class or a JSON schema dict, "
            f"not {getattr(response_model, '__name__', type(response_model).__name__)}.",
            hint="class Invoice(BaseModel): total: float",
        )
    try:
        schema = to_strict_schema(response_model.model_json_schema())
    except Exception as error:  # pydantic has several kinds of errors for what no schema can say
        raise ConfigurationError(f"{response_model.__name__} has no JSON schema: {_short_message(error)}.") from error
    names = {name: _aliases(name, field) for name, field in response_model.model_fields.items()}
    if issubclass(response_model, _root_model()):
        names = {}
    return ResponseSchema(
        name=_identifier(response_model.__name__),
        schema=schema,
        validate=response_model.model_validate_json,
        aliases=names,
    )


def is_schema_error(error: BadRequestError) -> bool:
    """Return whether a refusal names the fields of a schema: DeepSeek and older servers know no schemas."""
    message = error.message.lower()
    return any(word in message for word in ("response_format", "schema", "text.format", "grammar"))


def require_match(selection: Selection, response_schema: ResponseSchema) -> None:
    """Raise NoCompletionError if no completion matches the schema, since none of them is an answer then."""
    if selection.best.answer is not None:
        return
    raise NoCompletionError(
        f"None of {len(selection.candidates)} completions fits {response_schema.name}. {' '.join(selection.notes)}",
        completions=[candidate.completion for candidate in selection.candidates],
        hint="Ask for JSON in the prompt, raise max_tokens=, or use a less strict model.",
    )


def _from_json_schema(schema: dict[str, Any]) -> ResponseSchema:
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise MissingExtraError.needs("schema", "A JSON schema as response_model") from error
    try:
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except (jsonschema.SchemaError, RecursionError, TypeError) as error:
        raise ConfigurationError(f"response_model= is no JSON schema: {_short_message(error)}.") from error
    require_self_contained(schema)
    # An empty registry: the default one would fetch what "$ref" names.
    validator = kind(schema, registry=referencing.Registry())

    def validate(source: str) -> Any:
        value = _decode_strict(source)
        for error in validator.iter_errors(value):
            raise SchemaMismatch(f"{error.json_path}: {error.message[:200]}")
        return value

    return ResponseSchema(
        name=_identifier(str(schema.get("title") or "answer")), schema=schema, validate=validate, aliases={}
    )


def _extract_json(completion: Completion) -> tuple[str | None, str]:
    """Return the name of the called tool, or None, and the JSON text of the object."""
    text = completion.text
    if completion.finish_reason == "tool_calls":
        calls = json.loads(text)
        if not isinstance(calls, list) or len(calls) != 1 or not isinstance(calls[0], dict):
            count = len(calls) if isinstance(calls, list) else "no"
            raise ValueError(f"it makes {count} calls and not one")
        arguments = calls[0].get("arguments")
        if isinstance(arguments, str):
            raise ValueError("the arguments of its call are no JSON object")
        return str(calls[0].get("name")), json.dumps(arguments)
    span = find_json(text)
    if span is None:
        raise ValueError("there is none")
    return None, text[slice(*span)]


def _decode_strict(source: str) -> Any:
    """Read JSON whose meaning nobody doubts: no key twice, no NaN, no number beyond a float's.

    Raises:
        ValueError, RecursionError: it is none, or an integer has more than the 4,300 digits that Python reads.
    """
    return _STRICT_DECODER.decode(source)


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:80]!r} comes twice")
    return result


def _parse_finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:40]} is too large")
    return value


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_STRICT_DECODER = json.JSONDecoder(
    object_pairs_hook=_reject_duplicate_keys, parse_float=_parse_finite, parse_constant=_reject_constant
)


def _aliases(name: str, field: Any) -> tuple[str, ...]:
    choices = getattr(field.validation_alias, "choices", (field.validation_alias, field.alias))
    return (name, *dict.fromkeys(each for each in choices if isinstance(each, str) and each != name))


def _root_model() -> type:
    from pydantic import RootModel

    return RootModel


def _identifier(name: str) -> str:
    """Return a name as OpenAI takes it: letters, digits, "_" and "-", 64 at most."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "_-") else "_" for each in name)[:64]


def _short_message(error: BaseException) -> str:
    """Say an error in one line; pydantic's lists of errors by the first one, with its place."""
    listed = getattr(error, "errors", None)
    if callable(listed) and (errors := listed()):
        first = errors[0]
        place = ".".join(map(str, first.get("loc", ()))) or "the whole"
        return f"{place}: {first.get('msg', '')}"[:300]
    if isinstance(error, (ValueError, SchemaMismatch)) or hasattr(error, "json_path"):
        return str(getattr(error, "message", error)).splitlines()[0][:300]
    return f"{type(error).__name__}: {error}"[:300]
