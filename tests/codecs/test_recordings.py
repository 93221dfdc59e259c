"""Every recorded reply of a real server that belongs to one of these codecs parses as its recorder says."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from swift_client.adapters.codecs import anthropic, openai_completions, openai_responses
from swift_client.errors import ProviderError
from tests.codecs.recorded import RECORDINGS, recorded

DOORS = {"/v1/responses": openai_responses, "/v1/messages": anthropic}
SERVERS = ("vllm", "llamacpp", "ollama")


def cases(server: str) -> list[tuple[ModuleType, dict[str, Any]]]:
    found = json.loads((RECORDINGS / server / "cases.json").read_text())["cases"]
    return [(DOORS[case["path"]], case) for case in found if case["path"] in DOORS and "body" in case]


@recorded
@pytest.mark.parametrize("server", SERVERS)
def test_local_servers_replies_through_their_other_doors_parse(server: str):
    seen = 0
    for codec, case in cases(server):
        data = json.dumps(case["body"]).encode()
        if case["status"] != 200:
            with pytest.raises(ProviderError) as caught:
                codec.parse(data)
            assert case["body"]["error"]["message"] in str(caught.value)
            continue
        seen += 1
        read = codec.parse(data)
        (got,) = read.completions
        assert "".join(got.tokens) in ("", got.text)
        assert np.isfinite(got.logprobs).all()
        usage = case["body"]["usage"]
        cached = sum(usage.get(f"cache_{kind}_input_tokens") or 0 for kind in ("creation", "read"))
        assert read.usage.prompt_tokens == usage["input_tokens"] + cached
        assert (read.usage.completion_tokens, read.usage.estimated) == (usage["output_tokens"], False)
        assert read.notes == ()
        if not got.text:  # they thought until the budget was used up
            assert got.finish_reason == "length"
    assert seen >= 6


@recorded
def test_vllms_response_has_the_answers_token_without_the_end_of_turn():
    (case,) = [case for _, case in cases("vllm") if case["name"] == "responses-thinking-off-logprobs"]
    (got,) = openai_responses.parse(json.dumps(case["body"]).encode()).completions
    assert (got.text, got.tokens) == ("A", ("A",))
    np.testing.assert_allclose(got.top_logprobs[0, :2], [-0.0007475204, -8.2507477], rtol=1e-6)


@recorded
def test_tgis_legacy_stream_of_several_choices_parses():
    name = "test_completion_prompts_test_flash_llama_completion_many_prompts_stream.json"
    chunks = json.loads((RECORDINGS / "tgi" / name).read_text())
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    read = openai_completions.parse(stream)
    assert [(item.index, item.finish_reason) for item in read.completions] == [(at, "length") for at in range(4)]
    assert read.completions[0].text.startswith(" A Beginner")
    assert read.notes == ()
