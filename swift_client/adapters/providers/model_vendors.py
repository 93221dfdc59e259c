"""The rows of those who make models. Evidence words: see table.py."""

from __future__ import annotations

from types import MappingProxyType

from swift_client.adapters.providers.openai_models import OPENAI_MODELS, make_overrides
from swift_client.adapters.providers.provider import Capabilities, Provider

_CHECK_DATE = "2026-11-01"

MODEL_VENDORS = (
    Provider(
        name="openai",
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        codec="openai_chat",
        default_model="gpt-4.1-mini",
        models=OPENAI_MODELS,
        batches=True,
        capabilities=Capabilities(
            n_max=128,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            end_of_turn="absent",
            checked=_CHECK_DATE,
            evidence="recording; OpenAPI specification",
        ),
    ),
    Provider(
        name="openai-responses",  # for models that chat does not know; there is no n and no seed
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        codec="openai_responses",
        default_model="gpt-4.1-mini",
        models=OPENAI_MODELS,
        batches=True,
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECK_DATE,
            evidence="recording; OpenAPI specification",
        ),
    ),
    Provider(
        name="openai-completions",  # with base_url=, the legacy door of any server: base models, your own template
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        codec="openai_completions",
        default_model="gpt-3.5-turbo-instruct",
        batches=True,
        capabilities=Capabilities(
            n_max=128,
            top_logprobs_max=5,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECK_DATE,
            evidence="OpenAPI specification",
        ),
    ),
    Provider(
        name="azure",
        # The v1 route takes the deployment as `model`. The classic one (…/deployments/…?api-version=) needs
        # client=openai.AsyncAzureOpenAI(...). https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
        base_url=None,
        base_path="/openai/v1",
        base_url_variable="AZURE_OPENAI_ENDPOINT",
        key_variable="AZURE_OPENAI_API_KEY",
        sign_in="azure",
        codec="openai_chat",
        default_model=None,
        models=OPENAI_MODELS,  # where the deployment is named after its model
        batches=True,
        capabilities=Capabilities(
            n_max=128,
            top_logprobs_max=20,
            logprob_space="raw",
            end_of_turn="absent",
            checked=_CHECK_DATE,
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
        models=(("gemini-3-pro*", make_overrides("issue thread (python-genai#1723)", n_max=1)),),
        # "Logprobs is not enabled for models/...": all 50 models refused on 2026-08-22. Vertex gives them.
        capabilities=Capabilities(
            n_max=8,
            top_logprobs_max=0,
            streams_logprobs=False,
            checked=_CHECK_DATE,
            evidence="probe; documentation",
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
            ("gemini-3.5-flash*", make_overrides("issue thread (generative-ai#2947)", top_logprobs_max=0)),
            ("gemini-2.5-flash-lite*", make_overrides("issue thread (think-reason-learn#34)", top_logprobs_max=0)),
            ("gemini-3-pro*", make_overrides("issue thread (python-genai#1723)", n_max=1)),
            ("gemini-3.1-pro*", make_overrides("issue thread (python-genai#1723)", n_max=4)),
        ),
        capabilities=Capabilities(
            n_max=8,
            top_logprobs_max=20,
            streams_logprobs=False,
            checked=_CHECK_DATE,
            evidence="recording; documentation",
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
        extra_body=MappingProxyType({"max_tokens": 4096}),  # the API demands a number; yours wins
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=0,
            checked=_CHECK_DATE,
            evidence="documentation; SDK types: no n, no logprobs, no seed",
        ),
    ),
    Provider(
        name="deepseek",
        base_url="https://api.deepseek.com",
        key_variable="DEEPSEEK_API_KEY",
        codec="openai_chat",
        default_model="deepseek-v4-flash",  # deepseek-chat was retired on 2026-07-24
        # V4 thinks by default and refuses logprobs while it does: https://api-docs.deepseek.com/guides/thinking_mode
        extra_body=MappingProxyType({"thinking": {"type": "disabled"}}),
        models=(
            ("deepseek-reasoner*", make_overrides("documentation: the two fields are an error", top_logprobs_max=0)),
        ),
        capabilities=Capabilities(
            n_max=1,  # `n` is not documented
            top_logprobs_max=20,
            thinking="by_default",
            checked=_CHECK_DATE,
            evidence="documentation; a probe of its alternatives disagreed with its own samples",
        ),
    ),
    Provider(
        name="xai",
        base_url="https://api.x.ai/v1",
        key_variable="XAI_API_KEY",
        codec="openai_chat",
        default_model=None,
        extra_body=MappingProxyType({"temperature": 1.0}),  # as its logprobs are taken after temperature
        models=(  # "These fields will be silently ignored": none of them can be a default
            ("grok-4.[2-9]*", make_overrides("documentation", top_logprobs_max=0)),
            ("grok-[5-9]*", make_overrides("prior: newer than grok-4.20", top_logprobs_max=0)),
            ("grok-[1-9][0-9]*", make_overrides("prior: newer than grok-4.20", top_logprobs_max=0)),
        ),
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=8,
            logprob_space="after_temperature",
            checked=_CHECK_DATE,
            evidence="SDK docstring; documentation; probe of grok-3-mini",
        ),
    ),
    Provider(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_variable="MISTRAL_API_KEY",
        codec="openai_chat",
        default_model=None,
        logprobs_request="none",
        # "Input tokens are only billed once" for n completions.
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=0,
            checked=_CHECK_DATE,
            evidence="SDK source: n is there, logprobs are not",
        ),
    ),
    Provider(
        name="cohere",
        base_url="https://api.cohere.ai/compatibility/v1",
        key_variable="CO_API_KEY",
        codec="openai_chat",
        default_model=None,
        logprobs_request="none",
        # Its own v2 door gives chosen logprobs without alternatives; the compatible one gives texts.
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=0,
            checked=_CHECK_DATE,
            evidence="SDK source",
        ),
    ),
    Provider(
        name="moonshot",
        base_url="https://api.moonshot.ai/v1",
        key_variable="MOONSHOT_API_KEY",
        codec="openai_chat",
        default_model=None,
        # A temperature below 0.3 with n > 1 is refused or gives one answer.
        capabilities=Capabilities(
            n_max=5,
            top_logprobs_max=20,
            checked=_CHECK_DATE,
            evidence="SDK source (litellm, inspect_ai); the longest list is unknown",
        ),
    ),
    Provider(
        name="perplexity",
        base_url="https://api.perplexity.ai",
        key_variable="PERPLEXITY_API_KEY",
        codec="openai_chat",
        default_model=None,
        logprobs_request="none",
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=0,
            checked=_CHECK_DATE,
            evidence="prior",
        ),
    ),
)
"""In the order in which tables show them."""
