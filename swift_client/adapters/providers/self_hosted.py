"""Servers that you run, and models that run in this process. ``evidence``: see the package's docstring."""

from __future__ import annotations

from types import MappingProxyType

from swift_client.adapters.providers.provider import chat_provider, known_capabilities

_TEMPERATURE_ONE = MappingProxyType({"temperature": 1.0})
"""For logprobs taken after temperature: at 1 they are the model's own; a server's default is not known."""

HUGGINGFACE = chat_provider(
    name="huggingface",  # no server: the model is a folder, a name on the hub or a GGUF file (adapters/local/model.py)
    capabilities=known_capabilities(
        n_max=None,
        top_logprobs_max=20,
        logprobs_known=True,
        streams_logprobs=False,
        logprob_space="raw",
        checked="2026-11-23",
        evidence="our own code and its tests",
    ),
)

SELF_HOSTED = (
    chat_provider(
        name="pocket",
        base_url=None,  # a llama.cpp server on loopback that this process starts at the first request
        default_model="pocket",
        capabilities=known_capabilities(
            n_max=16,  # PocketServer's slots
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            end_of_turn="listed",
            evidence="source; packaged with this library",
        ),
    ),
    chat_provider(
        name="vllm",
        base_url="http://localhost:8000/v1",
        # --max-logprobs (20) and --logprobs-mode (raw_logprobs) can be changed on the server.
        capabilities=known_capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            end_of_turn="listed",
            evidence="recording; source (0.30)",
        ),
    ),
    chat_provider(
        name="sglang",
        base_url="http://localhost:30000/v1",
        extra_body=_TEMPERATURE_ONE,
        # SGLANG_RETURN_ORIGINAL_LOGPROB=1 makes them raw. No cap on top_logprobs; 20 is the limit of others.
        capabilities=known_capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="after_temperature",
            end_of_turn="listed",
            evidence="recording; source (0.5.23)",
        ),
    ),
    chat_provider(
        name="llamacpp",
        base_url="http://localhost:8080/v1",
        default_model="default",  # the server has one model and takes any name
        # n goes up to --parallel; a 400 names the number. No cap on top_logprobs; 20 is the limit of others.
        capabilities=known_capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="raw",
            end_of_turn="listed",
            evidence="recording; source (b11139)",
        ),
    ),
    chat_provider(
        name="llama-cpp-python",
        base_url="http://localhost:8000/v1",
        default_model="default",
        # `n` is silently ignored. Logprobs are a 500 unless it runs with logits_all=True; then pass top_logprobs=.
        capabilities=known_capabilities(
            n_max=1, top_logprobs_max=0, logprob_space="raw", evidence="source (#1906, #1130)"
        ),
    ),
    chat_provider(
        name="ollama",
        base_url="http://localhost:11434/v1",
        base_url_variable="OLLAMA_HOST",
        # `n` is silently ignored. Logprobs since 0.12.11; its cloud models return none.
        capabilities=known_capabilities(
            n_max=1,
            top_logprobs_max=20,
            logprob_space="raw",
            end_of_turn="absent",
            evidence="recording (0.34.3); source",
        ),
    ),
    chat_provider(
        name="lmstudio",
        base_url="http://localhost:1234/v1",
        # `n` is silently ignored; an unknown route answers 200 with an error text.
        capabilities=known_capabilities(n_max=1, top_logprobs_max=20, logprob_space="raw", evidence="probe"),
    ),
    chat_provider(
        name="tgi",
        base_url="http://localhost:8080/v1",
        default_model="tgi",
        extra_body=_TEMPERATURE_ONE,
        # `n` is not used. Logprobs are taken after temperature and top_p: below 1, most of them are exact zeros.
        capabilities=known_capabilities(
            n_max=1,
            top_logprobs_max=5,
            logprob_space="after_temperature",
            end_of_turn="listed",
            evidence="recording; source",
        ),
    ),
    chat_provider(
        name="openai-compatible",
        key_variable=None,  # api_key= if it needs one: another vendor's key must not leak to it
        batches=True,
        capabilities=known_capabilities(n_max=None, top_logprobs_max=20, evidence="nothing is known; replies decide"),
    ),
    HUGGINGFACE,
)
"""In the order in which tables list them."""
