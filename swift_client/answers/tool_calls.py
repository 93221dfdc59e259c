"""Tool calls as answers: the tools' names, or the whole calls, in one form for equal calls.

Arguments are compared as JSON values: neither the order of keys nor white space counts, 1 equals 1.0, of equal keys the
last counts, and missing arguments are an empty object. Several calls of one completion are made side by side, so their
order does not count. Text beside a call does not count. A completion without a call has the answer "no call", as that
is a choice of the model too; one whose arguments break off or are invalid JSON has none, since nobody could run it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from swift_client.answers.json import canonicalize, decode
from swift_client.errors import ConfigurationError
from swift_client.types import Completion

NO_CALL = "no call"
_HINT = 'For example "tool_name", "tool_call", "tool_call:ignore=request_id,filter.id" or "tool_call:by=hierarchy".'
_PLAIN_NAME = re.compile(r"[\w.:/-]+")
_JSON_ERRORS = (ValueError, RecursionError)

Call = tuple[str, Any]  # a tool's name, and its arguments as text or decoded JSON


@dataclass(frozen=True, kw_only=True)
class CallRule:
    """A way to compare tool calls, as a spec such as "tool_call:ignore=id" states it."""

    with_arguments: bool  # whether whole calls are compared, or names only
    name_first: bool = False  # whether the tool's name is voted on before the arguments
    # Arguments that do not count; each is a path of keys, which also goes through the items of lists.
    ignored_paths: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def parse(cls, spec: str) -> CallRule:
        """Parse a spec. Raises ConfigurationError if it is not one of a tool call."""
        name, *parts = spec.split(":")
        settings = {key: value for key, _, value in (part.partition("=") for part in parts)}
        allowed = {"tool_name": set[str](), "tool_call": {"ignore", "by"}}.get(name)
        if allowed is None or not settings.keys() <= allowed or len(settings) < len(parts):
            raise ConfigurationError(f"answer={spec!r} is not a way to compare tool calls.", hint=_HINT)
        if settings.get("by", "hierarchy") != "hierarchy":
            raise ConfigurationError(f"{settings['by']!r} is not an order of votes on tool calls.", hint=_HINT)
        paths = [tuple(path.strip().split(".")) for path in settings.get("ignore", "").split(",")]
        if "ignore" in settings and not all(map(all, paths)):
            raise ConfigurationError(f"{spec!r} ignores an argument without a name.", hint=_HINT)
        return cls(
            with_arguments=name == "tool_call",
            name_first="by" in settings,
            ignored_paths=tuple(paths) if "ignore" in settings else (),
        )

    def find(self, text: str) -> str | None:
        """Return the answer of a completion from ``call_text()``; None if it is empty or a call is broken."""
        calls = _parse_calls(text)
        if calls is None:
            return NO_CALL if text.strip() else None
        try:
            return self._describe(calls)
        except _JSON_ERRORS:
            return None

    def normalize(self, text: str) -> str | None:
        """Return the answer of calls as JSON; any other text is an answer already."""
        return text.strip() if _parse_calls(text) is None else self.find(text)

    def _describe(self, calls: list[Call]) -> str:
        if self.with_arguments:
            return ", ".join(sorted(f"{_quote(name)}({self._canonical(arguments)})" for name, arguments in calls))
        names = sorted(name for name, _ in calls)
        return _quote(names[0]) if len(names) == 1 else json.dumps(names, ensure_ascii=False)

    def _canonical(self, arguments: Any) -> str:
        """Return arguments as canonical JSON without those that do not count. Raises one of _JSON_ERRORS."""
        value = _decode_arguments(arguments) if isinstance(arguments, str) else arguments
        value = {} if value is None else value
        for path in self.ignored_paths:
            value = _remove(value, path)
        return canonicalize(value)


def has_calls(completion: Completion) -> bool:
    """Return whether a completion calls a tool; those of older samples files have their calls as text."""
    if completion.tool_calls:
        return True
    return completion.finish_reason == "tool_calls" and _parse_calls(completion.text) is not None


def call_text(completion: Completion) -> str:
    """Return the calls of a completion as JSON; without any, its text, which may be JSON of calls as well."""
    if completion.tool_calls:
        return json.dumps([{"name": call.name, "arguments": call.arguments} for call in completion.tool_calls])
    return completion.text if completion.answer_text is None else completion.answer_text


def _parse_calls(text: str) -> list[Call] | None:
    """Parse a call, or a list of calls, as ``{"name": ..., "arguments": ...}``; None for any other text."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        value = decode(text.strip())
    except _JSON_ERRORS:
        return None
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and {"name", "arguments"} <= call.keys() for call in calls):
        return None
    return [("" if call["name"] is None else str(call["name"]), call["arguments"]) for call in calls]


def _decode_arguments(text: str) -> Any:
    """Decode arguments; some servers encode them twice, and some tools take plain text. Raises one of _JSON_ERRORS."""
    if not text.strip():
        return {}
    try:
        value = decode(text.strip())
    except _JSON_ERRORS:
        if text.lstrip().startswith("{"):
            raise
        return text
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = decode(value.strip())
    return value if value is None or isinstance(value, dict) else text


def _remove(value: Any, path: tuple[str, ...]) -> Any:
    """Return a value without the member at ``path``; a key with dots is found too."""
    if isinstance(value, list):
        return [_remove(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    members = {key: member for key, member in value.items() if key != ".".join(path)}
    if len(path) > 1 and path[0] in members:
        members[path[0]] = _remove(members[path[0]], path[1:])
    return members


def _quote(name: str) -> str:
    """Return a tool's name; a strange one in quotes, so that it cannot pass for another answer."""
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)
