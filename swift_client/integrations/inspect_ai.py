"""inspect_ai: a solver that answers by best of N. ``state.output.metadata["swift"]`` says how it was chosen."""

from __future__ import annotations

from swift_client.errors import ConfigurationError
from swift_client.integrations.best_of_call import BestOfCall, Options, Reranker
from swift_client.integrations.openai_format import chat_completion
from swift_client.integrations.peer_packages import peer_package

with peer_package("inspect-ai"):
    from inspect_ai.model import messages_to_openai, model_output_from_openai
    from inspect_ai.solver import Generate, Solver, TaskState, solver


@solver
def best_of(reranker: Reranker, n: int = 16, options: Options = None) -> Solver:
    """Answer the messages of a sample by best of N, in place of ``generate()``.

    Args:
        reranker: a reranker or cascade.
        n: completions to choose from.
        options: further arguments of ``best_of()``.

    Raises:
        ConfigurationError: while solving: the task gives tools to the model, which this solver does not call.
    """
    call = BestOfCall(reranker, n, options)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if state.tools:
            raise ConfigurationError(
                "This solver does not call tools.",
                hint="Leave out use_tools, or use the model openai-api/swift/... with `swift-client serve`.",
            )
        selection = await call.arun([dict(message) for message in await messages_to_openai(state.messages)])
        reply = chat_completion(selection)
        state.output = await model_output_from_openai(reply)
        state.output.metadata = {"swift": reply["swift"]}
        state.output.time = selection.elapsed
        if state.output.usage:
            state.output.usage.total_cost = selection.cost
        state.messages.append(state.output.message)
        return state

    return solve
