"""A call as arguments of ``best_of``, within the caps of its virtual model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swift_client.errors import ConfigurationError
from swift_client.sampling import Budget
from swift_client.server.config import BudgetConfig, ModelConfig
from swift_client.server.question.body_fields import invalid_field
from swift_client.server.question.call import ChatCall, Override

_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
# Names of the length in the APIs of some servers, which would pass by a cap.
_OTHER_LENGTH_FIELDS = frozenset(
    ["max_new_tokens", "max_output_tokens", "max_gen_len", "max_length", "n_predict", "num_predict", "options"]
)


def create_arguments(call: ChatCall, model: ModelConfig) -> dict[str, Any]:
    """Return the arguments of ``best_of`` for a call, within the caps of its virtual model.

    Raises:
        HttpError: 400: the request asks for more than a cap allows, or overrides what it may not.
    """
    override, defaults, caps = call.override, Override(), model.caps
    for name in override.__struct_fields__:
        if getattr(override, name) != getattr(defaults, name) and name not in caps.overrides:
            raise invalid_field(f"swift.{name}", f"cannot be overridden for the model {call.model!r}")
    n = override.n or max(model.n, call.n_choices)
    most = caps.n or model.n
    if not 1 <= n <= most or n < call.n_choices:
        param = "n" if call.n_choices > most or override.n is None else "swift.n"
        low = call.n_choices if call.n_choices <= most else 1
        raise invalid_field(param, f"must be {low} to {most} for the model {call.model!r}")
    deadline = override.deadline if override.deadline is not None else model.deadline
    if deadline is not None and not 0 < deadline <= (caps.deadline or model.deadline or float("inf")):
        raise invalid_field("swift.deadline", f"must be above 0 and at most {caps.deadline or model.deadline} seconds")
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
    for name in _OTHER_LENGTH_FIELDS & fields.keys():
        raise invalid_field(name, "cannot be sent to this model, whose length has a cap: send max_tokens")
    limits = {name: merged[name] for name in _MAX_TOKENS_FIELDS if name in merged}
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise invalid_field(name, f"must be a whole number from 1 to {most}")
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
        raise invalid_field("swift.budget", f"is wrong: {error.message}") from error
