"""Run a Hugging Face model in this process and read its hidden states.

    python examples/local_model.py [FOLDER]

FOLDER is a transformers model. Without it, the packaged model is converted first. Needs the extra "local".
"""

import sys
import tempfile
from pathlib import Path

from swift_client import SwiftReranker

if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
else:
    from swift_client.pocket.server import PACKAGED_MODEL
    from tools.pocket.export import write_transformers
    from tools.pocket.unpack import read_gguf

    folder = Path(tempfile.mkdtemp())
    write_transformers(*read_gguf(PACKAGED_MODEL), folder)

with SwiftReranker("huggingface", str(folder)) as reranker:
    selection = reranker.best_of(
        "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?",
        n=8,
        temperature=0.8,
        max_tokens=100,
        hidden_states=[0, 6],  # also return the hidden states of these layers, in float16
    )
completion = selection.candidates[0].completion
print(selection.answer, selection.signal, selection.scorer)
shape = None if completion.hidden_states is None else completion.hidden_states.shape
print(f"{len(completion.tokens)} tokens, hidden states {shape}")
