"""Loopback judges: they read the question to a judge as any model would, and list logprobs for their verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from tests.servers import FaultServer, Received, Response, json_response

Judgement = Callable[[str], float]
"""From the text of a candidate to the probability that it is right; NaN lets the call fail with HTTP 500."""


def prompt_of(request: Received) -> str:
    """Return all text that a judge was sent."""
    return "\n".join(
        content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
        for content in (message["content"] for message in request.json["messages"])
    )


def is_verdict(request: Received) -> bool:
    """Return True if a request asks for a verdict, and not for an answer."""
    return re.search(r"\b(Yes or No|No or Yes|from A to J|A or B)\b", prompt_of(request)) is not None


def candidates_of(prompt: str) -> list[str]:
    """Return the texts between the tags of answers, in the order of their slots."""
    pattern = r"<(answer-(?:[AB]-)?\d+)>\n(.*?)\n</\1>"
    return [text for _, text in re.findall(pattern, prompt, re.DOTALL)]


def verdict(options: Mapping[str, float], *, logprobs: bool = True, usage: int = 50) -> Response:
    """Answer with the most probable option, and the logprobs of all."""
    ranked = sorted(options.items(), key=lambda item: -item[1])
    listed = [{"token": token, "logprob": math.log(max(p, 1e-9)), "bytes": list(token.encode())} for token, p in ranked]
    content = [{**listed[0], "top_logprobs": listed}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ranked[0][0]},
        "finish_reason": "stop",
        "logprobs": {"content": content} if logprobs else None,
    }
    tokens = {"prompt_tokens": usage, "completion_tokens": 1, "total_tokens": usage + 1}
    return json_response({"model": "judge", "choices": [choice], "usage": tokens})


def judge_by(judgement: Judgement, *, bias: float = 0.0, logprobs: bool = True) -> Callable[[Received], Response]:
    """Return a server's function that judges in all three modes.

    Args:
        judgement: the probability that a candidate is right.
        bias: log odds by which the option, or the answer, that is named first is preferred.
        logprobs: whether to list them.
    """

    def serve(request: Received) -> Response:
        prompt = prompt_of(request)
        values = [judgement(text) for text in candidates_of(prompt)]
        if any(map(math.isnan, values)):
            return json_response({"error": {"message": "the judge is down", "type": "server_error"}}, 500)
        log_odds = [math.log(value / (1 - value)) for value in values]
        if len(values) == 2:
            p = 1 / (1 + math.exp(-(log_odds[0] - log_odds[1] + bias)))
            return verdict({"A": p, "B": 1 - p}, logprobs=logprobs)
        if "from A to J" in prompt:
            letter = "ABCDEFGHIJ"[round((1 - values[0]) * 9)]
            return verdict({letter: 0.99, "x": 0.01}, logprobs=logprobs)
        p = 1 / (1 + math.exp(-(log_odds[0] + (bias if "Yes or No" in prompt else -bias))))
        return verdict({"Yes": p, "No": 1 - p}, logprobs=logprobs)

    return serve


def let_judge(server: FaultServer, judgement: Judgement) -> None:
    """Let a server judge by ``judgement``, besides its regular answers."""
    judge = judge_by(judgement)
    server.serve(lambda request: judge(request) if is_verdict(request) else server.obey(request))
