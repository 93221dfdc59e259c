"""Response schemas: parse completions as the objects of a pydantic model or a JSON schema."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.adapters.codecs.reply import canonical_tool_calls
from swift_client.answers import Answers
from swift_client.answers.json import canonicalize, find_json
from swift_client.errors import BadRequestError, ConfigurationError, MissingExtraError, NoCompletionError
from swift_client.structured.request_fields import (
    OUTPUT_FORMAT_FIELDS,
    require_self_contained,
    schema_fields,
    to_strict_schema,
)
from swift_client.types import Completion, Selection, completeness

MAX_TEXT_LENGTH = 1_000_000  # characters; a longer text is not parsed

# From JSON text to the object; may raise anything if the text does not match.
Validator = Callable[[str], Any]


@dataclass(frozen=True, kw_only=True)
class ParsedAnswer:
    """The object in one completion."""

    parsed: Any
    # The top-level members, by their names in ``parsed``; empty if it is not an object.
    members: Mapping[str, Any]
    aliases: Mapping[str, tuple[str, ...]]  # the names that each member may have in the text
    # The members' values in canonical JSON: equal texts are equal values.
    canonical_members: Mapping[str, str]
    canonical_text: str  # the object, or the tool call, in canonical JSON
    is_tool_call: bool  # whether the object is the arguments of a tool call


@dataclass(frozen=True, kw_only=True)
class ResponseSchema:
    """The schema that answers have to match; made by ``create_response_schema()``."""

    name: str
    schema: Mapping[str, Any]  # JSON schema, as it is sent
    validate: Validator
    # A model's fields, and the names that each may have in the text; empty for a JSON schema.
    aliases: Mapping[str, tuple[str, ...]]

    def parse(self, completion: Completion, *, is_complete: bool | None = None) -> ParsedAnswer:
        """Parse one completion.

        Args:
            completion: the completion.
            is_complete: whether it counts as complete; default: ``completion.complete``.

        Raises:
            SchemaMismatch: it does not match; the message says why.
        """
        if not (completion.complete if is_complete is None else is_complete):
            raise SchemaMismatch(f"it ended with {completion.finish_reason!r}")
        if len(completion.text) > MAX_TEXT_LENGTH:
            raise SchemaMismatch(f"it is longer than {MAX_TEXT_LENGTH:,} characters")
        # 1. Find the JSON and decode it strictly: other parsers must not read it differently.
        try:
            tool_name, source = _extract_json(completion)
            _STRICT_DECODER.decode(source)
        except RecursionError:
            raise SchemaMismatch("its JSON is nested too deep") from None
        except ValueError as error:
            raise SchemaMismatch(f"its JSON cannot be read ({_short_message(error)})") from None
        # 2. Validate it, and write it canonically: equal objects become equal texts.
        try:
            parsed = self.validate(source)
            if isinstance(parsed, dict):
                members = dict(parsed)
            else:
                members = {name: getattr(parsed, name) for name in self.aliases}
            canonical_members = {name: canonicalize(value) for name, value in members.items()}
            canonical_text = canonicalize(parsed.model_dump() if hasattr(parsed, "model_dump") else parsed)
            if tool_name is not None:
                canonical_text = f"{json.dumps(tool_name, ensure_ascii=False)}:{canonical_text}"
            canonical_text.encode()  # half a surrogate pair can be neither shown nor sent
        except (
            Exception,
            SystemExit,
        ) as error:  # a model's validators may raise anything; paid completions must not be lost
            raise SchemaMismatch(_short_message(error)) from None
        return ParsedAnswer(
            parsed=parsed,
            members=members,
            aliases={name: self.aliases.get(name, (name,)) for name in members},
            canonical_members=canonical_members,
            canonical_text=canonical_text,
            is_tool_call=tool_name is not None,
        )

    def parse_all(self, completions: Sequence[Completion]) -> tuple[tuple[ParsedAnswer | None, ...], Answers]:
        """Parse N completions; their answers are whole objects, and the note counts those that do not match."""
        parsed_answers: list[ParsedAnswer | None] = []
        mismatches: list[SchemaMismatch] = []
        for completion, is_complete in zip(completions, completeness(completions), strict=True):
            try:
                parsed_answers.append(self.parse(completion, is_complete=is_complete))
            except SchemaMismatch as mismatch:
                parsed_answers.append(None)
                mismatches.append(mismatch)
        note = None
        if mismatches:
            count = f"{len(mismatches)} of {len(completions)} completions"
            note = f"{count} do not fit {self.name}; the first: {mismatches[0]}."
        values = tuple(answer.canonical_text if answer else None for answer in parsed_answers)
        groups: dict[str, int] = {}
        numbers = tuple(None if value is None else groups.setdefault(value, len(groups)) for value in values)
        return tuple(parsed_answers), Answers(values=values, groups=numbers, note=note)

    def request_fields(self, codec: str, sampling: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Return the request fields that ask for the schema, and a note if the wire format has none.

        Nothing is added if the caller's own fields already ask for an output format.
        """
        if OUTPUT_FORMAT_FIELDS & sampling.keys():
            return {}, None
        fields = schema_fields(codec, self.name, self.schema)
        note = f"The schema of {self.name} is not sent: this wire format has no field for it. Put it in the prompt."
        return (fields, None) if fields is not None else ({}, note)


