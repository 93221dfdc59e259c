"""A body of ``/v1/chat/completions`` as a call, and the call as arguments of ``best_of``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.sampling import Budget
from swift_client.server.config import BudgetConfig, ModelConfig
from swift_client.server.config.strict_convert import convert
from swift_client.server.http.error_reply import HttpError

MAX_CHOICES = 128  # as OpenAI's limit of ``n``
# Fields that are read here; all others pass through.
_OWN_FIELDS = frozenset(
    ["model", "messages", "n", "stream", "stream_options", "seed", "swift", "logprobs", "top_logprobs"]
)
_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")


class Override(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Settings of one request, in the field ``swift`` of its body.

    Attributes:
        n: Completions to choose from.
        deadline: Seconds after which the best of what has arrived is returned.
        stopping: A stopping rule, such as "auto".
        budget: Limits of this request; they can only lower those of the model.
        on_reject: "return", "abstain" or "escalate".
        reference: Notes for the verifier's judge.
        texts: Whether the reply holds the text of every candidate.
    """

    n: int | None = None
    deadline: float | None = None
    stopping: str | None = None
    budget: BudgetConfig | None = None
    on_reject: Literal["return", "abstain", "escalate"] | None = None
    reference: str | None = None
    texts: bool = False


@dataclass(frozen=True, kw_only=True)
class ChatCall:
    """One request to the service, of the right types but not yet checked against its virtual model."""

    model: str
    messages: list[dict[str, Any]]
    n_choices: int = 1
    stream: bool = False
    include_usage: bool = False  # a last chunk with the usage, if streamed
    wants_logprobs: bool = False
    wants_function_call: bool = False  # the legacy form of tool calls, asked for by ``functions``
    seed: int | None = None
    override: Override = field(default_factory=Override)
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the request that go upstream unchanged


def parse_chat_call(data: bytes) -> ChatCall:
    """Read the body of a request.

    Raises:
        HttpError: 400: it is not JSON, or a field has the wrong type; ``param`` names the field.
    """
    body = _decode_object(data)
    body = {name: value for name, value in body.items() if value is not None}
    messages = _typed(body, "messages", list)
    if not messages or not all(isinstance(message, dict) for message in messages):
        raise _wrong("messages", "must be a list of at least one message object")
    stream_options = _typed(body, "stream_options", dict, {})
    return ChatCall(
        model=_typed(body, "model", str),
        messages=messages,
        n_choices=_whole_number(body, "n", low=1, high=MAX_CHOICES) or 1,
        stream=_typed(body, "stream", bool, False),
        include_usage=stream_options.get("include_usage") is True,
        wants_logprobs=_typed(body, "logprobs", bool, False),
        wants_function_call="functions" in body and "tools" not in body,
        seed=_whole_number(body, "seed", low=-(2**63), high=2**63 - 1),
        override=_parse_override(body.get("swift", {})),
        fields={name: value for name, value in body.items() if name not in _OWN_FIELDS},
    )


def create_arguments(call: ChatCall, model: ModelConfig) -> dict[str, Any]:
    """Return the arguments of ``best_of`` for a call, within the caps of its virtual model.

    Raises:
        HttpError: 400: the request asks for more than a cap allows, or overrides what it may not.
    """
    override, caps = call.override, model.caps
    for name in override.__struct_fields__:
        value = getattr(override, name)
        if value not in (None, False) and name not in caps.overrides:
            raise _wrong(f"swift.{name}", f"cannot be overridden for the model {call.model!r}")
    n = override.n or max(model.n, call.n_choices)
    most = caps.n or model.n
    if not 1 <= n <= most or n < call.n_choices:
        param = "n" if call.n_choices > most or override.n is None else "swift.n"
        low = call.n_choices if call.n_choices <= most else 1
        raise _wrong(param, f"must be {low} to {most} for the model {call.model!r}")
    deadline = override.deadline if override.deadline is not None else model.deadline
    if deadline is not None and not 0 < deadline <= (caps.deadline or model.deadline or float("inf")):
        raise _wrong("swift.deadline", f"must be above 0 and at most {caps.deadline or model.deadline} seconds")
    return {
        "prompt": call.messages,
        "n": n,
        "deadline": deadline,
        "seed": call.seed,
        "stopping": override.stopping or model.stopping,
        "budget": _lower_budget(model.budget, override.budget),
        "on_reject": override.on_reject or model.on_reject,
        "reference": override.reference,
        "extra_body": _passed_fields(call.fields, model),
    }


def _passed_fields(fields: Mapping[str, Any], model: ModelConfig) -> dict[str, Any]:
    """Return the fields of upstream requests: the request's own over the model's defaults, lengths within the cap."""
    merged = {**model.sampling, **fields}
    if any(name in fields for name in _MAX_TOKENS_FIELDS):  # a default of the other name would contradict
        merged = {name: value for name, value in merged.items() if name in fields or name not in _MAX_TOKENS_FIELDS}
    most = model.caps.max_tokens
    if most is None:
        return merged
    limits = {name: merged[name] for name in _MAX_TOKENS_FIELDS if name in merged}
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise _wrong(name, f"must be a whole number from 1 to {most}")
    return merged if limits else {**merged, "max_tokens": most}


def _lower_budget(ours: BudgetConfig | None, theirs: BudgetConfig | None) -> Budget | None:
    """Return the lower of two budgets, limit by limit; None without any limit."""
    limits = {}
    for name in BudgetConfig.__struct_fields__:
        values = [
            value for budget in (ours, theirs) if budget is not None and (value := getattr(budget, name)) is not None
        ]
        if values:
            limits[name] = min(values)
    try:
        return Budget(**limits) if limits else None
    except ConfigurationError as error:
        raise _wrong("swift.budget", f"is wrong: {error.message}") from error


def _decode_object(data: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"The body is not valid JSON: {error}.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise HttpError(400, "The body must be a JSON object.", code="invalid_json")
    return body


def _parse_override(value: object) -> Override:
    try:
        return convert(value, Override, "swift")
    except ConfigurationError as error:
        raise HttpError(400, f"{error.message} {error.hint}".strip(), code="invalid_value", param="swift") from error


def _typed(body: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = body.get(name, default)
    if isinstance(value, kind):
        return value
    words = {str: "a text", bool: "true or false", list: "a list", dict: "an object"}
    raise _wrong(name, f"must be {words[kind]}" if name in body else "is missing")


def _whole_number(body: Mapping[str, Any], name: str, *, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(name, f"must be a whole number from {low} to {high}")
    return value


def _wrong(param: str, problem: str) -> HttpError:
    return HttpError(400, f"{param!r} {problem}.", code="invalid_value", param=param)
