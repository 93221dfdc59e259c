"""The rules by which stored replies are ranked, in a form that other processes and hosts can receive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from swift_client.adapters import Provider
from swift_client.answers import Spec
from swift_client.models import AnyHead, HiddenHead, scan
from swift_client.models.resolve_head import UNKNOWN_MODEL, Head, ResolvedHead, find_for_model, load_named
from swift_client.reranker.rank_replies import create_rank_config, model_in_name, resolve_format, with_head
from swift_client.scoring.result import UserSimilarity
from swift_client.selection.select import FALLBACK_SCORER, Scorer, SelectionConfig
from swift_client.types import Method


@dataclass(frozen=True, eq=False, kw_only=True)
class RankSettings:
    """The rules of ``rank()`` for many questions. Use ``create()``.

    Heads are read when the settings are created, so that every worker uses the same ones, also on hosts that lack their
    files. A function of the user (``scorer=``, ``answer=``, ``similarity=``) must be one that pickle can name, such as
    a function of a module.

    Attributes:
        config: The rules without a head.
        provider: Name of the provider of replies.
        codec: Name of the wire format that replies have if their shape does not show it.
        model: The model that wrote the replies, if its name was given.
        named_head: The head that the caller named; None without one.
        installed_heads: The installed heads by provider and model, to be looked up per question; None if that is not
            wanted. The entry ``None`` is for all other models.
    """

    config: SelectionConfig
    provider: str
    codec: str
    model: str | None = None
    named_head: ResolvedHead | None = None
    installed_heads: Mapping[tuple[str, str] | None, ResolvedHead] | None = None

    @classmethod
    def create(
        cls,
        *,
        head: Head = None,
        scorer: Scorer = FALLBACK_SCORER,
        answer: Spec = "auto",
        select: Method = "auto",
        similarity: str | UserSimilarity | None = None,
        provider: str | Provider = "openai",
    ) -> Self:
        """Check the rules and read the head; arguments as of ``rank()``.

        ``provider`` says how replies are read; samples name their own provider and model.

        Raises:
            ConfigurationError: an argument is wrong, or ``head`` and ``scorer`` are both given.
            ArtifactError: the head cannot be read.
        """
        row = resolve_format(provider)
        return cls(
            config=create_rank_config(head=head, scorer=scorer, answer=answer, select=select, similarity=similarity),
            provider=row.name,
            codec=row.codec,
            model=model_in_name(provider),
            named_head=None if head is None or head == "auto" else load_named(head),
            installed_heads=_load_installed_heads() if head == "auto" else None,
        )

    @property
    def has_head(self) -> bool:
        """True if a head scores, or is looked up."""
        return self.named_head is not None or self.installed_heads is not None

    @property
    def reads_token_ids(self) -> bool:
        """True if ``top_ids`` may change a choice: a head reads them, or a function of the user may."""
        return self._calls_user_scorer or any(head.reads_token_ids for head in self._heads)

    @property
    def reads_hidden_states(self) -> bool:
        """True if hidden states or projections may change a choice."""
        return self._calls_user_scorer or any(isinstance(head, HiddenHead) for head in self._heads)

    @property
    def _calls_user_scorer(self) -> bool:
        return not isinstance(self.config.scorer, str)

    @property
    def _heads(self) -> list[AnyHead]:
        resolved = [self.named_head, *(self.installed_heads or {}).values()]
        return [head.artifact for head in resolved if head is not None and head.artifact is not None]

    def config_for(self, provider: str, model: str | None) -> SelectionConfig:
        """Return the rules for completions of a model, None if it is unknown, with its head."""
        if self.named_head is not None:
            return with_head(self.config, self.named_head, provider, model, was_looked_up=False)
        if self.installed_heads is None:
            return self.config
        resolved = self.installed_heads.get((provider, model or UNKNOWN_MODEL)) or self.installed_heads[None]
        return with_head(self.config, resolved, provider, model, was_looked_up=True)


def _load_installed_heads() -> dict[tuple[str, str] | None, ResolvedHead]:
    names = {(entry.provider, entry.model) for entry in scan().heads}
    heads: dict[tuple[str, str] | None, ResolvedHead] = {name: find_for_model(*name) for name in names}
    heads[None] = find_for_model("", "")  # no head has these names; it notes the files that could not be read
    return heads
