"""The process behind :class:`swift_client.pocket.server.PocketServer`: serve with llama.cpp until the input ends.

Run as a file, so that nothing of the package is imported here. The first line of its input is a JSON object of options;
its only line of output is one with ``address`` or ``error``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def build_params(xllamacpp: Any, options: dict[str, Any]) -> Any:
    """Return llama.cpp's parameters for ``options``."""
    given = xllamacpp.CommonParams()
    given.model.path = options["model"]
    given.model_alias = {options["name"]}
    given.n_parallel = options["slots"]
    given.n_ctx = options["slots"] * options["context"]
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = options["threads"]
    given.port = 0
    given.verbosity = -1
    given.ui = False
    given.warmup = False
    given.fit_params = False
    given.cache_ram_mib = 0
    # A reused prefix is computed in another batch shape, and the last bits of its logprobs decide some draws:
    # without reuse, a seed gives the same completions every time.
    given.cache_prompt = False
    given.sampling.top_k, given.sampling.top_p, given.sampling.min_p = 0, 1.0, 0.0
    given.sampling.temp = 1.0
    if options["exact"]:
        given.cache_type_k = given.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        given.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return given


def main() -> None:
    """Serve until the input ends."""
    options = json.loads(sys.stdin.readline())
    sys.path[:] = options["path"]
    # llama.cpp may write to standard output: the answer goes out on a descriptor that it does not know.
    answer = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        import xllamacpp

        server = xllamacpp.Server(build_params(xllamacpp, options))
    except Exception as refused:
        answer.write(json.dumps({"error": str(refused)}) + "\n")
    else:
        answer.write(json.dumps({"address": server.listening_address}) + "\n")
    answer.close()
    sys.stdin.read()
    # No destructors: stopping a server whose task loop has not begun yet would wait for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
