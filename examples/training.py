"""Train a scorer (head) from questions with known answers, and compare it with other methods.

    python examples/training.py [FOLDER]

Uses the packaged model and 30 questions, too few for a good head: about ten seconds. Needs the extra "train".
"""

import json
import sys
import tempfile
from pathlib import Path

from swift_client.pocket.questions import questions
from swift_client.training import collect, evaluate, train

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
samples, head = folder / "samples.db", folder / "head.safetensors"

# Replace these by your own questions: one JSON object per line, with id, prompt and answer.
lines = [json.dumps({"id": q.id, "prompt": q.prompt, "answer": q.answer}) for q in questions(30, seed=7)]
(folder / "q.jsonl").write_text("\n".join(lines))
collect(folder / "q.jsonl", samples, provider="pocket", n=4, temperature=0.8)

result = train(samples, out=head)
print("verdict:", result.verdict)

table = evaluate(head, samples, ns=(1, 2, 4), trained=False)
for name in ("majority", "mean_logprob", "head_vote", "oracle"):
    row = table.row(name)
    print(f"{row.label:40}", "  ".join(f"n={n}: {100 * value.value:.1f} %" for n, value in row.accuracy.items()))
