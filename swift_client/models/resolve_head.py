"""The lookup of the head that scores: by provider and model, by name, by path, or as an object."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal

from swift_client.errors import ArtifactError, ArtifactMismatchError, ConfigurationError
from swift_client.features import FEATURES, RESPONSE_TERMS, column_names
from swift_client.models.artifact import HeadArtifact
from swift_client.models.file_format import AnyHead, load
from swift_client.models.hidden_head import HiddenHead
from swift_client.models.library import scan, user_folder

Head = Literal["auto"] | None | str | os.PathLike[str] | AnyHead

# The model name in heads and samples files of a provider that has no model names.
UNKNOWN_MODEL = "unknown"


@dataclass(frozen=True, kw_only=True)
class ResolvedHead:
    """The head that scores, or none."""

    artifact: AnyHead | None = None
    # Whether it was requested by name and so is used even for a model that it was not trained for.
    force_head: bool = False
    notes: tuple[str, ...] = ()  # one sentence each, for every Selection


def resolve_head(head: Head, provider: str, model: str | None, *, k: int, own_address: bool = False) -> ResolvedHead:
    """Return the head for the argument ``head=``, for lists of ``k`` alternatives per token.

    "auto" looks one up with ``find_for_model()``. A head requested by name is used for any provider, model and k,
    with a note. A path, HeadArtifact or HiddenHead must fit.

    Raises:
        ArtifactMismatchError: the head was trained for another model, k or feature set.
        ArtifactError: the file cannot be read.
    """
    if isinstance(head, str) and head == "auto":
        return find_for_model(provider, model, k=k, own_address=own_address)
    resolved = load_named(head)
    artifact = resolved.artifact
    if artifact is None:
        return resolved
    try:
        # With a head requested by name, scoring itself notes lists that are too short.
        needed_k = artifact.k_max if resolved.force_head else k
        artifact.check(provider=provider, model=model or UNKNOWN_MODEL, k=needed_k)
    except ArtifactMismatchError as error:
        if not resolved.force_head:
            name = f"{artifact.provider}/{artifact.model}"
            error.hint += (
                f' To use this one anyway, put its file into {user_folder()} and ask for it by name: head="{name}".'
            )
            raise
        uncalibrated = artifact.without_acceptances()
        note = f"{error.message} It is used because it was requested by name."
        return replace(resolved, artifact=uncalibrated, notes=(note,))
    return resolved


def find_for_model(
    provider: str, model: str | None, *, k: int | None = None, own_address: bool = False
) -> ResolvedHead:
    """Find the head for exactly this provider and model that reads lists of ``k`` alternatives, if there is one.

    Packaged heads come before those in the user's folder, and within a folder heads are sorted by file name. (Give your
    own head for the packaged model by its path.) Never raises: unreadable files are skipped, and noted if no head is
    found.

    Args:
        provider: name of the provider.
        model: name of the model.
        k: alternatives per token; None: not known.
        own_address: the provider is reached at the caller's own address (``base_url``, ``client``, the environment or
            an object). Packaged heads hold for the provider's own address only and are not used then; the user's heads
            are, since a gateway may serve the same model.
    """
    library = scan()
    notes: list[str] = []
    for entry in library.for_model(provider, model or UNKNOWN_MODEL):
        if entry.is_packaged and own_address:
            notes.append(f"The packaged head for {entry.name} is not used at another address.")
        elif k is not None and k < entry.k_min:
            notes.append(f"The head {entry.path} needs {entry.k_min} alternatives per token, not {k}: it is not used.")
        else:
            try:
                return ResolvedHead(artifact=load_any_head(entry.path), notes=tuple(notes))
            except ArtifactError as error:
                notes.append(f"{error.message} It is not used.")
    if library.skip_reasons:
        others = len(library.skip_reasons) - 1
        suffix = f" {others} more {'was' if others == 1 else 'were'} skipped." if others else ""
        notes.append(f"Skipped while looking for a head: {library.skip_reasons[0]}{suffix}")
    return ResolvedHead(notes=tuple(notes))


def load_named(head: str | os.PathLike[str] | AnyHead | None) -> ResolvedHead:
    """Return the installed head with this name ("pocket/pocket"), else the one in the file at this path.

    Start a path with ``./`` to keep it from being read as a name. Raises ArtifactError if there is neither.
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
    library = scan()
    if isinstance(head, str) and (entries := library.by_name(head)):
        return ResolvedHead(artifact=load_any_head(entries[0].path), force_head=True)
    try:
        return ResolvedHead(artifact=load_any_head(head))
    except ArtifactError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            names = ", ".join(dict.fromkeys(entry.name for entry in library.heads))
            error.hint = f"Installed heads: {names or 'none'}."
        raise


def load_head(path: str | os.PathLike[str]) -> HeadArtifact:
    """Read a trained head on logprobs. Raises ArtifactError as ``load_any_head()`` does, or for another kind."""
    artifact = load_any_head(path)
    if isinstance(artifact, HiddenHead):
        raise ArtifactMismatchError(f"{path} is a head on hidden states.", hint="Give one that reads logprobs.")
    return artifact


def load_any_head(path: str | os.PathLike[str]) -> AnyHead:
    """Read a trained head. Raises ArtifactError if it is not a head, or needs features that this version lacks."""
    artifact = load(path)
    check_columns(artifact, os.fspath(path))
    return artifact


def check_columns(artifact: AnyHead, name: str) -> None:
    """Raise ArtifactMismatchError if this version lacks the head's features, or its weights do not fit them."""
    if isinstance(artifact, HiddenHead):
        if artifact.logprob_head:
            check_columns(artifact.logprob_head, name)
        return
    for table, feature_names, n_weights in (
        (FEATURES, artifact.features, artifact.head.width),
        (RESPONSE_TERMS, artifact.response_terms, len(artifact.response.weight)),
    ):
        try:
            columns = column_names(table, feature_names, width=artifact.width)
        except ConfigurationError as error:
            raise ArtifactMismatchError(
                f"{name}: {error.message}", hint="Upgrade swift-client, or train the head again."
            ) from error
        if len(columns) != n_weights:
            raise ArtifactMismatchError(
                f"{name} has {n_weights} weights for {len(columns)} columns.", hint="Train it again."
            )
