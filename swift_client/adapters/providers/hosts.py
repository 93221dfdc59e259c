"""The rows of those who host the models of others. Evidence words: see table.py."""

from __future__ import annotations

from types import MappingProxyType

from swift_client.adapters.providers.openai_models import add_prefix, make_overrides
from swift_client.adapters.providers.provider import Capabilities, Provider

_CHECK_DATE = "2026-11-01"
_NO_LOGPROBS = make_overrides("probe", top_logprobs_max=0)

HOSTS = (
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
        batches=True,
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            checked=_CHECK_DATE,
            evidence="recording; SDK types; the largest n is unknown",
        ),
    ),
    Provider(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variable="FIREWORKS_API_KEY",
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(n_max=128, top_logprobs_max=5, checked=_CHECK_DATE, evidence="SDK types"),
    ),
    Provider(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        codec="openai_chat",
        default_model="openai/gpt-4.1-mini",
        # Without it a host that drops logprobs in silence may be chosen: https://openrouter.ai/docs/features/provider-routing
        extra_body=MappingProxyType({"provider": {"require_parameters": True}}),
        models=(
            *add_prefix("openai/"),
            ("anthropic/*", _NO_LOGPROBS),
            ("google/gemini*", _NO_LOGPROBS),
            ("x-ai/*", _NO_LOGPROBS),
            ("meta-llama/llama-4-maverick*", _NO_LOGPROBS),
            ("moonshotai/kimi-k2.6*", _NO_LOGPROBS),
            ("z-ai/glm-5.2*", _NO_LOGPROBS),
        ),
        capabilities=Capabilities(
            n_max=1,  # many hosts never see `n`
            top_logprobs_max=20,
            checked=_CHECK_DATE,
            evidence="probe; differs by host",
        ),
    ),
    Provider(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        codec="openai_chat",
        default_model=None,
        logprobs_request="none",
        # Both are a 400: "n" above 1, and "`logprobs` is not supported with this model" for every model.
        batches=True,
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=0,
            checked=_CHECK_DATE,
            evidence="documentation; probe of the whole catalogue",
        ),
    ),
    Provider(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_variable="CEREBRAS_API_KEY",
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=20,
            checked=_CHECK_DATE,
            evidence="probe through OpenRouter; prior for n",
        ),
    ),
    Provider(
        name="sambanova",
        base_url="https://api.sambanova.ai/v1",
        key_variable="SAMBANOVA_API_KEY",
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
    Provider(
        name="dashscope",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        key_variable="DASHSCOPE_API_KEY",
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(
            n_max=4,
            top_logprobs_max=5,
            checked=_CHECK_DATE,
            evidence="probe; prior for n, which only some models take",
        ),
    ),
    Provider(
        name="databricks",
        base_url=None,
        base_path="/serving-endpoints",
        base_url_variable="DATABRICKS_HOST",
        key_variable="DATABRICKS_TOKEN",
        codec="openai_chat",
        default_model=None,
        # https://WORKSPACE/serving-endpoints; the endpoint is the model.
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            checked=_CHECK_DATE,
            evidence="SDK source (litellm) for n; prior for logprobs",
        ),
    ),
    Provider(
        name="nim",
        base_url="https://integrate.api.nvidia.com/v1",
        key_variable="NVIDIA_API_KEY",
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            checked=_CHECK_DATE,
            evidence="prior: most of it is vLLM, some TensorRT-LLM",
        ),
    ),
    Provider(
        name="bedrock",
        base_url=None,
        base_path="/v1",
        key_variable="AWS_BEARER_TOKEN_BEDROCK",
        codec="openai_chat",
        default_model=None,
        models=add_prefix("*openai."),  # a region may stand before it: "us.openai.gpt-5.4"
        # https://bedrock-mantle.REGION.api.aws/v1, the OpenAI-compatible door; Converse has neither n nor logprobs.
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            checked=_CHECK_DATE,
            evidence="SDK source (litellm); recording of the host",
        ),
    ),
)
"""In the order in which tables show them."""
