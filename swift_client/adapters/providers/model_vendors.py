"""Providers that make models, and OpenAI's models by name. ``evidence``: see the package's docstring.

Sources for OpenAI's models: pydantic-ai's ``profiles/openai.py`` (each cell checked against the live API, 2026-07),
cardinal-harness' ``docs/LOGPROBS.md`` (live probes), litellm's model map. Names come in families, so these are
patterns. A name is only a guess; the model's own answers override it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from swift_client.adapters.providers.provider import (
    ModelOverrides,
    Provider,
    chat_provider,
    known_capabilities,
    model_overrides,
)

# 403 "You are not allowed to request logprobs from this model", or a 400 on the parameter.
_NO_LOGPROBS = model_overrides("probe; SDK source", top_logprobs_max=0, logprobs_known=False, thinking="always")
# 400 "integer must be between 0 and 5". Lists are cut by mass: a certain token may come with one alternative.
_TOP_FIVE: Mapping[str, Any] = {"top_logprobs_max": 5, "logprobs_known": False, "logprob_space": "unknown"}

OPENAI_MODELS: ModelOverrides = (
    ("gpt-5*-chat*", _NO_LOGPROBS),
    ("gpt-5*-codex*", _NO_LOGPROBS),
    ("gpt-5*-pro*", _NO_LOGPROBS),
    ("gpt-5.[1-4]*", model_overrides("probe; SDK source", **_TOP_FIVE, thinking="on_request")),
    ("gpt-5.[5-9]*", model_overrides("probe; SDK source", **_TOP_FIVE, thinking="by_default")),
    ("gpt-5*", _NO_LOGPROBS),
    ("gpt-6-astra*", _NO_LOGPROBS),
    ("gpt-6-rosalind*", _NO_LOGPROBS),
    ("gpt-6.1-sol*", _NO_LOGPROBS),
    ("gpt-6*", model_overrides("prior: taken for like gpt-5.6", **_TOP_FIVE, thinking="by_default")),
    ("*deep-research*", _NO_LOGPROBS),
    ("o[1-9]*", _NO_LOGPROBS),
    ("codex-mini*", _NO_LOGPROBS),  # an o4-mini
    ("gpt-4-1106*", model_overrides("issue threads", top_logprobs_max=0, logprobs_known=False)),
    ("gpt-4-vision*", model_overrides("issue threads", top_logprobs_max=0, logprobs_known=False)),
)
"""(pattern, facts), most specific first; gpt-4o, gpt-4.1 and older models are as the provider's row says."""


def add_prefix(prefix: str, models: ModelOverrides = OPENAI_MODELS) -> ModelOverrides:
    """Return the patterns of a gateway that puts ``prefix`` before each name, such as "openai/"."""
    return tuple((prefix + pattern, facts) for pattern, facts in models)


