"""One request to a loaded model becomes a Reply: prompt, batches that fit the memory, completions cut to answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from swift_client.adapters.local.capture import Projection
from swift_client.adapters.local.decode import Row, Sampling, decode
from swift_client.adapters.local.hidden_states import (
    CaptureReader,
    ProjectionReader,
    Reader,
    VocabularyReader,
    not_numbers,
)
from swift_client.adapters.local.load import Loaded
from swift_client.adapters.local.model import Asked
from swift_client.adapters.local.tokenizer import Ending, answer_of, thinking_of
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import BadRequestError, ProviderError
from swift_client.types import Completion, FinishReason, Message, Usage


def generate(
    loaded: Loaded,
    messages: Sequence[Message],
    n: int,
    asked: Asked,
    *,
    projection: Projection | None,
    rows: int,
    cancelled: Callable[[], bool],
) -> tuple[Reply, int]:
    """Generate ``n`` completions, ``rows`` at a time; also return how many at a time went well.

    Errors as :meth:`HuggingFaceModel.complete`.
    """
    readers: list[Reader] = []
    if projection:
        device = loaded.model.device
        readers.append(ProjectionReader(projection, states=loaded.states, width=loaded.width, device=device))
    if asked.capture and asked.capture.layers != ():
        readers.append(CaptureReader(asked.capture, states=loaded.states))
    if asked.capture and asked.capture.vocabulary:
        readers.append(VocabularyReader())
    prompt = loaded.vocabulary.prompt(messages, asked.template)
    most = _room(loaded, prompt, asked.max_tokens)
    notes: list[str] = []
    done: list[Row] = []
    while len(done) < n:
        batch = [
            Row(prompt=prompt, seed=asked.seed + index, most=most, ended=Ending(loaded.vocabulary, asked.stops))
            for index in range(len(done), min(n, len(done) + rows))
        ]
        try:
            decode(
                loaded.model,
                batch,
                sampling=Sampling(**asked.sampling),
                k=asked.k or 0,
                readers=readers,
                cancelled=cancelled,
            )
        except (RuntimeError, MemoryError) as error:
            if not _is_memory(error):
                raise
            if len(batch) == 1:
                raise ProviderError(
                    f"Out of memory with one completion of up to {most} tokens.",
                    hint='Lower max_tokens, load with dtype="bfloat16", or keep fewer layers of hidden states.',
                ) from None
            rows = len(batch) // 2
            notes = [f"Memory ran out, so completions were generated {rows} at a time."]
        else:
            done += batch
            continue
        torch.cuda.empty_cache()
    thinks = loaded.vocabulary.thinks(prompt)
    completions = tuple(_completion(row, index, loaded, asked, readers, thinks) for index, row in enumerate(done))
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=sum(len(row.tokens) for row in done))
    return Reply(completions=completions, usage=usage, notes=tuple(notes)), rows


def _room(loaded: Loaded, prompt: Sequence[int], wanted: int) -> int:
    room = wanted if loaded.context is None else loaded.context - len(prompt)
    if room < 1:
        raise BadRequestError(
            f"The prompt has {len(prompt):,} tokens and the model's context {loaded.context:,}.",
            hint="Shorten the prompt.",
        )
    return min(wanted, room)


def _is_memory(error: BaseException) -> bool:
    # torch raises a plain RuntimeError where the CPU's memory ends.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def _completion(
    row: Row, index: int, loaded: Loaded, asked: Asked, readers: Sequence[Reader], thinks: bool
) -> Completion:
    """Cut a row to its answer: T tokens without thinking, stop string and end-of-turn token."""
    tokens = row.tokens[:-1] if row.finish == "end" else row.tokens
    pieces = [loaded.vocabulary.spell(token) for token in tokens]
    span, answer = answer_of(pieces, stops=asked.stops, thinks=thinks)
    fields = _numbers(row, span, pieces, loaded, asked)
    before = pieces if not answer else pieces[: span.start]
    if thought := thinking_of(before, stops=asked.stops, thinks=thinks):
        ended: FinishReason = "length" if row.finish == "length" and not answer else "stop"
        fields["thinking"] = Completion(
            text=thought[1], index=index, finish_reason=ended, **_numbers(row, thought[0], pieces, loaded, asked)
        )
    captured: list[NDArray[np.float16]] = []
    for reader, states in zip(readers, row.states, strict=True):
        # states[t] is the state from which token t was drawn, states[t + 1] the one after it was read.
        shift = 1 if reader.moment == "read" else 0
        kept = states[span.start + shift : span.stop + shift]
        numbers = torch.stack(kept).cpu().numpy() if kept else np.zeros((0, *states[0].shape), np.float32)
        if not np.isfinite(numbers).all():
            raise not_numbers("hidden states")
        if isinstance(reader, ProjectionReader):
            fields["projections"] = numbers
        else:
            captured.append(numbers.astype(np.float16))
    if captured:
        fields["hidden_states"] = captured[0] if len(captured) == 1 else np.concatenate(captured, axis=1)
    return Completion(
        text=answer.decode("utf-8", "replace"),
        index=index,
        finish_reason="length" if row.finish == "length" else "stop",
        **fields,
    )


def _numbers(row: Row, span: slice, pieces: Sequence[bytes], loaded: Loaded, asked: Asked) -> dict[str, Any]:
    """Return tokens and arrays of some of a row's tokens; nothing where no logprobs were asked for."""
    if asked.k is None:
        return {}
    listed = row.listed[span]
    width = asked.k and min(asked.k, len(row.listed[0][0]))
    names = np.array([ids for _, ids in listed], np.int64).reshape(len(listed), width)
    return {
        "tokens": tuple(piece.decode("utf-8", "replace") for piece in pieces[span]),
        "logprobs": np.array(row.logprobs[span], np.float32),
        "top_logprobs": np.array([values for values, _ in listed], np.float32).reshape(names.shape),
        "censored": np.zeros(len(listed), np.bool_),
        "top_ids": loaded.vocabulary.identities(names),
    }
