"""Draw many samples of SmolLM2 on one CPU: questions of one family share their examples' cache and run in one batch.

    python -m tools.smollm2.draw --questions questions.jsonl --folder FOLDER --out samples.db

It asks for what ``swift-client collect --provider smollm2`` would ask llama.cpp's server for, five times as fast on a
CPU with matrix units: llama.cpp takes 10 to 16 ms of a core per token of this file. The weights are those of the file;
the layers compute in bfloat16, the embedding and the logits in float32. Run it again to continue.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from swift_client.adapters.codecs import detect
from swift_client.dataset.questions import read_questions
from swift_client.dataset.splits import hash_fraction
from swift_client.store import Meta, SampleStore, StoredQuestion
from tools.smollm2.forward import Branches

PROVIDER, MODEL = "smollm2", "SmolLM2-135M-Instruct.Q4_1"
TEMPERATURE = 0.8
TOP_LOGPROBS = 20


class Sampler:
    """SmolLM2 in transformers, as a source of chat completions in OpenAI's format."""

    def __init__(self, folder: Path, *, n: int, max_tokens: int, seed: int, narrow: bool = True) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if narrow:
            _narrow(self.model.model)
        self.n, self.max_tokens, self.seed = n, max_tokens, seed
        byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
        self._end = self.model.config.eos_token_id
        self._bytes = [
            b"" if token is None else bytes(byte_of[character] for character in token if character in byte_of)
            for token in self.tokenizer.convert_ids_to_tokens(list(range(self.model.config.vocab_size)))
        ]
        self._bytes[self._end] = b""

    @torch.inference_mode()
    def sample(self, questions: Sequence[StoredQuestion]) -> list[dict[str, Any]]:
        """Return a chat completion with ``n`` choices per question; questions share the longest common prefix."""
        prompts = [self.encode(question.messages) for question in questions]
        branches, logits = self.read_prompts(prompts, room=self.max_tokens)
        logits = logits.repeat_interleave(self.n, 0)
        branches.repeat(self.n)
        generators = [torch.Generator().manual_seed(hash_seed(self.seed, question.id)) for question in questions]
        rows = torch.arange(len(prompts) * self.n)
        contents: list[list[dict[str, Any]]] = [[] for _ in rows]
        finished = ["length"] * len(rows)
        for step in range(self.max_tokens):
            logprobs = logits.log_softmax(1)
            top = logprobs.topk(TOP_LOGPROBS, dim=1)
            cumulative = (logits / TEMPERATURE).softmax(1).cumsum(1)
            draws = torch.cat(
                [torch.rand(int((rows // self.n == i).sum()), generator=g) for i, g in enumerate(generators)]
            )
            drawn = torch.searchsorted(cumulative, (draws * cumulative[:, -1]).unsqueeze(1)).squeeze(1)
            drawn = drawn.clamp(max=logits.shape[1] - 1)
            for index, row in enumerate(rows.tolist()):
                token = int(drawn[index])
                contents[row].append(
                    self._entry(token, float(logprobs[index, token]))
                    | {
                        "top_logprobs": [
                            self._entry(*pair)
                            for pair in zip(top.indices[index].tolist(), top.values[index].tolist(), strict=True)
                        ]
                    }
                )
                if token == self._end:
                    finished[row] = "stop"
            going = (drawn != self._end).nonzero().squeeze(1)
            if not len(going) or step == self.max_tokens - 1:
                break
            if len(going) < len(rows):
                branches.select(going)
                rows, drawn = rows[going], drawn[going]
            logits = branches.append(drawn.unsqueeze(1), torch.ones(len(rows), 1, dtype=torch.bool))
        return [
            self._reply(len(prompt), contents[start : start + self.n], finished[start : start + self.n])
            for start, prompt in zip(range(0, len(contents), self.n), prompts, strict=True)
        ]

    def read_prompts(self, prompts: Sequence[Sequence[int]], *, room: int) -> tuple[Branches, Tensor]:
        """Return a branch per prompt with ``room`` for further tokens, and the logits (prompts, vocabulary)."""
        shared = sum(1 for _ in itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False)))
        shared = min(shared, min(map(len, prompts)) - 1)
        # The remaining tokens, padded on the left.
        width = max(map(len, prompts)) - shared
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        real = torch.ones(len(prompts), width, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            pad = width - (len(prompt) - shared)
            ids[row, pad:] = torch.tensor(prompt[shared:])
            real[row, :pad] = False
        branches = Branches(self.model, list(prompts[0][:shared]), len(prompts), width + room)
        return branches, branches.append(ids, real)

    def token_text(self, token: int) -> str:
        """Return a token's text as completions have it."""
        return self._bytes[token].decode("utf-8", "replace")

    def encode(self, messages: Iterable[Mapping[str, Any]]) -> list[int]:
        """Return the token ids of a prompt that the assistant answers."""
        text = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        data = self._bytes[token]
        return {"token": data.decode("utf-8", "replace"), "bytes": list(data), "logprob": logprob}

    def _reply(self, prompt_tokens: int, contents: list[list[dict[str, Any]]], finished: list[str]) -> dict[str, Any]:
        choices = []
        for index, (content, reason) in enumerate(zip(contents, finished, strict=True)):
            text = bytes(byte for entry in content for byte in entry["bytes"]).decode("utf-8", "replace")
            choices.append(
                {
                    "index": index,
                    "finish_reason": reason,
                    "message": {"role": "assistant", "content": text},
                    "logprobs": {"content": content},
                }
            )
        completion_tokens = sum(map(len, contents))
        return {
            "object": "chat.completion",
            "id": "drawn",
            "created": 0,
            "model": MODEL,
            "choices": choices,
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }


def _narrow(model: Any) -> None:
    """Let the layers compute in bfloat16, and the embedding, the last norm and the logits in float32."""
    model.layers.to(torch.bfloat16)
    model.embed_tokens.register_forward_hook(lambda *call: call[-1].to(torch.bfloat16))
    model.norm.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


def _byte_characters() -> list[str]:
    """Return the character that byte-level BPE writes for each byte, from GPT-2's encoder."""
    spare = map(chr, itertools.count(256))
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return [chr(byte) if byte in printable else next(spare) for byte in range(256)]


def hash_seed(seed: int, question_id: str) -> int:
    """Return a seed per question, the same in every process."""
    return int(hash_fraction(f"draw:{seed}:{question_id}") * 2**53)


def batches(questions: Iterable[StoredQuestion], size: int) -> Iterator[list[StoredQuestion]]:
    """Yield runs of at most ``size`` questions of one family, in order."""
    for _, run in itertools.groupby(questions, key=lambda question: question.family):
        while batch := list(itertools.islice(run, size)):
            yield batch


def main() -> None:
    """Draw what the samples file lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="written by tools.smollm2.unpack")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="questions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sampler = Sampler(arguments.folder, n=arguments.n, max_tokens=arguments.max_tokens, seed=arguments.seed)
    questions = read_questions(arguments.questions)[: arguments.limit]
    start = time.monotonic()
    with SampleStore(arguments.out, write=True) as store:
        sampling = {"temperature": TEMPERATURE, "max_tokens": arguments.max_tokens}
        store.begin(Meta(provider=PROVIDER, model=MODEL, top_logprobs=TOP_LOGPROBS, sampling=sampling))
        store.add_questions(questions)
        counts = store.counts()
        for batch in batches([question for question in questions if not counts.get(question.id)], arguments.batch):
            for question, reply in zip(batch, sampler.sample(batch), strict=True):
                parsed = detect.parse(msgspec.json.encode(reply), token_ids=False, default_codec="openai_chat")
                store.add_samples(question.id, parsed.completions, usage=parsed.usage, cost=None)
                counts[question.id] = arguments.n
            done, seconds = len(counts), round(time.monotonic() - start)
            print(json.dumps({"questions": done, "seconds": seconds, "cpu": round(time.process_time())}), flush=True)


if __name__ == "__main__":
    main()
