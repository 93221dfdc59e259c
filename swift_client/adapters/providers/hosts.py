"""Providers that host other vendors' models. The words of ``evidence`` are explained in the package's docstring."""

from __future__ import annotations

from types import MappingProxyType

from swift_client.adapters.providers.model_vendors import add_prefix
from swift_client.adapters.providers.provider import chat_provider, known_capabilities, model_overrides

_NO_LOGPROBS = model_overrides("probe", top_logprobs_max=0)

HOSTS = (
    chat_provider(
        name="together",
        base_url="https://api.together.xyz/v1",
        base_url_variable="TOGETHER_BASE_URL",
        key_variable="TOGETHER_API_KEY",
        logprobs_request="int",  # `logprobs: 5`, not `true`: https://docs.together.ai/docs/logprobs
        # n > 1 is refused without a temperature (inspect_ai's together.py); 1 means the same on every server.
        extra_body=MappingProxyType({"temperature": 1.0}),
        batches=True,
        capabilities=known_capabilities(
            n_max=None, top_logprobs_max=20, evidence="recording; SDK types; the largest n is unknown"
        ),
    ),
    chat_provider(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variable="FIREWORKS_API_KEY",
        capabilities=known_capabilities(n_max=128, top_logprobs_max=5, evidence="SDK types"),
    ),
    chat_provider(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        default_model="openai/gpt-4.1-mini",
        # Without it OpenRouter may choose a host that silently drops logprobs: https://openrouter.ai/docs/features/provider-routing
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
        capabilities=known_capabilities(
            n_max=1,  # many hosts never see `n`
            top_logprobs_max=20,
            evidence="probe; differs by host",
        ),
    ),
    chat_provider(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        logprobs_request="none",
        # Both are a 400: "n" above 1, and "`logprobs` is not supported with this model" for every model.
        batches=True,
        capabilities=known_capabilities(
            n_max=1, top_logprobs_max=0, evidence="documentation; probe of the whole catalogue"
        ),
    ),
    chat_provider(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_variable="CEREBRAS_API_KEY",
        capabilities=known_capabilities(n_max=1, top_logprobs_max=20, evidence="probe through OpenRouter; prior for n"),
    ),
    chat_provider(
        name="sambanova",
        base_url="https://api.sambanova.ai/v1",
        key_variable="SAMBANOVA_API_KEY",
        logprobs_request="none",
        capabilities=known_capabilities(n_max=1, top_logprobs_max=0, evidence="prior"),
    ),
    chat_provider(
        name="dashscope",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        key_variable="DASHSCOPE_API_KEY",
        capabilities=known_capabilities(
            n_max=4, top_logprobs_max=5, evidence="probe; prior for n, which only some models take"
        ),
    ),
    chat_provider(
        name="databricks",
        base_path="/serving-endpoints",
        base_url_variable="DATABRICKS_HOST",
        key_variable="DATABRICKS_TOKEN",
        # https://WORKSPACE/serving-endpoints; the endpoint is the model.
        capabilities=known_capabilities(
            n_max=None, top_logprobs_max=20, evidence="SDK source (litellm) for n; prior for logprobs"
        ),
    ),
    chat_provider(
        name="nim",
        base_url="https://integrate.api.nvidia.com/v1",
        key_variable="NVIDIA_API_KEY",
        capabilities=known_capabilities(
            n_max=None, top_logprobs_max=20, evidence="prior: most of it is vLLM, some TensorRT-LLM"
        ),
    ),
    chat_provider(
        name="bedrock",
        base_path="/v1",
        key_variable="AWS_BEARER_TOKEN_BEDROCK",
        models=add_prefix("*openai."),  # a region may precede it: "us.openai.gpt-5.4"
        # https://bedrock-mantle.REGION.api.aws/v1, the OpenAI-compatible API; Converse has neither n nor logprobs.
        capabilities=known_capabilities(
            n_max=None, top_logprobs_max=20, evidence="SDK source (litellm); recording of the host"
        ),
    ),
)
"""In the order in which tables list them."""
