"""Which head scores: found by provider and model, asked for by name, or given."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal

from swift_client.errors import ArtifactError, ArtifactMismatchError, ConfigurationError
from swift_client.models import AnyHead, scan
from swift_client.scoring.head_scorer import check_columns, load_any_head

Head = Literal["auto"] | None | str | os.PathLike[str] | AnyHead

UNKNOWN_MODEL = "unknown"
"""The model in a head's file where the provider has no model names; samples files say so too."""


@dataclass(frozen=True, kw_only=True)
class ResolvedHead:
    """The head that scores, if any."""

    artifact: AnyHead | None = None
    force_head: bool = False
    """Asked for by name: used also where it was not trained for."""
    notes: tuple[str, ...] = ()
    """What every Selection says of it, one sentence each."""


def find_for_model(
    provider: str, model: str | None, *, k: int | None = None, own_address: bool = False
) -> ResolvedHead:
    """Find the head for exactly this provider and model that reads lists of ``k`` alternatives, if there is one.

    Packaged heads come before those in the user's folder, and each folder's by file name. (A head of your own for the
    packaged model is given by its path.) ``own_address`` says that the provider is reached at an address of the
    caller's own (``base_url``, ``client``, the environment, an object): then packaged heads are not used, which know
    the row's own address alone. Those of the user's are, who names both sides: a gateway serves the same model.

    Raises nothing. Files that cannot be read are skipped, and told where no head was found.
    """
    shelf = scan()
    doubts: list[str] = []
    for shelved in shelf.for_model(provider, model or UNKNOWN_MODEL):
        if shelved.is_packaged and own_address:
            doubts.append(f"The packaged head for {shelved.name} is not used at another address.")
        elif k is not None and k < shelved.k_min:
            doubts.append(
                f"The head {shelved.path} needs {shelved.k_min} alternatives a token, not {k}: it is not used."
            )
        else:
            try:
                return ResolvedHead(artifact=load_any_head(shelved.path), notes=tuple(doubts))
            except ArtifactError as error:
                doubts.append(f"{error.message} It is not used.")
    if shelf.skip_reasons:
        further = f" So were {len(shelf.skip_reasons) - 1} more." if len(shelf.skip_reasons) > 1 else ""
        doubts.append(f"Skipped while looking for a head: {shelf.skip_reasons[0]}{further}")
    return ResolvedHead(notes=tuple(doubts))


def resolve_head(head: Head, provider: str, model: str | None, *, k: int, own_address: bool = False) -> ResolvedHead:
    """Return the head that ``head=`` asks for, for lists of ``k`` alternatives a token.

    "auto" finds one, or none (:func:`find`). One that is asked for by its name is used for whatever provider, model
    and k, and says so. A path, HeadArtifact or HiddenHead must fit.

    Raises:
        ArtifactMismatchError: it was trained for another model, k or feature set.
        ArtifactError: it cannot be read.
    """
    if isinstance(head, str) and head == "auto":
        return find_for_model(provider, model, k=k, own_address=own_address)
    picked = load_named(head)
    if picked.artifact is None:
        return picked
    try:
        # Of lists that are too short the scores themselves tell.
        picked.artifact.check(
            provider=provider, model=model or UNKNOWN_MODEL, k=picked.artifact.k_max if picked.force_head else k
        )
    except ArtifactMismatchError as error:
        if not picked.force_head:
            raise
        bare = replace(picked.artifact, acceptances=())  # its risk was measured on its own model
        return replace(picked, artifact=bare, notes=(f"{error.message} It is used because it was asked for by name.",))
    return picked


def load_named(head: str | os.PathLike[str] | AnyHead | None) -> ResolvedHead:
    """Return the head with this name ("pocket/pocket") in the folders, else the one in the file of this path.

    ``./`` before a path keeps it from being a name. Raises ArtifactError where there is neither.
    """
    if head is None:
        return ResolvedHead()
    if isinstance(head, AnyHead):
        check_columns(head, f"The {head.name}")
        return ResolvedHead(artifact=head)
    if not isinstance(head, (str, os.PathLike)):
        raise ConfigurationError(
            f'head= takes "auto", a name, a path, a HeadArtifact, a HiddenHead or None, not {head!r}.'
        )
    shelf = scan()
    if isinstance(head, str) and (named := shelf.by_name(head)):
        return ResolvedHead(artifact=load_any_head(named[0].path), force_head=True)
    try:
        return ResolvedHead(artifact=load_any_head(head))
    except ArtifactError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            error.hint = f"By name there are: {', '.join(dict.fromkeys(each.name for each in shelf.heads)) or 'none'}."
        raise
