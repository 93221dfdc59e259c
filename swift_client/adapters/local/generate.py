"""One request to a loaded model becomes a Reply: prompt, batches that fit the memory, completions cut to answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from swift_client.adapters.local.decode import DecodeRow, SamplingParams, decode
from swift_client.adapters.local.hidden_states import (
    CaptureReader,
    ProjectionReader,
    StateReader,
    VocabularyReader,
    non_finite_error,
)
from swift_client.adapters.local.load import LoadedModel
from swift_client.adapters.local.request import GenerationRequest, Projection
from swift_client.adapters.local.tokenizer import EndDetector, find_answer, locate_thinking
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import BadRequestError, ProviderError
from swift_client.types import Completion, FinishReason, Message, Usage


def generate(
    loaded_model: LoadedModel,
    messages: Sequence[Message],
    n: int,
    request: GenerationRequest,
    *,
    projection: Projection | None,
    batch_size: int,
    is_cancelled: Callable[[], bool],
) -> tuple[Reply, int]:
    """Generate ``n`` completions, ``rows`` at a time; also return how many at a time went well.

    Errors as :meth:`HuggingFaceModel.complete`.
    """
    readers: list[StateReader] = []
    if projection:
        device = loaded_model.model.device
        readers.append(
            ProjectionReader(
                projection, n_states=loaded_model.n_states, hidden_size=loaded_model.hidden_size, device=device
            )
        )
    if request.capture and request.capture.layers != ():
        readers.append(CaptureReader(request.capture, n_states=loaded_model.n_states))
    if request.capture and request.capture.vocabulary:
        readers.append(VocabularyReader())
    prompt = loaded_model.vocabulary.encode_prompt(messages, request.template_variables)
    most = _limit_max_tokens(loaded_model, prompt, request.max_tokens)
    notes: list[str] = []
    done: list[DecodeRow] = []
    while len(done) < n:
        batch = [
            DecodeRow(
                prompt=prompt,
                seed=request.seed + index,
                max_tokens=most,
                check_end=EndDetector(loaded_model.vocabulary, request.stop_strings),
            )
            for index in range(len(done), min(n, len(done) + batch_size))
        ]
        try:
            decode(
                loaded_model.model,
                batch,
                sampling=SamplingParams(**request.sampling),
                k=request.k or 0,
                readers=readers,
                is_cancelled=is_cancelled,
            )
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise ProviderError(
                    f"Out of memory with one completion of up to {most} tokens.",
                    hint='Lower max_tokens, load with dtype="bfloat16", or keep fewer layers of hidden states.',
                ) from None
            batch_size = len(batch) // 2
            notes = [f"Memory ran out, so completions were generated {batch_size} at a time."]
        else:
            done += batch
            continue
        torch.cuda.empty_cache()
    thinks = loaded_model.vocabulary.in_thinking_block(prompt)
    completions = tuple(
        _build_completion(row, index, loaded_model, request, readers, thinks) for index, row in enumerate(done)
    )
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=sum(len(row.tokens) for row in done))
    return Reply(completions=completions, usage=usage, notes=tuple(notes)), batch_size


def _limit_max_tokens(loaded_model: LoadedModel, prompt: Sequence[int], max_tokens: int) -> int:
    room = max_tokens if loaded_model.context_length is None else loaded_model.context_length - len(prompt)
    if room < 1:
        raise BadRequestError(
            f"The prompt has {len(prompt):,} tokens and the model's context {loaded_model.context_length:,}.",
            hint="Shorten the prompt.",
        )
    return min(max_tokens, room)


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises a plain RuntimeError where the CPU's memory ends.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def _build_completion(
    row: DecodeRow,
    index: int,
    loaded_model: LoadedModel,
    request: GenerationRequest,
    readers: Sequence[StateReader],
    in_thinking_block: bool,
) -> Completion:
    """Cut a row to its answer: T tokens without thinking, stop string and end-of-turn token."""
    tokens = row.tokens[:-1] if row.finish_reason == "end" else row.tokens
    pieces = [loaded_model.vocabulary.token_bytes(token) for token in tokens]
    span, answer = find_answer(pieces, stop_strings=request.stop_strings, in_thinking_block=in_thinking_block)
    fields = _token_fields(row, span, pieces, loaded_model, request)
    before = pieces if not answer else pieces[: span.start]
    if thought := locate_thinking(before, stop_strings=request.stop_strings, in_thinking_block=in_thinking_block):
        ended: FinishReason = "length" if row.finish_reason == "length" and not answer else "stop"
        fields["thinking"] = Completion(
            text=thought[1],
            index=index,
            finish_reason=ended,
            **_token_fields(row, thought[0], pieces, loaded_model, request),
        )
    captured: list[NDArray[np.float16]] = []
    for reader, states in zip(readers, row.states, strict=True):
        # states[t] is the state from which token t was drawn, states[t + 1] the one after it was read.
        shift = 1 if reader.moment == "read" else 0
        kept = states[span.start + shift : span.stop + shift]
        numbers = torch.stack(kept).cpu().numpy() if kept else np.zeros((0, *states[0].shape), np.float32)
        if not np.isfinite(numbers).all():
            raise non_finite_error("hidden states")
        if isinstance(reader, ProjectionReader):
            fields["projections"] = numbers
        else:
            captured.append(numbers.astype(np.float16))
    if captured:
        fields["hidden_states"] = captured[0] if len(captured) == 1 else np.concatenate(captured, axis=1)
    return Completion(
        text=answer.decode("utf-8", "replace"),
        index=index,
        finish_reason="length" if row.finish_reason == "length" else "stop",
        **fields,
    )


def _token_fields(
    row: DecodeRow, span: slice, pieces: Sequence[bytes], loaded_model: LoadedModel, request: GenerationRequest
) -> dict[str, Any]:
    """Return tokens and arrays of some of a row's tokens; nothing where no logprobs were asked for."""
    if request.k is None:
        return {}
    listed = row.alternatives[span]
    width = request.k and min(request.k, len(row.alternatives[0][0]))
    names = np.array([ids for _, ids in listed], np.int64).reshape(len(listed), width)
    return {
        "tokens": tuple(piece.decode("utf-8", "replace") for piece in pieces[span]),
        "logprobs": np.array(row.logprobs[span], np.float32),
        "top_logprobs": np.array([values for values, _ in listed], np.float32).reshape(names.shape),
        "censored": np.zeros(len(listed), np.bool_),
        "top_ids": loaded_model.vocabulary.identities(names),
    }
