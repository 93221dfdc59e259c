"""inspect_ai's solver over a reranker."""

from harness import QUESTION, report
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.scorer import match
from inspect_ai.solver import generate, system_message, use_tools
from inspect_ai.tool import tool
from rerankers import (
    PACKAGED_QUESTION,
    async_reranker,
    facts_of,
    packaged_facts,
    packaged_reranker,
    reranker,
)

from swift_client.integrations.inspect_ai import best_of


@tool
def weather():
    async def execute(city: str) -> str:
        """Return the weather of a city.

        Args:
            city: name of the city.
        """
        return f"4 degrees in {city}"

    return execute


def run(*solvers, question=QUESTION, target="408", samples=2, model="mockllm/model"):
    """Evaluate a task of equal samples and return its log."""
    dataset = [Sample(input=question, target=target) for _ in range(samples)]
    task = Task(dataset=dataset, solver=[*solvers], scorer=match())
    return eval(task, model=model, display="none", log_dir="logs", fail_on_error=False)[0]


def plain():
    log = run(system_message("Be short."), best_of(reranker(), n=3))
    sample = read_eval_log(log.location).samples[0]
    usage = sample.output.usage
    return [
        sample.output.completion, log.results.scores[0].metrics["accuracy"].value, usage.output_tokens,
        round(usage.total_cost * 1e6), facts_of(sample.output.metadata["swift"]),
        [message.role for message in sample.messages],
    ]  # fmt: skip


def either_kind():
    return run(best_of(async_reranker(), n=3)).results.scores[0].metrics["accuracy"].value


def options():
    log = run(best_of(reranker(), n=2, options={"temperature": 0.5}))
    return len(log.samples[0].output.metadata["swift"]["candidates"])


def errors():
    """Return the error of a sample whose request is refused, and of one with tools."""
    logs = [run(best_of(reranker("status-401"), n=3), samples=1), run(use_tools(weather()), best_of(reranker(), n=3))]
    return [log.samples[0].error.message for log in logs]


def through_the_service():
    log = run(generate(), model="openai-api/swift/best-mini")
    return log.results.scores[0].metrics["accuracy"].value


def packaged_model():
    log = run(best_of(packaged_reranker(), n=8), question=PACKAGED_QUESTION, target="15", samples=1)
    return packaged_facts(log.samples[0].output.metadata["swift"])


report(plain, either_kind, options, errors, through_the_service, packaged_model)
