"""DSPy: a predictor whose completion is the best of N. ``prediction.selection`` is the Selection."""

from __future__ import annotations

from typing import Any

from swift_client.adapters.codecs.openai_chat.message import usage_dict
from swift_client.integrations.best_of_call import BestOfCall, Options, Reranker
from swift_client.integrations.peer_packages import peer_package
from swift_client.types import Selection

with peer_package("dspy"):
    import dspy
    from dspy.utils import exceptions


class SelectedPrediction(dspy.Prediction):
    """A prediction with its Selection, which is no field, so that optimizers do not copy it into examples."""

    selection: Selection | None = None


class BestOfPredict(dspy.Predict):
    """A predictor in place of ``dspy.Predict``; optimizers work with it. It needs no ``dspy.LM``."""

    def __init__(self, signature: Any, reranker: Reranker, n: int = 16, options: Options = None, **config: Any) -> None:
        """Take a signature, a reranker and arguments of ``best_of()``; ``config`` are further ones, as in DSPy."""
        super().__init__(signature, **config)
        self.best_of = BestOfCall(reranker, n, options, errors=exceptions)

    def forward(self, **inputs: Any) -> SelectedPrediction:
        fields = self.config | inputs.pop("config", {})
        return self._predict(inputs, self.best_of.run(self._messages(inputs), **fields))

    async def aforward(self, **inputs: Any) -> SelectedPrediction:
        fields = self.config | inputs.pop("config", {})
        return self._predict(inputs, await self.best_of.arun(self._messages(inputs), **fields))

    def _messages(self, inputs: dict[str, Any]) -> Any:
        return _adapter().format(self.signature, self.demos, inputs)

    def _predict(self, inputs: dict[str, Any], selection: Selection) -> SelectedPrediction:
        values = _adapter().parse(self.signature, selection.text)
        prediction: SelectedPrediction = SelectedPrediction.from_completions([values], signature=self.signature)
        prediction.selection = selection
        if dspy.settings.usage_tracker:
            dspy.settings.usage_tracker.add_usage(self.best_of.name, usage_dict(selection.usage))
        if (trace := dspy.settings.trace) is not None:
            trace.append((self, inputs, prediction))
            del trace[: -dspy.settings.max_trace_size]
        return prediction


def _adapter() -> Any:
    return dspy.settings.adapter or dspy.ChatAdapter()


def answer_field(name: str) -> str:
    """Return the regex of an output field for the reranker's ``answer=``, as DSPy's ChatAdapter writes fields."""
    return rf"(?s)\[\[ ## {name} ## \]\]\s*(.+?)\s*(?=\[\[ ## |\Z)"
