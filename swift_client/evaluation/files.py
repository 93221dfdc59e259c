"""From samples files to a head, and from a head to its table: what `train`, `evaluate`, `simulate`, `calibrate` do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, cast

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.splits import Split
from swift_client.dataset.stored import StoredGroups, state_options
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.evaluation.evaluate import NS, ProgressCallback, get_answer_spec
from swift_client.evaluation.evaluate import evaluate as evaluate_groups
from swift_client.evaluation.result import Evaluation
from swift_client.evaluation.risk.calibrate import Acceptable
from swift_client.evaluation.risk.calibrate import calibrate as calibrate_groups
from swift_client.evaluation.simulation.result import Simulation
from swift_client.evaluation.simulation.simulate import simulate as simulate_groups
from swift_client.models import AnyHead, HeadArtifact, save
from swift_client.scoring.head_scorer import load_any_head, load_head
from swift_client.stopping import StoppingRule
from swift_client.store import SampleStore
from swift_client.training.recipes import Recipe, recipe_of

if TYPE_CHECKING:
    from swift_client.training.fit import TrainResult

FilePath = str | os.PathLike[str]


def train(
    samples: FilePath | Sequence[FilePath],
    *,
    out: FilePath | None = None,
    answer: answers.Spec = "auto",
    grade: GraderSpec | None = None,
    recipe: str | Recipe = "default",
    split: Split | None = None,
    seed: int = 0,
    device: str = "auto",
    k: int | None = None,
    licence: str = "unknown",
    progress: ProgressCallback = lambda stage, done: None,
) -> TrainResult:
    """Train a head on samples files of one model, and write it to ``out`` if given.

    ``grade`` is how completions without a stored label are compared with their question's answer; default: as
    ``answer`` says, where that is a name. The rest is as for ``training.fit.fit``. Raises ConfigurationError for
    samples that no head can be trained on, MissingExtraError without the extra "train".
    """
    if out is not None and (not os.access(Path(out).absolute().parent, os.W_OK) or Path(out).is_dir()):
        raise ConfigurationError(f"{out} cannot be written.", hint="Give a file in a folder that you may write to.")
    row = recipe_of(recipe) if isinstance(recipe, str) else recipe
    try:
        from swift_client.training.fit import fit
    except ImportError as error:
        raise MissingExtraError.needs("train", "Training") from error
    groups = _load_groups(samples, answer, grade, states=row.states, layers=row.layers)
    result = fit(
        groups,
        provider=groups.provider,
        model=groups.model,
        answer=answer,
        recipe=recipe,
        split=split,
        seed=seed,
        device=device,
        k=k,
        layout=groups.layout,
        licence=licence,
        progress=progress,
    )
    if out is not None:
        save(result.artifact, out)
    return result


def evaluate(
    head: FilePath | AnyHead | None,
    samples: FilePath | Sequence[FilePath],
    *,
    split: str = "test",
    ns: Sequence[int] = NS,
    subsets: int = 200,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    train_samples: FilePath | Sequence[FilePath] | None = None,
    trained: bool = True,
    progress: ProgressCallback = lambda stage, done: None,
) -> Evaluation:
    """Compare a head, or the file of one, with every other method on samples files of its model.

    ``train_samples`` are where the trained baselines learn, for ``samples`` that hold unseen questions only
    (``split="all"``). ``grade`` is as for :func:`train`; the rest, and the errors, as for
    ``training.evaluate.evaluate``.
    """
    artifact = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    groups = _load_groups(samples, spec, grade, **state_options(artifact))
    return evaluate_groups(
        artifact,
        groups,
        split=split,
        ns=ns,
        subsets=subsets,
        resamples=resamples,
        seed=seed,
        answer=spec,
        train_groups=None if train_samples is None else _load_groups(train_samples, spec, grade),
        trained=trained,
        provider=groups.provider,
        model=groups.model,
        progress=progress,
    )


def simulate(
    samples: FilePath | Sequence[FilePath],
    head: FilePath | HeadArtifact | None = None,
    *,
    rules: str | Sequence[str | StoppingRule] = "all",
    n: int = 16,
    orders: int = 50,
    waves: Sequence[int] = (1,),
    sweep: bool = False,
    split: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Simulation:
    """Replay stopping rules over samples files of one model: what each would have chosen and cost. Nothing is sent.

    ``head`` may be the file of one. ``grade`` is as for :func:`train`; the rest, and the errors, as for
    ``training.simulate.simulate``.
    """
    artifact = load_head(head) if isinstance(head, (str, os.PathLike)) else head
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    groups = _load_groups(samples, spec, grade)
    return simulate_groups(
        groups,
        artifact,
        rules=rules,
        n=n,
        orders=orders,
        waves=waves,
        sweep=sweep,
        split=split,
        resamples=resamples,
        seed=seed,
        answer=spec,
        provider=groups.provider,
        model=groups.model,
        prompt_tokens=_mean_prompt_tokens(samples),
        progress=progress,
    )


def calibrate(
    head: FilePath | AnyHead,
    samples: FilePath | Sequence[FilePath],
    *,
    risk: float,
    confidence: float = 0.9,
    n: int = 16,
    stopping: str | StoppingRule | None = None,
    select: Literal["auto", "best", "vote"] = "auto",
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    split: str = "unseen",
    out: FilePath | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Acceptable:
    """Learn above which confidence answers may be taken at ``risk``, and store it in the head.

    The head, which may be the file of one, is written to ``out``, by default its own file, where a threshold could be
    certified, and otherwise left as it is. ``answer`` is by default as in the head's training, ``grade`` as for
    :func:`train`; the rest, and the errors, as for ``training.accept.calibrate``.
    """
    path = head if isinstance(head, (str, os.PathLike)) else None
    artifact = load_any_head(path) if path is not None else cast(AnyHead, head)
    out = path if out is None else out
    if out is not None and (not os.access(Path(out).absolute().parent, os.W_OK) or Path(out).is_dir()):
        raise ConfigurationError(f"{out} cannot be written.", hint="Give a file in a folder that you may write to.")
    spec = get_answer_spec(artifact) if isinstance(answer, EllipsisType) else answer
    groups = _load_groups(samples, spec, grade, **state_options(artifact))
    artifact.check(provider=groups.provider, model=groups.model, k=artifact.k_max)
    found = calibrate_groups(
        groups,
        artifact,
        risk=risk,
        confidence=confidence,
        n=n,
        stopping=stopping,
        select=select,
        answer=spec,
        split=split,
        progress=progress,
    )
    if out is not None and found.acceptance is not None:
        save(found.head, out)
    return found


def _mean_prompt_tokens(samples: FilePath | Sequence[FilePath]) -> float | None:
    """Return the mean prompt tokens of a call, None where none were counted."""
    prompt = calls = 0
    for path in [samples] if isinstance(samples, (str, os.PathLike)) else samples:
        with SampleStore(path) as store:
            usage = store.totals().usage
        prompt, calls = prompt + usage.prompt_tokens, calls + usage.calls
    return prompt / calls if prompt else None


def _load_groups(
    samples: FilePath | Sequence[FilePath], answer: answers.Spec, grade: GraderSpec | None, **states: Any
) -> StoredGroups:
    paths = [samples] if isinstance(samples, (str, os.PathLike)) else samples
    judged = grade if grade is not None else answer if isinstance(answer, str) else "auto"
    return StoredGroups(paths, grade=judged, **states)
