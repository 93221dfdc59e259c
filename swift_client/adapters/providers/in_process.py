"""The row of models that run in this process."""

from __future__ import annotations

from swift_client.adapters.providers.provider import Capabilities, Provider

IN_PROCESS = (
    Provider(
        name="huggingface",  # no server: a folder, a hub name or a GGUF file as the model (huggingface.py)
        base_url=None,
        key_variable=None,
        codec="openai_chat",
        default_model=None,
        capabilities=Capabilities(
            n_max=None,
            top_logprobs_max=20,
            logprobs_known=True,
            streams_logprobs=False,
            logprob_space="raw",
            checked="2026-11-23",
            evidence="our own code and its tests",
        ),
    ),
)
