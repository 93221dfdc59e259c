"""Tests on recorded replies of real servers."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from swift_client.adapters.codecs import anthropic, openai_completions, openai_responses
from swift_client.errors import ProviderError
from tests.codecs.recorded import RECORDINGS, recorded

CODEC_OF_PATH = {"/v1/responses": openai_responses, "/v1/messages": anthropic}
SERVERS = ("vllm", "llamacpp", "ollama")


def cases(server: str) -> list[tuple[ModuleType, dict[str, Any]]]:
    recorded_cases = json.loads((RECORDINGS / server / "cases.json").read_text())["cases"]
    return [
        (CODEC_OF_PATH[case["path"]], case)
        for case in recorded_cases
        if case["path"] in CODEC_OF_PATH and "body" in case
    ]


@recorded
@pytest.mark.parametrize("server", SERVERS)
def test_local_servers_replies_from_their_other_endpoints_parse(server: str):
    n_replies = 0
    for codec, case in cases(server):
        data = json.dumps(case["body"]).encode()
        if case["status"] != 200:
            with pytest.raises(ProviderError) as excinfo:
                codec.parse(data)
            assert case["body"]["error"]["message"] in str(excinfo.value)
            continue
        n_replies += 1
        reply = codec.parse(data)
        (completion,) = reply.completions
        assert "".join(completion.tokens) in ("", completion.text)
        assert np.isfinite(completion.logprobs).all()
        usage = case["body"]["usage"]
        cached = sum(usage.get(f"cache_{kind}_input_tokens") or 0 for kind in ("creation", "read"))
        assert reply.usage.prompt_tokens == usage["input_tokens"] + cached
        assert (reply.usage.completion_tokens, reply.usage.estimated) == (usage["output_tokens"], False)
        assert reply.notes == ()
        if not completion.text:  # they thought until the budget was used up
            assert completion.finish_reason == "length"
    assert n_replies >= 6


@recorded
def test_vllms_response_has_the_answers_token_without_the_end_of_turn():
    (case,) = [case for _, case in cases("vllm") if case["name"] == "responses-thinking-off-logprobs"]
    (completion,) = openai_responses.parse(json.dumps(case["body"]).encode()).completions
    assert (completion.text, completion.tokens) == ("A", ("A",))
    np.testing.assert_allclose(completion.top_logprobs[0, :2], [-0.0007475204, -8.2507477], rtol=1e-6)


@recorded
def test_tgis_legacy_stream_of_several_choices_parses():
    name = "test_completion_prompts_test_flash_llama_completion_many_prompts_stream.json"
    chunks = json.loads((RECORDINGS / "tgi" / name).read_text())
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    reply = openai_completions.parse(stream)
    assert [(completion.index, completion.finish_reason) for completion in reply.completions] == [
        (index, "length") for index in range(4)
    ]
    assert reply.completions[0].text.startswith(" A Beginner")
    assert reply.notes == ()
