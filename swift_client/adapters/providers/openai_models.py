"""OpenAI's models by name: which give logprobs, how many, and what thinking has to do with it.

Sources: pydantic-ai's ``profiles/openai.py`` (each cell checked against the live API, 2026-07), cardinal-harness'
``docs/LOGPROBS.md`` (live probes), litellm's model map. Names come in families, so these are patterns; a name is only a
guess, and what the model itself answers overrides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_CHECKED = "2026-11-01"

Models = tuple[tuple[str, Mapping[str, Any]], ...]


def facts(evidence: str, **different: Any) -> Mapping[str, Any]:
    """Return what differs for a family of models, with where that is known from."""
    return MappingProxyType({**different, "checked": _CHECKED, "evidence": evidence})


# 403 "You are not allowed to request logprobs from this model", or a 400 on the parameter.
_SILENT = facts("probe; SDK source", top_logprobs_max=0, logprobs_known=False, thinking="always")
# 400 "integer must be between 0 and 5", and lists are cut by mass: a sure token may come with one alternative.
_FIVE: Mapping[str, Any] = {"top_logprobs_max": 5, "logprobs_known": False, "logprob_space": "unknown"}

GPT_MODELS: Models = (
    ("gpt-5*-chat*", _SILENT),
    ("gpt-5*-codex*", _SILENT),
    ("gpt-5*-pro*", _SILENT),
    ("gpt-5.[1-4]*", facts("probe; SDK source", **_FIVE, thinking="on_request")),
    ("gpt-5.[5-9]*", facts("probe; SDK source", **_FIVE, thinking="by_default")),
    ("gpt-5*", _SILENT),
    ("gpt-6-astra*", _SILENT),
    ("gpt-6-rosalind*", _SILENT),
    ("gpt-6.1-sol*", _SILENT),
    ("gpt-6*", facts("prior: taken for like gpt-5.6", **_FIVE, thinking="by_default")),
    ("*deep-research*", _SILENT),
    ("o[1-9]*", _SILENT),
    ("codex-mini*", _SILENT),  # an o4-mini
    ("gpt-4-1106*", facts("issue threads", top_logprobs_max=0, logprobs_known=False)),
    ("gpt-4-vision*", facts("issue threads", top_logprobs_max=0, logprobs_known=False)),
)
"""(pattern, facts), the most specific first; gpt-4o, gpt-4.1 and older ones are as the row says."""


def prefixed(prefix: str, models: Models = GPT_MODELS) -> Models:
    """Return the same for a gateway that puts something before each name, such as "openai/"."""
    return tuple((prefix + pattern, facts) for pattern, facts in models)
