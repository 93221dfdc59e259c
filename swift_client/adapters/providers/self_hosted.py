"""The rows of servers that you, or this package, run. Evidence words: see table.py."""

from __future__ import annotations

from types import MappingProxyType

from swift_client.adapters.providers.provider import Capabilities, Provider

_CHECK_DATE = "2026-11-01"
_TEMPERATURE_ONE = MappingProxyType({"temperature": 1.0})
"""Where logprobs are taken after temperature: at 1 they are the model's, and a server's own default is its secret."""

SELF_HOSTED = (
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
            end_of_turn="listed",
            checked=_CHECK_DATE,
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
            end_of_turn="listed",
            checked=_CHECK_DATE,
            evidence="recording; source (0.30)",
        ),
    ),
    Provider(
        name="sglang",
        base_url="http://localhost:30000/v1",
        key_variable=None,
        codec="openai_chat",
        default_model=None,
        extra_body=_TEMPERATURE_ONE,
        # SGLANG_RETURN_ORIGINAL_LOGPROB=1 makes them raw. No cap on top_logprobs; 20 is where others stop.
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            logprob_space="after_temperature",
            end_of_turn="listed",
            checked=_CHECK_DATE,
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
            end_of_turn="listed",
            checked=_CHECK_DATE,
            evidence="recording; source (b11139)",
        ),
    ),
    Provider(
        name="llama-cpp-python",
        base_url="http://localhost:8000/v1",
        key_variable=None,
        codec="openai_chat",
        default_model="default",
        # `n` is ignored in silence. Logprobs are a 500 unless it runs with logits_all=True; then pass top_logprobs=.
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=0,
            logprob_space="raw",
            checked=_CHECK_DATE,
            evidence="source (#1906, #1130)",
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
            end_of_turn="absent",
            checked=_CHECK_DATE,
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
            n_max=1, top_logprobs_max=20, logprob_space="raw", checked=_CHECK_DATE, evidence="probe"
        ),
    ),
    Provider(
        name="tgi",
        base_url="http://localhost:8080/v1",
        key_variable=None,
        codec="openai_chat",
        default_model="tgi",
        extra_body=_TEMPERATURE_ONE,
        # `n` is not used. Logprobs are taken after temperature and top_p: below 1, most of them are exact zeros.
        capabilities=Capabilities(
            n_max=1,
            top_logprobs_max=5,
            logprob_space="after_temperature",
            end_of_turn="listed",
            checked=_CHECK_DATE,
            evidence="recording; source",
        ),
    ),
    Provider(
        name="openai-compatible",
        base_url=None,
        key_variable=None,  # api_key= where it needs one: another vendor's key must not leak to it
        codec="openai_chat",
        default_model=None,
        batches=True,
        capabilities=Capabilities(
            n_max=None, top_logprobs_max=20, checked=_CHECK_DATE, evidence="nothing is known; replies decide"
        ),
    ),
)
"""In the order in which tables show them."""
