"""Keep a model's thinking separate from its answer.

    python examples/reasoning_model.py

Ranks a reply in which the thinking is between <think> tags; no request is sent.
"""

from swift_client import rank

texts = [
    "<think>17 times 24 is 340 plus 68.</think>The answer is 408.",
    "<think>17 times 24 is 17 times 20 plus 17 times 4.</think>The answer is 408.",
    "<think>It is about 400.</think>The answer is 400.",
]
choices = [{"index": i, "finish_reason": "stop", "message": {"content": text}} for i, text in enumerate(texts)]
selection = rank({"choices": choices}, provider="vllm")

print("answer:", selection.answer, "| text:", selection.text, "| signal:", selection.signal)
for candidate in selection.candidates:
    thinking = candidate.completion.thinking
    print(f"  {candidate.answer!r} after thinking: {thinking.text if thinking else None!r}")
