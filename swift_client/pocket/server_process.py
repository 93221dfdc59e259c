"""The process behind ``swift_client.pocket.server.PocketServer``: serves with llama.cpp until its input ends.

It runs as a script, so nothing of the package is imported. The first line of its input is a JSON object of options; its
only line of output is a JSON object with ``address`` or ``error``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def build_params(xllamacpp: Any, options: dict[str, Any]) -> Any:
    """Return llama.cpp's parameters for ``options``."""
    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.model_alias = {options["name"]}
    params.n_parallel = options["slots"]
    params.n_ctx = options["slots"] * options["context"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["threads"]
    params.port = 0
    params.verbosity = -1
    params.ui = False
    params.warmup = False
    params.fit_params = False
    params.cache_ram_mib = 0
    # A reused prefix is computed in another batch shape, which changes the last bits of its logprobs and so some draws.
    # Without reuse, a seed gives the same completions every time.
    params.cache_prompt = False
    params.sampling.top_k, params.sampling.top_p, params.sampling.min_p = 0, 1.0, 0.0
    params.sampling.temp = 1.0
    if options["exact"]:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return params


def main() -> None:
    """Serve until the input ends."""
    options = json.loads(sys.stdin.readline())
    sys.path[:] = options["path"]
    # llama.cpp may write to standard output: the answer uses a descriptor that it does not know.
    answer = os.fdopen(os.dup(1), "w")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    try:
        import xllamacpp

        server = xllamacpp.Server(build_params(xllamacpp, options))
    except Exception as error:
        answer.write(json.dumps({"error": str(error)}) + "\n")
    else:
        answer.write(json.dumps({"address": server.listening_address}) + "\n")
    answer.close()
    sys.stdin.read()
    # No destructors: stopping a server whose task loop has not started yet would wait forever.
    os._exit(0)


if __name__ == "__main__":
    main()