MODEL_VENDORS = (
    chat_provider(
        name="openai",
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        default_model="gpt-4.1-mini",
        models=OPENAI_MODELS,
        batches=True,
        capabilities=known_capabilities(
            n_max=128,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            end_of_turn="absent",
            evidence="recording; OpenAPI specification",
        ),
    ),
    Provider(
        name="openai-responses",  # for models that chat does not know; it has no n and no seed
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        codec="openai_responses",
        default_model="gpt-4.1-mini",
        models=OPENAI_MODELS,
        batches=True,
        capabilities=known_capabilities(
            n_max=1,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            evidence="recording; OpenAPI specification",
        ),
    ),
    Provider(
        name="openai-completions",  # with base_url=, the legacy API of any server: base models, your own template
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        codec="openai_completions",
        default_model="gpt-3.5-turbo-instruct",
        batches=True,
        capabilities=known_capabilities(
            n_max=128, top_logprobs_max=5, logprobs_known=True, logprob_space="raw", evidence="OpenAPI specification"
        ),
    ),
    chat_provider(
        name="azure",
        # The v1 route takes the deployment as `model`. The classic one (…/deployments/…?api-version=) needs
        # client=openai.AsyncAzureOpenAI(...). https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
        base_path="/openai/v1",
        base_url_variable="AZURE_OPENAI_ENDPOINT",
        key_variable="AZURE_OPENAI_API_KEY",
        sign_in="azure",
        models=OPENAI_MODELS,  # if the deployment is named after its model
        batches=True,
        capabilities=known_capabilities(
            n_max=128,
            top_logprobs_max=20,
            logprob_space="raw",
            end_of_turn="absent",
            evidence="documentation; SDK source; a deployment's name hides its model",
        ),
    ),
    Provider(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        base_url_variable="GOOGLE_GEMINI_BASE_URL",
        key_variable="GEMINI_API_KEY",
        key_header="x-goog-api-key",
        codec="gemini",
        default_model="gemini-2.5-flash",
        models=(("gemini-3-pro*", model_overrides("issue thread (python-genai#1723)", n_max=1)),),
        # "Logprobs is not enabled for models/...": all 50 models refused on 2026-08-22. Vertex returns them.
        capabilities=known_capabilities(
            n_max=8, top_logprobs_max=0, streams_logprobs=False, evidence="probe; documentation"
        ),
    ),
    Provider(
        name="vertex",
        # https://aiplatform.googleapis.com/v1/projects/PROJECT/locations/global/publishers/google
        base_url=None,
        # `gcloud auth print-access-token`; it lasts an hour. Without it google-auth signs in (extra "vertex").
        key_variable="GOOGLE_OAUTH_ACCESS_TOKEN",
        sign_in="google",
        codec="gemini",
        default_model="gemini-2.5-flash",
        models=(
            ("gemini-3.5-flash*", model_overrides("issue thread (generative-ai#2947)", top_logprobs_max=0)),
            ("gemini-2.5-flash-lite*", model_overrides("issue thread (think-reason-learn#34)", top_logprobs_max=0)),
            ("gemini-3-pro*", model_overrides("issue thread (python-genai#1723)", n_max=1)),
            ("gemini-3.1-pro*", model_overrides("issue thread (python-genai#1723)", n_max=4)),
        ),
        capabilities=known_capabilities(
            n_max=8, top_logprobs_max=20, streams_logprobs=False, evidence="recording; documentation"
        ),
    ),
    Provider(
        name="anthropic",
        base_url="https://api.anthropic.com/v1",
        base_url_variable="ANTHROPIC_BASE_URL",
        key_variable="ANTHROPIC_API_KEY",
        key_header="x-api-key",
        headers=MappingProxyType({"anthropic-version": "2023-06-01"}),
        codec="anthropic",
        default_model="claude-haiku-4-5",
        logprobs_request="none",
        extra_body=MappingProxyType({"max_tokens": 4096}),  # the API requires a number; the caller's wins
        capabilities=known_capabilities(
            n_max=1, top_logprobs_max=0, evidence="documentation; SDK types: no n, no logprobs, no seed"
        ),
    ),
    chat_provider(
        name="deepseek",
        base_url="https://api.deepseek.com",
        key_variable="DEEPSEEK_API_KEY",
        default_model="deepseek-v4-flash",  # deepseek-chat was retired on 2026-07-24
        # V4 thinks by default and refuses logprobs while it does: https://api-docs.deepseek.com/guides/thinking_mode
        extra_body=MappingProxyType({"thinking": {"type": "disabled"}}),
        models=(
            ("deepseek-reasoner*", model_overrides("documentation: the two fields are an error", top_logprobs_max=0)),
        ),
        capabilities=known_capabilities(
            n_max=1,  # `n` is not documented
            top_logprobs_max=20,
            thinking="by_default",
            evidence="documentation; a probe of its alternatives disagreed with its own samples",
        ),
    ),
    chat_provider(
        name="xai",
        base_url="https://api.x.ai/v1",
        key_variable="XAI_API_KEY",
        extra_body=MappingProxyType({"temperature": 1.0}),  # as its logprobs are taken after temperature
        models=(  # "These fields will be silently ignored": none of them can be a default
            ("grok-4.[2-9]*", model_overrides("documentation", top_logprobs_max=0)),
            ("grok-[5-9]*", model_overrides("prior: newer than grok-4.20", top_logprobs_max=0)),
            ("grok-[1-9][0-9]*", model_overrides("prior: newer than grok-4.20", top_logprobs_max=0)),
        ),
        capabilities=known_capabilities(
            n_max=None,
            top_logprobs_max=8,
            logprob_space="after_temperature",
            evidence="SDK docstring; documentation; probe of grok-3-mini",
        ),
    ),
    chat_provider(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_variable="MISTRAL_API_KEY",
        logprobs_request="none",
        # "Input tokens are only billed once" for n completions.
        capabilities=known_capabilities(
            n_max=None, top_logprobs_max=0, evidence="SDK source: n is there, logprobs are not"
        ),
    ),
    chat_provider(
        name="cohere",
        base_url="https://api.cohere.ai/compatibility/v1",
        key_variable="CO_API_KEY",
        logprobs_request="none",
        # Its own v2 API returns chosen logprobs without alternatives; the compatible API returns only text.
        capabilities=known_capabilities(n_max=1, top_logprobs_max=0, evidence="SDK source"),
    ),
    chat_provider(
        name="moonshot",
        base_url="https://api.moonshot.ai/v1",
        key_variable="MOONSHOT_API_KEY",
        # A temperature below 0.3 with n > 1 is refused or returns one answer.
        capabilities=known_capabilities(
            n_max=5, top_logprobs_max=20, evidence="SDK source (litellm, inspect_ai); the longest list is unknown"
        ),
    ),
    chat_provider(
        name="perplexity",
        base_url="https://api.perplexity.ai",
        key_variable="PERPLEXITY_API_KEY",
        logprobs_request="none",
        capabilities=known_capabilities(n_max=1, top_logprobs_max=0, evidence="prior"),
    ),
)
"""In the order in which tables list them."""
