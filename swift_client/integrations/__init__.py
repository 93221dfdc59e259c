"""Best of N inside other packages: LangChain, LlamaIndex, pydantic-ai, DSPy, LiteLLM and inspect_ai.

Each module needs its package, which you install yourself. All take a reranker that you made, sync or async, the number
of completions and further arguments of ``best_of``. Clients of OpenAI's API need no code: see ``swift-client serve``.
"""
