"""What is drawn: the questions of both models, and what a provider may change about them without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from swift_client.pocket import questions as pocket
from swift_client.store import StoredQuestion
from tools.smollm2 import questions as smollm2

ModelName = Literal["pocket", "smollm2"]

MODELS: tuple[ModelName, ...] = ("pocket", "smollm2")

# As long as the answers are: an answer that is cut off can be read by nobody.
MAX_TOKENS: Mapping[ModelName, int] = MappingProxyType({"pocket": 160, "smollm2": 12})

GRADERS: Mapping[ModelName, str] = MappingProxyType({"pocket": "auto", "smollm2": "text"})

# Provider's defaults before anything changed.
TEMPERATURE = 0.8


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One way of serving a model, and the name under which its draws are kept.

    Attributes:
        name: its name in tables.
        file: name of the samples file, without its ending; conditions that differ only in ``keep_ranks`` and
            ``decimals`` share one.
        quantization: the format of the matrices; None: that of the model's own file.
        template: the chat template; None: that of the model's own file.
        sampling: fields of the request that the provider's defaults would set.
        keep_ranks: alternatives per token that are left; None: all 20.
        decimals: digits after the point of each logprob; None: all.
    """

    name: str
    file: str
    quantization: str | None = None
    template: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    keep_ranks: int | None = None
    decimals: int | None = None


POCKET_LINES = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}\n"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM2_SYSTEM = (
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    + _CHATML
)
SMOLLM2_PLAIN = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)

_TEMPLATES: Mapping[ModelName, Mapping[str, str]] = {
    "pocket": {"a line break after each question": POCKET_LINES},
    "smollm2": {"the model's own system message first": SMOLLM2_SYSTEM, "no special tokens": SMOLLM2_PLAIN},
}

SAME = Condition(name="nothing", file="same")


def conditions(model: ModelName) -> list[Condition]:
    """Return every change of a model's service."""
    changed = [
        Condition(name="temperature 1", file="temperature", sampling={"temperature": 1.0}),
        Condition(name="top_p 0.9", file="top_p", sampling={"top_p": 0.9}),
        # Four bits per weight: the packaged model has 16, and SmolLM2's own four are finer.
        Condition(name="weights in MXFP4", file="MXFP4", quantization="MXFP4"),
    ]
    changed += [
        Condition(name=f"template: {name}", file=f"template_{number}", template=template)
        for number, (name, template) in enumerate(_TEMPLATES[model].items())
    ]
    # The old answers, of which less is sent.
    changed += [
        Condition(name="5 alternatives per token", file=SAME.file, keep_ranks=5),
        Condition(name="logprobs with 2 decimals", file=SAME.file, decimals=2),
    ]
    return changed


@dataclass(frozen=True)
class QuestionSets:
    """Questions of one model: those that the head and its reference saw, and others of the same kind."""

    reference: list[StoredQuestion]
    later: list[StoredQuestion]


def question_sets(model: ModelName, reference: int, later: int) -> QuestionSets:
    """Return disjoint questions; those that are few are the first of those that are many."""
    if model == "pocket":
        levels = {"arithmetic": (2, 3), "coin_flip": (2, 3, 4), "last_letters": (4, 5)}
        return QuestionSets(
            *(
                [
                    StoredQuestion(
                        id=question.id,
                        messages=({"role": "user", "content": question.prompt},),
                        answer=question.answer,
                        family=question.family,
                    )
                    for question in pocket.questions(count, seed=seed, split=split, levels=levels)
                ]
                for count, seed, split in ((reference, 31, "validation"), (later, 32, "test"))
            )
        )
    drawn = smollm2.generate(0)
    parts = {
        name: [
            StoredQuestion(
                id=question.id, messages=tuple(question.messages), answer=question.answer, family=question.family
            )
            for question in drawn
            if question.split == name
        ]
        for name in ("train", "test")
    }
    return QuestionSets(parts["train"][:reference], parts["test"][:later])
