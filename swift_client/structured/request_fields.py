"""The request fields that ask for a JSON schema, for each wire format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from swift_client.errors import ConfigurationError

Schema = Mapping[str, Any]

# Fields with which callers ask for an output format themselves; if one is present, nothing is added.
OUTPUT_FORMAT_FIELDS = frozenset((
    "response_format", "tools", "functions", "text", "generationConfig", "responseMimeType", "responseSchema",
    "responseJsonSchema", "output_config", "output_format", "structured_outputs", "guided_json", "guided_grammar",
    "json_schema", "grammar",
))  # fmt: skip


def schema_fields(codec: str, name: str, schema: Schema) -> dict[str, Any] | None:
    """Return the request fields that ask for this schema; None if the wire format has none."""
    match codec:
        case "openai_chat":
            json_schema = {"name": name, "schema": schema, "strict": is_strict(schema)}
            return {"response_format": {"type": "json_schema", "json_schema": json_schema}}
        case "openai_responses":
            json_schema = {"type": "json_schema", "name": name, "schema": schema, "strict": is_strict(schema)}
            return {"text": {"format": json_schema}}
        case "gemini":
            try:
                inlined = _inline_references(schema, schema, 0)
            except (LookupError, TypeError, RecursionError):
                return None
            return {"responseMimeType": "application/json", "responseSchema": inlined}
    return None


def is_strict(schema: Schema) -> bool:
    """Return whether OpenAI's strict mode accepts it: every object requires all its members and allows no others.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    return all(
        node.get("additionalProperties") is False
        and "default" not in node
        and set(node.get("required", ())) == set(node.get("properties", ()))
        for node in _nodes(schema)
        if node.get("type") == "object" or "properties" in node
    )


def to_strict_schema(schema: Schema) -> dict[str, Any]:
    """Convert a pydantic model's schema for strict mode: every member is required, so none has a default.

    What matches the result matches the model too.
    """
    result = {key: _map_schemas(value, to_strict_schema) for key, value in schema.items() if key != "default"}
    properties = schema.get("properties")
    if isinstance(properties, Mapping):  # a member may be called "default"
        result["properties"] = {name: to_strict_schema(node) for name, node in properties.items()}
        result["required"] = list(properties)
        result.setdefault("additionalProperties", False)
    return result


def _nodes(schema: Any) -> list[Mapping[str, Any]]:
    """Return all mappings inside a schema, which are its subschemas and harmless others."""
    mappings, stack = [], [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, Mapping):
            mappings.append(node)
            stack += node.values()
        elif isinstance(node, list):
            stack += node
    return mappings


def _map_schemas(value: Any, transform: Callable[[Schema], Any]) -> Any:
    if isinstance(value, Mapping):
        return transform(value)
    return [_map_schemas(item, transform) for item in value] if isinstance(value, list) else value


# https://ai.google.dev/api/caching#Schema: a subset of OpenAPI, without references.
_GEMINI_KEYS = frozenset((
    "type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required",
    "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering",
    "default", "items", "minimum", "maximum",
))  # fmt: skip
# A schema with longer chains of references may contain itself, and cannot be written out.
_MAX_REFERENCE_DEPTH = 12


def _inline_references(node: Schema, root: Schema, depth: int) -> dict[str, Any]:
    """Replace references by what they name, and keep the keys that Gemini knows."""
    # A reference may lead to another one; keys beside it override those of its target.
    while "$ref" in node:
        depth += 1
        if depth > _MAX_REFERENCE_DEPTH:
            raise RecursionError
        target: Any = root
        for step in str(node["$ref"]).removeprefix("#").strip("/").split("/"):
            target = target[step] if step else target
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    result = {key: value for key, value in node.items() if key in _GEMINI_KEYS}
    if "const" in node:  # Gemini knows no const; an enum of one value means the same
        result["enum"] = [node["const"]]
    for key in ("anyOf", "items"):
        if key in result:
            result[key] = _map_schemas(result[key], lambda part: _inline_references(part, root, depth))
    if "properties" in node:
        result["properties"] = {key: _inline_references(part, root, depth) for key, part in node["properties"].items()}
    return result


def require_self_contained(schema: Schema) -> None:
    """Raise ConfigurationError if a schema refers to another document, since nothing is fetched."""
    for node in _nodes(schema):
        reference = node.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise ConfigurationError(
                f"The schema refers to another document, {reference!r}.", hint="Copy the referenced schema into $defs."
            )
