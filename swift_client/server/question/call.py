"""One call of the service in the terms of chat completions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.server.config import BudgetConfig
from swift_client.server.config.strict_convert import convert
from swift_client.server.http.error_reply import HttpError


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
        select: "auto", "vote", "best" or "consensus".
        answer: Name of an answer reader; "none": answers are not compared.
        verifier: False: the verifier of the model does not judge.
        head: Name of one of the model's ``heads``.
    """

    n: int | None = None
    deadline: float | None = None
    stopping: str | None = None
    budget: BudgetConfig | None = None
    on_reject: Literal["return", "abstain", "escalate"] | None = None
    reference: str | None = None
    texts: bool = False
    select: Literal["auto", "vote", "best", "consensus"] | None = None
    answer: str | None = None
    verifier: bool | None = None
    head: str | None = None


@dataclass(frozen=True, kw_only=True)
class ChatCall:
    """One request to the service, of the right types but not yet checked against its virtual model.

    Attributes:
        model: Name of the virtual model.
        messages: Messages of the chat.
        n_choices: Choices that the reply has.
        stream: Whether the reply is streamed.
        include_usage: Whether a streamed chat has a last chunk with the usage.
        wants_logprobs: Whether the reply has the logprobs of the chosen tokens.
        wants_function_call: Whether the reply has the legacy form of tool calls, asked for by ``functions``.
        seed: Seed of the first completion.
        override: Settings of this request.
        fields: Fields of the request that go upstream unchanged.
        repeated: Members of the reply that repeat its request; a chat has none.
    """

    model: str
    messages: list[dict[str, Any]]
    n_choices: int = 1
    stream: bool = False
    include_usage: bool = False
    wants_logprobs: bool = False
    wants_function_call: bool = False
    seed: int | None = None
    override: Override = field(default_factory=Override)
    fields: Mapping[str, Any] = field(default_factory=dict)
    repeated: Mapping[str, Any] = field(default_factory=dict)


def parse_override(value: object) -> Override:
    """Read the field ``swift`` of a body. Raises HttpError with status 400 for unknown names and wrong values."""
    try:
        return convert(value, Override, "swift")
    except ConfigurationError as error:
        raise HttpError(400, f"{error.message} {error.hint}".strip(), code="invalid_value", param="swift") from error
