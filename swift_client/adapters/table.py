"""The providers as data. A row holds what was known on its date; what a reply shows wins over it.

Evidence words: *recording* (real bytes read), *source* (server or SDK code read), *documentation*, *probe* (a dated
third-party live test), *prior* (common knowledge that nobody re-checked).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from swift_client.adapters.provider import Capabilities, Provider

_CHECKED = "2026-11-01"

_ROWS = (
    Provider(
        name="openai",
        base_url="https://api.openai.com/v1",
        base_url_variable="OPENAI_BASE_URL",
        key_variable="OPENAI_API_KEY",
        codec="openai_chat",
        default_model="gpt-4.1-mini",
        # gpt-5.1 and later give 5 alternatives, only at reasoning_effort="none", and say so in a 400; o-series none.
        capabilities=Capabilities(
            n_max=128,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECKED,
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
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECKED,
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
        capabilities=Capabilities(
            n_max=128,
            top_logprobs_max=5,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECKED,
            evidence="OpenAPI specification",
        ),
    ),
    Provider(
        name="azure",
        # The v1 route takes the deployment as `model`. The classic one (…/deployments/…?api-version=) needs
        # client=openai.AsyncAzureOpenAI(...). https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
        base_url=None,
        base_url_variable="AZURE_OPENAI_ENDPOINT",
        key_variable="AZURE_OPENAI_API_KEY",
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(
            n_max=128,
            top_logprobs_max=20,
            logprob_space="raw",
            checked=_CHECKED,
            evidence="documentation; SDK source; a deployment's name hides its model",
        ),
    ),
    Provider(
        name="pocket",
        base_url=None,  # a llama.cpp server on loopback that this process starts at the first request
        key_variable=None,
        codec="openai_chat",
        default_model="pocket",
        capabilities=Capabilities(
            n_max=16,  # PocketServer's slots
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECKED,
            evidence="source; packaged with this library",
        ),
    ),
    Provider(
        name="vllm",
        base_url="http://localhost:8000/v1",
        key_variable=None,
        codec="openai_chat",
        default_model=None,
        # --max-logprobs (20) and --logprobs-mode (raw_logprobs) are the server's own to change.
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECKED,
            evidence="recording; source (0.30)",
        ),
    ),
    Provider(
        name="sglang",
        base_url="http://localhost:30000/v1",
        key_variable=None,
        codec="openai_chat",
        default_model=None,
        # SGLANG_RETURN_ORIGINAL_LOGPROB=1 makes them raw. No cap on top_logprobs; 20 is where others stop.
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="after_temperature",
            checked=_CHECKED,
            evidence="recording; source (0.5.23)",
        ),
    ),
    Provider(
        name="llamacpp",
        base_url="http://localhost:8080/v1",
        key_variable=None,
        codec="openai_chat",
        default_model="default",  # the server has one model and takes any name
        # n goes up to --parallel; a 400 names the number. No cap on top_logprobs; 20 is where others stop.
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            checked=_CHECKED,
            evidence="recording; source (b11139)",
        ),
    ),
    Provider(
        name="ollama",
        base_url="http://localhost:11434/v1",
        base_url_variable="OLLAMA_HOST",
        key_variable=None,
        codec="openai_chat",
        default_model=None,
        # `n` is ignored in silence. Logprobs since 0.12.11; its cloud models give none.
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=20,
            logprob_space="raw",
            checked=_CHECKED,
            evidence="recording (0.34.3); source",
        ),
    ),
    Provider(
        name="lmstudio",
        base_url="http://localhost:1234/v1",
        key_variable=None,
        codec="openai_chat",
        default_model=None,
        # `n` is ignored in silence; an unknown route answers 200 with an error text.
        capabilities=Capabilities(
            n_max=1, top_logprobs_max=20, logprob_space="raw", checked=_CHECKED, evidence="probe"
        ),
    ),
    Provider(
        name="together",
        base_url="https://api.together.xyz/v1",
        base_url_variable="TOGETHER_BASE_URL",
        key_variable="TOGETHER_API_KEY",
        codec="openai_chat",
        default_model=None,
        logprobs_request="int",  # `logprobs: 5`, not `true`: https://docs.together.ai/docs/logprobs
        # n > 1 is refused without a temperature (inspect_ai's together.py); 1 is where every server means the same.
        extra_body=MappingProxyType({"temperature": 1.0}),
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            checked=_CHECKED,
            evidence="recording; SDK types; the largest n is unknown",
        ),
    ),
    Provider(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variable="FIREWORKS_API_KEY",
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(n_max=128, top_logprobs_max=5, checked=_CHECKED, evidence="SDK types"),
    ),
    Provider(
        name="deepseek",
        base_url="https://api.deepseek.com",
        key_variable="DEEPSEEK_API_KEY",
        codec="openai_chat",
        default_model="deepseek-v4-flash",  # deepseek-chat was retired on 2026-07-24
        # V4 thinks by default and refuses logprobs while it does: https://api-docs.deepseek.com/guides/thinking_mode
        extra_body=MappingProxyType({"thinking": {"type": "disabled"}}),
        capabilities=Capabilities(
            n_max=1,  # `n` is not documented
            top_logprobs_max=20,
            checked=_CHECKED,
            evidence="documentation; a probe of its alternatives disagreed with its own samples",
        ),
    ),
    Provider(
        name="xai",
        base_url="https://api.x.ai/v1",
        key_variable="XAI_API_KEY",
        codec="openai_chat",
        default_model=None,  # grok-4.20 and newer ignore logprobs in silence: none of them can be a default
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=8,
            logprob_space="after_temperature",
            checked=_CHECKED,
            evidence="SDK docstring; documentation; probe of grok-3-mini",
        ),
    ),
    Provider(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        codec="openai_chat",
        default_model="openai/gpt-4.1-mini",
        # Without it a host that drops logprobs in silence may be chosen: https://openrouter.ai/docs/features/provider-routing
        extra_body=MappingProxyType({"provider": {"require_parameters": True}}),
        capabilities=Capabilities(
            n_max=1,  # many hosts never see `n`
            top_logprobs_max=20,
            checked=_CHECKED,
            evidence="probe; differs by host",
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
        # "Logprobs is not enabled for models/...": all 50 models refused on 2026-08-22. Vertex gives them.
        capabilities=Capabilities(
            n_max=8,  # gemini-3-pro-preview takes 1, and says so in a 400
            top_logprobs_max=0,
            streams_logprobs=False,
            checked=_CHECKED,
            evidence="probe; documentation",
        ),
    ),
    Provider(
        name="vertex",
        # https://aiplatform.googleapis.com/v1/projects/PROJECT/locations/global/publishers/google
        base_url=None,
        # `gcloud auth print-access-token`; it lasts an hour, so pass a function of google-auth's as api_key=.
        key_variable="GOOGLE_OAUTH_ACCESS_TOKEN",
        codec="gemini",
        default_model="gemini-2.5-flash",
        # Gemini 3.5 Flash refuses logprobs in a 400.
        capabilities=Capabilities(
            n_max=8,
            top_logprobs_max=20,
            streams_logprobs=False,
            checked=_CHECKED,
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
            checked=_CHECKED,
            evidence="documentation; SDK types: no n, no logprobs, no seed",
        ),
    ),
    Provider(
        name="openai-compatible",
        base_url=None,
        key_variable=None,  # api_key= where it needs one: another vendor's key must not leak to it
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(
            n_max=None, top_logprobs_max=20, checked=_CHECKED, evidence="nothing is known; replies decide"
        ),
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in _ROWS})
"""Name → row."""
