"""Read stored samples of SmolLM2 again, and keep the model's hidden states in a samples file with states.

    python -m tools.smollm2.states FOLDER --out hidden.db --split train --split validation --split test

The result is what ``swift-client collect --provider huggingface --capture`` writes, for the completions of
``benchmarks/data/smollm2.xz``: ``train``, ``evaluate``, ``probe`` and ``curve`` read it. Equal completions of a
question are read once. Run it again to continue.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swift_client.store import Meta, SampleStore, StateFile, StateLayout
from swift_client.types import F16, Completion, Usage
from tools.smollm2 import stored
from tools.smollm2.draw import Sampler

FLOAT16_MAX = 65504.0


class StateReader:
    """SmolLM2 in transformers, as a reader of completions that it drew before.

    Args:
        sampler: the model and its tokenizer.
        layers: hidden states to keep, as transformers numbers them; None keeps all.
        vocabulary: keep the logprobs of the whole vocabulary, too.
    """

    def __init__(self, sampler: Sampler, *, layers: Sequence[int] | None = None, vocabulary: bool = False) -> None:
        self._sampler = sampler
        config = self._sampler.model.config
        self.layout = StateLayout(
            layers=tuple(range(config.num_hidden_layers + 1)) if layers is None else tuple(layers),
            width=config.hidden_size,
            vocabulary=config.vocab_size if vocabulary else 0,
        )
        ids: dict[str, list[int]] = {}
        for token in range(config.vocab_size):
            ids.setdefault(self._sampler.token_text(token), []).append(token)
        # Several tokens are parts of characters, which have one text.
        self._id_of = {text: tokens[0] for text, tokens in ids.items() if len(tokens) == 1}
        self.logprob_error: list[float] = []

    def can_read(self, completion: Completion) -> bool:
        """Return True if each token is known from its text."""
        return bool(completion.tokens) and all(token in self._id_of for token in completion.tokens)

    @torch.inference_mode()
    def read(self, batch: Sequence[stored.Sampled]) -> list[dict[tuple[str, ...], F16]]:
        """Return the states (T, C) of each question's completions by their tokens; questions share a prefix."""
        prompts = [self._sampler.encode(sampled.question.messages) for sampled in batch]
        branches, logits = self._sampler.read_prompts(prompts, room=max(_length(s) for s in batch))
        # Different completions of each question, longest first, so that rows end one after another.
        rows = [
            (number, tokens)
            for number, sampled in enumerate(batch)
            for tokens in dict.fromkeys(c.tokens for c in sampled.completions)
        ]
        rows.sort(key=lambda row: -len(row[1]))
        questions = torch.tensor([number for number, _ in rows])
        branches.select(questions)
        logits = logits[questions]
        columns: list[list[Tensor]] = [[] for _ in rows]
        for step in range(len(rows[0][1])):
            going = sum(len(tokens) > step for _, tokens in rows)
            branches.select(torch.arange(going))
            ids = torch.tensor([self._id_of[tokens[step]] for _, tokens in rows[:going]])
            produced = logits[:going].log_softmax(1)
            states: list[Tensor] = []
            logits = branches.append(ids[:, None], torch.ones(going, 1, dtype=torch.bool), states)
            parts = [states[layer][:, 0].float() for layer in self.layout.layers]
            parts += [produced] if self.layout.vocabulary else []
            kept = torch.cat(parts, 1).clamp(-FLOAT16_MAX, FLOAT16_MAX).half()
            for row in range(going):
                columns[row].append(kept[row])
            self._compare(batch, rows[:going], step, produced.gather(1, ids[:, None])[:, 0])
        read: list[dict[tuple[str, ...], F16]] = [{} for _ in batch]
        for (number, tokens), vectors in zip(rows, columns, strict=True):
            read[number][tokens] = torch.stack(vectors).numpy()
        return read

    def _compare(
        self, batch: Sequence[stored.Sampled], rows: Sequence[tuple[int, tuple[str, ...]]], step: int, read: Tensor
    ) -> None:
        """Note how far the logprobs are from those that were stored when the tokens were drawn."""
        for (number, tokens), logprob in zip(rows, read.tolist(), strict=True):
            drawn = next(c for c in batch[number].completions if c.tokens == tokens)
            self.logprob_error.append(abs(float(drawn.logprobs[step]) - logprob))


def _length(sampled: stored.Sampled) -> int:
    return max(len(completion.tokens) for completion in sampled.completions)


def main() -> None:
    """Write the samples file and its states."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="written by tools.smollm2.unpack")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", action="append", choices=["train", "validation", "test", "foreign"])
    parser.add_argument("--n", type=int, default=8, help="completions per question")
    parser.add_argument("--layers", type=lambda text: [int(layer) for layer in text.split(",") if layer])
    parser.add_argument("--vocabulary", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--limit", type=int, help="questions per split")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sampler = Sampler(arguments.folder, n=1, max_tokens=1, seed=0)
    reader = StateReader(sampler, layers=arguments.layers, vocabulary=arguments.vocabulary)
    about, start = stored.read_about(), time.monotonic()
    meta = Meta(**{name: about[name] for name in ("provider", "model", "top_logprobs", "sampling")})
    with (
        SampleStore(arguments.out, write=True) as store,
        StateFile(arguments.out, write_layout=reader.layout) as states,
    ):
        store.begin(meta)
        counts, asked = store.counts(), Counter[str]()
        missing = []
        for sampled in stored.read(splits=arguments.split):
            asked[sampled.split] += 1
            if sampled.question.id not in counts and asked[sampled.split] <= (arguments.limit or 10**9):
                readable = tuple(c for c in sampled.completions if reader.can_read(c))[: arguments.n]
                missing.append(stored.Sampled(question=sampled.question, split=sampled.split, completions=readable))
        done = len(counts)
        missing.sort(key=lambda sampled: sampled.question.family or "")
        for _, family in itertools.groupby(missing, key=lambda sampled: sampled.question.family):
            while batch := list(itertools.islice(family, arguments.batch)):
                for sampled, read in zip(batch, reader.read(batch), strict=True):
                    drawn, numbers = sampled.completions, [completion.index for completion in sampled.completions]
                    with_states = [replace(completion, hidden_states=read[completion.tokens]) for completion in drawn]
                    store.add_questions([sampled.question])
                    states.append(sampled.question.id, numbers, with_states)
                    usage = Usage(completion_tokens=sum(len(c.tokens) for c in drawn), calls=1)
                    store.add_samples(sampled.question.id, drawn, usage=usage, numbers=numbers)
                done += len(batch)
                seconds, error = round(time.monotonic() - start), float(np.mean(reader.logprob_error))
                print(json.dumps({"questions": done, "seconds": seconds, "logprob_error": error}), flush=True)


if __name__ == "__main__":
    main()
