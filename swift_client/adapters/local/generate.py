"""Generation with a loaded model: encode the prompt, decode in batches, cut completions to their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from swift_client.adapters.local.decode import DecodeRow, decode
from swift_client.adapters.local.hidden_states import (
    CaptureReader,
    ProjectionReader,
    StateReader,
    VocabularyReader,
    non_finite_error,
)
from swift_client.adapters.local.load import LoadedModel
from swift_client.adapters.local.request import GenerationRequest, Projection
from swift_client.adapters.local.tokenizer import EndDetector, Vocabulary, find_answer, locate_thinking
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
    """Generate ``n`` completions, ``batch_size`` at a time; also return the batch size that fitted the memory.

    Errors as ``HuggingFaceModel.complete()``.
    """
    vocabulary = loaded_model.vocabulary
    readers = _build_readers(loaded_model, request, projection)
    prompt = vocabulary.encode_prompt(messages, request.template_variables)
    max_tokens = _limit_max_tokens(loaded_model, prompt, request.max_tokens)
    notes: list[str] = []
    finished: list[DecodeRow] = []
    while len(finished) < n:
        batch = [
            DecodeRow(
                prompt=prompt,
                seed=request.seed + index,
                max_tokens=max_tokens,
                check_end=EndDetector(vocabulary, request.stop_strings),
            )
            for index in range(len(finished), min(n, len(finished) + batch_size))
        ]
        try:
            model, k = loaded_model.model, request.k or 0
            decode(model, batch, sampling=request.sampling, k=k, readers=readers, is_cancelled=is_cancelled)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise ProviderError(
                    f"Out of memory with one completion of up to {max_tokens} tokens.",
                    hint='Lower max_tokens, load with dtype="bfloat16", or keep fewer layers of hidden states.',
                ) from None
            batch_size = len(batch) // 2
            notes = [f"Memory ran out, so completions were generated {batch_size} at a time."]
        else:
            finished += batch
            continue
        # Reached only after the memory ran out: outside the except block, so the error's tensors are freed first.
        torch.cuda.empty_cache()
    completions = tuple(
        _build_completion(row, index, vocabulary, request, readers) for index, row in enumerate(finished)
    )
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=sum(len(row.tokens) for row in finished))
    return Reply(completions=completions, usage=usage, notes=tuple(notes)), batch_size


def _build_readers(
    loaded_model: LoadedModel, request: GenerationRequest, projection: Projection | None
) -> list[StateReader]:
    """Return the readers of hidden states that the head and the request need."""
    n_states, hidden_size = loaded_model.n_states, loaded_model.hidden_size
    readers: list[StateReader] = []
    if projection:
        device = loaded_model.model.device
        readers.append(ProjectionReader(projection, n_states=n_states, hidden_size=hidden_size, device=device))
    if request.capture and request.capture.layers != ():
        readers.append(CaptureReader(request.capture, n_states=n_states))
    if request.capture and request.capture.vocabulary:
        readers.append(VocabularyReader())
    return readers


def _limit_max_tokens(loaded_model: LoadedModel, prompt: Sequence[int], max_tokens: int) -> int:
    available = max_tokens if loaded_model.context_length is None else loaded_model.context_length - len(prompt)
    if available < 1:
        raise BadRequestError(
            f"The prompt has {len(prompt):,} tokens; the model's context is {loaded_model.context_length:,}.",
            hint="Shorten the prompt.",
        )
    return min(max_tokens, available)


def _is_out_of_memory(error: BaseException) -> bool:
    # torch raises a plain RuntimeError when the CPU's memory is full.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def _build_completion(
    row: DecodeRow, index: int, vocabulary: Vocabulary, request: GenerationRequest, readers: Sequence[StateReader]
) -> Completion:
    """Cut a row to its answer: T tokens without thinking, stop string and end-of-turn token."""
    # 1. The answer: which tokens it consists of, and its text.
    tokens = row.tokens[:-1] if row.finish_reason == "end" else row.tokens
    pieces = [vocabulary.token_bytes(token) for token in tokens]
    in_thinking_block = vocabulary.in_thinking_block(row.prompt)
    span, answer = find_answer(pieces, stop_strings=request.stop_strings, in_thinking_block=in_thinking_block)
    fields = _token_fields(row, span, pieces, vocabulary, request.k)
    # 2. The thinking before it, as a separate Completion.
    before_answer = pieces[: span.start] if answer else pieces
    thinking = locate_thinking(before_answer, stop_strings=request.stop_strings, in_thinking_block=in_thinking_block)
    if thinking:
        thinking_span, thinking_text = thinking
        thinking_cut: FinishReason = "length" if row.finish_reason == "length" and not answer else "stop"
        fields["thinking"] = Completion(
            text=thinking_text,
            index=index,
            finish_reason=thinking_cut,
            **_token_fields(row, thinking_span, pieces, vocabulary, request.k),
        )
    # 3. The hidden states of the answer's tokens, or a head's two numbers for each of them.
    captured: list[NDArray[np.float16]] = []
    for reader, states in zip(readers, row.states, strict=True):
        # states[t] is the state from which token t was drawn, states[t + 1] the one after it was read.
        shift = 1 if reader.moment == "read" else 0
        answer_states = states[span.start + shift : span.stop + shift]
        empty = np.zeros((0, *states[0].shape), np.float32)
        values = torch.stack(answer_states).cpu().numpy() if answer_states else empty
        if not np.isfinite(values).all():
            raise non_finite_error("hidden states")
        if isinstance(reader, ProjectionReader):
            fields["projections"] = values
        else:
            captured.append(values.astype(np.float16))
    if captured:
        fields["hidden_states"] = captured[0] if len(captured) == 1 else np.concatenate(captured, axis=1)
    return Completion(
        text=answer.decode("utf-8", "replace"),
        index=index,
        finish_reason="length" if row.finish_reason == "length" else "stop",
        **fields,
    )


def _token_fields(
    row: DecodeRow, span: slice, pieces: Sequence[bytes], vocabulary: Vocabulary, k: int | None
) -> dict[str, Any]:
    """Return a Completion's fields for some of a row's tokens; none if no logprobs were requested (``k`` is None)."""
    if k is None:
        return {}
    alternatives = row.alternatives[span]
    width = k and min(k, len(row.alternatives[0][0]))
    token_ids = np.array([ids for _, ids in alternatives], np.int64).reshape(len(alternatives), width)
    return {
        "tokens": tuple(piece.decode("utf-8", "replace") for piece in pieces[span]),
        "logprobs": np.array(row.logprobs[span], np.float32),
        "top_logprobs": np.array([values for values, _ in alternatives], np.float32).reshape(token_ids.shape),
        "censored": np.zeros(len(alternatives), np.bool_),
        "top_ids": vocabulary.identities(token_ids),
    }
