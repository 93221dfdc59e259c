"""DSPy's programs over a reranker."""

import asyncio
import json
import os

import dspy
from harness import error_of, report
from rerankers import PACKAGED_QUESTION, async_reranker, errors_of, facts_of, packaged_reranker, reranker

from swift_client.integrations.dspy import BestOfPredict, answer_field

QUESTION = "What is 17 * 24?"
swift = reranker(answer=answer_field("answer"))
predict = BestOfPredict("question -> answer: int", swift, n=3)


def plain() -> object:
    prediction = predict(question=QUESTION)
    return [prediction.answer, prediction.keys(), facts_of(prediction.selection.to_dict()), prediction.selection.text]


def in_async_code() -> object:
    async def run() -> list[int]:
        return [result.answer for result in await asyncio.gather(*(predict.acall(question=QUESTION) for _ in range(3)))]

    return asyncio.run(run())


def either_kind() -> object:
    other = BestOfPredict("question -> answer", async_reranker(), n=3)
    return [other(question=QUESTION).answer, asyncio.run(other.acall(question=QUESTION)).answer]


def options() -> object:
    """Give fields of the request to the predictor, and to one call."""
    drawn = BestOfPredict("question -> answer: int", swift, n=3, temperature=0.5)
    calls = [drawn(question=QUESTION), drawn(question=QUESTION, config={"n": 2})]
    return [len(prediction.selection.candidates) for prediction in calls]


def usage() -> object:
    with dspy.context(track_usage=True):
        return predict(question=QUESTION).get_lm_usage()["openai-compatible/m"]["completion_tokens"]


def module() -> object:
    """Use the predictor in a program, and copy, save and load the program."""

    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.solve = BestOfPredict("question -> answer: int", swift, n=3)

        def forward(self, question: str) -> dspy.Prediction:
            return self.solve(question=question)

    program = Program()
    copied = program.deepcopy()
    copied.save("program.json")
    loaded = Program()
    loaded.load("program.json")
    return [loaded(question=QUESTION).answer, copied.solve.best_of is program.solve.best_of]


def optimizer() -> object:
    """Let an optimizer write an example from a prediction, and save it."""
    example = dspy.Example(question=QUESTION, answer=408).with_inputs("question")
    bootstrap = dspy.BootstrapFewShot(metric=lambda example, prediction, trace=None: prediction.answer == 408)
    compiled = bootstrap.compile(BestOfPredict("question -> answer: int", swift, n=3), trainset=[example])
    compiled.save("compiled.json")
    with open("compiled.json") as file:
        demos = json.load(file)["demos"]
    return [demos[0]["answer"], compiled(question="What is 34 * 12?").answer]


def errors() -> object:
    return errors_of(lambda model: BestOfPredict("question -> answer", model, n=3)(question=QUESTION))


def unreadable() -> object:
    """Return the error of an answer without the signature's fields, and of a wrong argument."""
    plain = BestOfPredict("question -> answer", reranker("plain"), n=3)
    return [
        error_of(lambda: plain(question=QUESTION)),
        error_of(lambda: predict(question=QUESTION, config={"head": 1})),
    ]


def through_the_service() -> object:
    lm = dspy.LM("openai/best-mini", api_base=os.environ["SERVICE_URL"], api_key="unused", cache=False)
    with dspy.context(lm=lm):
        return dspy.Predict("question -> answer: int")(question=QUESTION).answer


def packaged_model() -> object:
    """Return the head and the signal. That model knows no fields, so the whole text is the answer."""

    class Plain(dspy.ChatAdapter):
        def format(self, signature: object, demos: object, inputs: dict[str, str]) -> list[dict[str, str]]:
            return [{"role": "user", "content": inputs["question"]}]

        def parse(self, signature: object, completion: str) -> dict[str, str]:
            return {"answer": completion}

    with dspy.context(adapter=Plain()):
        prediction = BestOfPredict("question -> answer", packaged_reranker(), n=8)(question=PACKAGED_QUESTION)
    return [prediction.selection.scorer, prediction.selection.signal, 0 < prediction.selection.answer_probability < 1]


report(
    plain,
    in_async_code,
    either_kind,
    options,
    usage,
    module,
    optimizer,
    errors,
    unreadable,
    through_the_service,
    packaged_model,
)
