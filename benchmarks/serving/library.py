"""The same load on ``AsyncSwiftReranker.best_of`` in a process of its own: the base of the comparison.

One line of JSON on standard input is one job, and one line on standard output its result.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.serving.load import closed_loop, open_loop
from swift_client import AsyncSwiftReranker


async def main() -> None:
    """Run jobs until standard input ends."""
    url, n, prompt = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=url, api_key="k") as reranker:

        async def ask() -> object:
            return await reranker.best_of(prompt, n=n)

        await ask()
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            job = json.loads(line)
            run = open_loop if "rate" in job else closed_loop
            print(json.dumps(await run(ask, **job)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
