"""A loopback server in a process of its own, which ends with its parent."""

from __future__ import annotations

import asyncio
import sys
import threading


async def serve_until_stdin_ends(server: asyncio.Server) -> None:
    """Print the port of a server that listens, and serve until standard input ends."""
    print(server.sockets[0].getsockname()[1], flush=True)
    loop, has_ended = asyncio.get_running_loop(), asyncio.Event()

    def wait_for_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(has_ended.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    await has_ended.wait()
    server.close()