class SchemaMismatch(ValueError):
    """A completion does not match the schema. Internal: it becomes a note."""


def create_response_schema(response_model: object | None) -> ResponseSchema | None:
    """Return the schema of ``response_model=``: a pydantic model class, a JSON schema dict, or None.

    Raises:
        ConfigurationError: it is neither, or not a valid schema.
        MissingExtraError: it is a JSON schema, and the extra "schema" is not installed.
    """
    if response_model is None:
        return None
    if isinstance(response_model, Mapping):
        return _from_json_schema(dict(response_model))
    from pydantic import BaseModel, RootModel

    if not (isinstance(response_model, type) and issubclass(response_model, BaseModel)):
        raise ConfigurationError(
            "response_model= takes a pydantic model class or a JSON schema dict, "
            f"not {getattr(response_model, '__name__', type(response_model).__name__)}.",
            hint="class Invoice(BaseModel): total: float",
        )
    try:
        schema = to_strict_schema(response_model.model_json_schema())
    except Exception as error:  # pydantic raises several kinds of errors for types without a schema
        raise ConfigurationError(f"{response_model.__name__} has no JSON schema: {_short_message(error)}.") from error
    fields = {} if issubclass(response_model, RootModel) else response_model.model_fields
    return ResponseSchema(
        name=_identifier(response_model.__name__),
        schema=schema,
        validate=response_model.model_validate_json,
        aliases={name: _aliases(name, field) for name, field in fields.items()},
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
        raise ConfigurationError(f"response_model= is not a JSON schema: {_short_message(error)}.") from error
    require_self_contained(schema)
    # With an empty registry nothing is fetched; the default one would fetch what "$ref" names.
    validator = kind(schema, registry=referencing.Registry())

    def validate(source: str) -> Any:
        value = _STRICT_DECODER.decode(source)
        for error in validator.iter_errors(value):
            raise SchemaMismatch(f"{error.json_path}: {error.message[:200]}")
        return value

    return ResponseSchema(
        name=_identifier(str(schema.get("title") or "answer")), schema=schema, validate=validate, aliases={}
    )


def _extract_json(completion: Completion) -> tuple[str | None, str]:
    """Return the name of the called tool, or None, and the JSON text of the object.

    Raises:
        ValueError: there is no JSON, or not exactly one tool call.
    """
    text = completion.text if completion.answer_text is None else completion.answer_text
    if completion.finish_reason == "tool_calls":
        if completion.tool_calls:  # there may be text beside them
            text = canonical_tool_calls(
                {"name": call.name, "arguments": call.arguments} for call in completion.tool_calls
            )
        calls = json.loads(text)
        if not isinstance(calls, list) or len(calls) != 1 or not isinstance(calls[0], dict):
            count = len(calls) if isinstance(calls, list) else "no"
            raise ValueError(f"it makes {count} calls and not one")
        arguments = calls[0].get("arguments")
        if isinstance(arguments, str):
            raise ValueError("the arguments of its call are not a JSON object")
        return str(calls[0].get("name")), json.dumps(arguments)
    span = find_json(text)
    if span is None:
        raise ValueError("there is none")
    return None, text[slice(*span)]


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        duplicate = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {duplicate[:80]!r} comes twice")
    return result


def _parse_finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:40]} is too large")
    return value


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


# Decodes JSON that every reader understands alike: no duplicate key, no NaN, no number beyond a
# float's range.  Raises ValueError, also for an integer of more than the 4,300 digits that Python
# reads, or RecursionError.
_STRICT_DECODER = json.JSONDecoder(
    object_pairs_hook=_reject_duplicate_keys, parse_float=_parse_finite, parse_constant=_reject_constant
)


def _aliases(name: str, field: Any) -> tuple[str, ...]:
    choices = getattr(field.validation_alias, "choices", (field.validation_alias, field.alias))
    return (name, *dict.fromkeys(alias for alias in choices if isinstance(alias, str) and alias != name))


def _identifier(name: str) -> str:
    """Return a name that OpenAI accepts: letters, digits, "_" and "-", at most 64."""
    return re.sub("[^A-Za-z0-9_-]", "_", name)[:64]


def _short_message(error: BaseException) -> str:
    """Return an error in one line; of pydantic's list of errors the first one, with its place."""
    errors = getattr(error, "errors", None)
    if callable(errors) and (details := errors()):
        place = ".".join(map(str, details[0].get("loc", ()))) or "the whole"
        return f"{place}: {details[0].get('msg', '')}"[:300]
    if isinstance(error, (ValueError, SchemaMismatch)) or hasattr(error, "json_path"):
        return str(getattr(error, "message", error)).splitlines()[0][:300]
    return f"{type(error).__name__}: {error}"[:300]
