"""A request goes out and its reply comes back as completions, whole or streamed, without blocking the event loop.

Both functions return the reply and what broke it off, if anything: completions that had ended by then are paid for,
and are never lost with the rest.
"""

from __future__ import annotations

import asyncio
import types
from dataclasses import replace

from swift_client.adapters import Reply, Request
from swift_client.errors import ConnectionFailedError, ProviderError, RequestTimeoutError, ResponseDecodeError
from swift_client.sampling.context import CallContext, DrawState
from swift_client.types import Usage


async def receive_full(
    context: CallContext, state: DrawState, request: Request, k: int | None
) -> tuple[Reply, ProviderError | None]:
    """Send, wait for all of the reply, decode it. ``k`` is the number of columns of every ``top_logprobs``."""
    broken: ConnectionFailedError | None = None
    try:
        async with state.within_deadline():
            data = await context.transport.send(request)
    except ConnectionFailedError as error:
        if not error.received:
            raise
        data, broken = error.received, error
    if isinstance(data, Reply):
        return data, None
    if not isinstance(data, bytes):  # a custom provider's own Completion objects
        tokens = sum(len(completion.tokens) for completion in data)
        return Reply(completions=tuple(data), usage=Usage(completion_tokens=tokens, estimated=True)), None
    try:
        # The codec yields after each choice: awaited, it lets the event loop do its other work in between.
        decode = types.coroutine(context.codec.parse_steps)
        return await decode(data, top_logprobs=k, token_ids=context.token_ids), broken
    except ResponseDecodeError as error:
        raise broken or error from None


async def receive_stream(
    context: CallContext, state: DrawState, request: Request, k: int | None
) -> tuple[Reply, ProviderError | None]:
    """Send and decode while the reply comes, so that the deadline costs only what is unfinished by then.

    A stream that loses confidence is closed here; what it said until then comes back as cut.
    """
    assembler = context.codec.StreamAssembler(top_logprobs=k, token_ids=context.token_ids)
    broken: ProviderError | None = None
    trace = state.abort_monitor.begin() if state.abort_monitor and request.n == 1 else None
    closed = False
    try:
        async with state.within_deadline(), context.transport.stream(request) as chunks:
            async for chunk in chunks:
                assembler.feed(chunk)
                if (
                    trace
                    and (piece := assembler.take_new_tokens())
                    and trace.below_threshold(piece)
                    and not assembler.finished
                ):
                    closed = True
                    break
                await asyncio.sleep(0)
    except (ConnectionFailedError, RequestTimeoutError, ResponseDecodeError) as error:
        broken = error
    try:
        reply: Reply = await types.coroutine(assembler.close_steps)()
    except ResponseDecodeError as error:
        raise broken or error from None
    if closed and state.abort_monitor:
        return state.abort_monitor.truncate_reply(reply), None
    if broken is None:
        if trace and state.abort_monitor:
            state.abort_monitor.record_finished(trace, reply)
        return reply, None
    ended = tuple(completion for completion in reply.completions if completion.finish_reason != "error")
    if not ended:
        raise broken
    return replace(reply, completions=ended), broken
