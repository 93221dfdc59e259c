"""Ask one question 16 times and take the best answer.

    python examples/best_of.py

Uses the packaged model, or OpenAI if OPENAI_API_KEY is set.
"""

import os

from swift_client import SwiftReranker

QUESTION = "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?"

provider = "openai" if os.environ.get("OPENAI_API_KEY") else "pocket"

with SwiftReranker(provider) as reranker:
    selection = reranker.best_of(QUESTION, n=16, temperature=0.8)

print(f"answer:  {selection.answer!r} from {selection.text!r}")
print(
    f"method:  {selection.method} over {len(selection.candidates)} completions, "
    f"{selection.scorer} on {selection.signal}"
)
print(
    f"cost:    {selection.usage.completion_tokens} tokens, {selection.usage.calls} call(s), {selection.elapsed:.1f} s"
)

# The five best candidates.
for candidate in sorted(selection.candidates, key=lambda candidate: candidate.score or 0.0, reverse=True)[:5]:
    print(f"  {candidate.score:8.3f}  {candidate.answer!r:>8}  {candidate.completion.finish_reason}")

# One sentence for everything that did not go as requested.
for note in selection.notes:
    print("note:", note)
