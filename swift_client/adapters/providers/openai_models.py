"""OpenAI's models by name: which give logprobs, how many, and what thinking has to do with it.

Sources: pydantic-ai's ``profiles/openai.py`` (each cell checked against the live API, 2026-07), cardinal-harness'
``docs/LOGPROBS.md`` (live probes), litellm's model map. Names come in families, so these are patterns; a name is only a
guess, and what the model itself answers overrides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_CHECK_DATE = "2026-11-01"

ModelOverrides = tuple[tuple[str, Mapping[str, Any]], ...]


def make_overrides(evidence: str, **fields: Any) -> Mapping[str, Any]:
    """Return what differs for a family of models, with where that is known from."""
    return MappingProxyType({**fields, "checked": _CHECK_DATE, "evidence": evidence})


# 403 "You are not allowed to request logprobs from this model", or a 400 on the parameter.
_NO_LOGPROBS = make_overrides("probe; SDK source", top_logprobs_max=0, logprobs_known=False, thinking="always")
# 400 "integer must be between 0 and 5", and lists are cut by mass: a sure token may come with one alternative.
_TOP_FIVE: Mapping[str, Any] = {"top_logprobs_max": 5, "logprobs_known": False, "logprob_space": "unknown"}

OPENAI_MODELS: ModelOverrides = (
    ("gpt-5*-chat*", _NO_LOGPROBS),
    ("gpt-5*-codex*", _NO_LOGPROBS),
    ("gpt-5*-pro*", _NO_LOGPROBS),
    ("gpt-5.[1-4]*", make_overrides("probe; SDK source", **_TOP_FIVE, thinking="on_request")),
    ("gpt-5.[5-9]*", make_overrides("probe; SDK source", **_TOP_FIVE, thinking="by_default")),
    ("gpt-5*", _NO_LOGPROBS),
    ("gpt-6-astra*", _NO_LOGPROBS),
    ("gpt-6-rosalind*", _NO_LOGPROBS),
    ("gpt-6.1-sol*", _NO_LOGPROBS),
    ("gpt-6*", make_overrides("prior: taken for like gpt-5.6", **_TOP_FIVE, thinking="by_default")),
    ("*deep-research*", _NO_LOGPROBS),
    ("o[1-9]*", _NO_LOGPROBS),
    ("codex-mini*", _NO_LOGPROBS),  # an o4-mini
    ("gpt-4-1106*", make_overrides("issue threads", top_logprobs_max=0, logprobs_known=False)),
    ("gpt-4-vision*", make_overrides("issue threads", top_logprobs_max=0, logprobs_known=False)),
)
"""(pattern, facts), the most specific first; gpt-4o, gpt-4.1 and older ones are as the row says."""


def add_prefix(prefix: str, models: ModelOverrides = OPENAI_MODELS) -> ModelOverrides:
    """Return the same for a gateway that puts something before each name, such as "openai/"."""
    return tuple((prefix + pattern, facts) for pattern, facts in models)
