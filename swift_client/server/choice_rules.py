"""The rules by which a virtual model chooses, and what a request may change of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from msgspec.structs import replace as replace_fields

from swift_client.answers import READERS
from swift_client.errors import ConfigurationError
from swift_client.models.hidden_head import HiddenHead
from swift_client.reranker import AsyncSwiftReranker
from swift_client.reranker.pipeline import SelectionPipeline
from swift_client.server.config import ModelConfig
from swift_client.server.question.body_fields import invalid_field
from swift_client.server.question.call import Override

_MAX_ANSWER_CHARS = 200


class ChoiceRules:
    """The rules of one virtual model: those of its table, and one for each of its ``heads``.

    Args:
        config: the table of the model.
        create: returns the reranker of a table; nothing is sent.

    Raises:
        ConfigurationError: a setting is wrong.
        ArtifactError: a head cannot be read.
    """

    def __init__(self, config: ModelConfig, create: Callable[[ModelConfig], AsyncSwiftReranker]) -> None:
        own = create(config)
        others = {name: create(replace_fields(config, head=head)) for name, head in config.heads.items()}
        self._selections = {name: reranker.pipeline.config.selection for name, reranker in others.items()}
        if any(isinstance(selection.scorer, HiddenHead) for selection in self._selections.values()):
            raise ConfigurationError("heads: a head on hidden states cannot be one of several.", hint="Write head =.")
        self._own_selection = own.pipeline.config.selection
        # The one that asks for the longest lists of alternatives samples for all: heads read the first entries.
        self.reranker = max(own, *others.values(), key=_n_alternatives) if others else own

    def pipeline(self, override: Override) -> SelectionPipeline:
        """Return the pipeline of one request; all have the same connections, limits and store.

        Raises:
            HttpError: 400: it names an unknown head or answer reader, or asks for a verifier although there is none.
            ConfigurationError: the settings of its answer reader are wrong.
        """
        base = self.reranker.pipeline
        selection, verifier = self._own_selection, base.config.verifier
        if override.head is not None:
            if override.head not in self._selections:
                raise invalid_field("swift.head", f"must be one of {', '.join(self._selections) or 'no'} heads")
            selection = self._selections[override.head]
        if override.answer is not None:
            selection = replace(selection, answer=_answer_reader(override.answer))
        if override.select is not None:
            # The other ways compare no texts, and refuse a similarity.
            similarity = selection.similarity if override.select in ("auto", "consensus") else None
            selection = replace(selection, select=override.select, similarity=similarity)
        if override.verifier is False:
            verifier = None
        elif override.verifier and verifier is None:
            raise invalid_field("swift.verifier", "cannot be true: the model has no verifier")
        if selection is base.config.selection and verifier is base.config.verifier:
            return base
        pipeline = copy.copy(base)
        pipeline.config = replace(base.config, selection=selection, verifier=verifier)
        pipeline.judge = None if verifier is None else base.judge
        pipeline.comparison = None if selection.similarity is None else base.comparison
        return pipeline


def _n_alternatives(reranker: AsyncSwiftReranker) -> int:
    return reranker.pipeline.config.sampling.top_logprobs or 0


def _answer_reader(name: str) -> str | None:
    """Return the reader for a name; a regex of a client could run for hours, so it is refused."""
    if name == "none":
        return None
    if name in READERS or (name.startswith("tool_call:") and len(name) <= _MAX_ANSWER_CHARS):
        return name
    raise invalid_field("swift.answer", f"must be none, {', '.join(READERS)} or tool_call: with its settings")
