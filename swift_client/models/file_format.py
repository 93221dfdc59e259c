"""The file format of a head: safetensors with one JSON document of facts. Nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from swift_client.errors import ArtifactError
from swift_client.models.acceptance import STATISTIC, Acceptance
from swift_client.models.artifact import HeadArtifact, ResponseWeights
from swift_client.models.calibration import CALIBRATIONS
from swift_client.models.drift_profile import DriftProfile
from swift_client.models.gated_linear import GatedLinearHead, Standardizer
from swift_client.models.hidden_head import HiddenHead
from swift_client.models.question_sketch import QuestionSketch
from swift_client.models.verifier_term import VerifierTerm
from swift_client.store.atomic_write import atomic_write

# Version of the file layout. A feature never changes its meaning under the same name. Format 1 had no β: its votes
# weighed by probability, and so its acceptances hold for no vote of today.
FORMAT = 2
READABLE_FORMATS = (1, FORMAT)
# Bytes; a head has a few kilobytes, and one on the hidden states of a 70B model less than this.
MAX_FILE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 2**20  # bytes of JSON before the weights; a head has a few thousand
METADATA_KEY = "swift_client"  # metadata key of the JSON document


class StoredFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts in every head's file; JSON keys as the file stores them."""

    format: int
    calibration: str  # "none" or a key of CALIBRATIONS
    provider: str
    model: str
    training: dict[str, Any]
    licence: str
    width: int
    acceptances: list[Acceptance] = []
    beta: float | Literal["inf"] = 1.0  # JSON has no infinity
    stopping_costs: list[tuple[float, float]] = []
    verifier_terms: list[VerifierTerm] = []
    drift: dict[str, list[Any]] | None = None  # of the drift profile, beside its tensors
    k_min: int = 0
    k_max: int = 0  # 0, as ``k_min``: a head on hidden states reads no lists of alternatives


class _LogprobFacts(StoredFacts, frozen=True, kw_only=True):
    features: list[str]
    response_terms: list[str]
    k_min: int
    k_max: int


class _HiddenFacts(StoredFacts, frozen=True, kw_only=True):
    layers: list[int]
    moment: str


class _HybridFacts(_LogprobFacts, frozen=True, kw_only=True):
    """A head on hidden states with a head on logprobs; ``rank_width`` is the ``width`` of the latter."""

    layers: list[int]
    moment: str
    rank_width: int


class _Kind(msgspec.Struct, frozen=True):
    """The facts that decide which of the others a file must have."""

    format: int
    kind: str | None = None
    rank_width: int | None = None


class _Header(msgspec.Struct, frozen=True):
    """The part of a safetensors header that is not about tensors."""

    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


AnyHead = HeadArtifact | HiddenHead

# Fields of every head that its file stores as they are.
_SHARED_FIELDS = ("provider", "model", "training", "licence", "width")


def encode(artifact: AnyHead) -> bytes:
    """Return the content of a head's file."""
    calibration = artifact.calibration
    kinds = [name for name, calibration_type in CALIBRATIONS.items() if isinstance(calibration, calibration_type)]
    facts: dict[str, Any] = {
        "format": FORMAT,
        "calibration": kinds[0] if kinds else "none",
        "beta": "inf" if artifact.beta == math.inf else artifact.beta,
        **{name: getattr(artifact, name) for name in _SHARED_FIELDS},
        "training": dict(artifact.training),
    }
    if artifact.stopping_costs:
        facts["stopping_costs"] = artifact.stopping_costs
    if artifact.verifier_terms:
        facts["verifier_terms"] = [asdict(term) for term in artifact.verifier_terms]
    if artifact.acceptances:
        facts["acceptances"] = [acceptance.to_dict() for acceptance in artifact.acceptances]
    tensors = _named_tensors("head", artifact.head)
    # The head on logprobs of a hidden head is stored in the same file; its weights get the prefix "beside".
    logprob_head: AnyHead | None = artifact
    if isinstance(artifact, HiddenHead):
        facts |= {"kind": "hidden", "layers": artifact.layers, "moment": artifact.moment}
        logprob_head = artifact.logprob_head
    if isinstance(logprob_head, HeadArtifact):
        facts |= {name: getattr(logprob_head, name) for name in ("features", "response_terms", "k_min", "k_max")}
        tensors |= _named_tensors("standardizer", logprob_head.standardizer)
        tensors |= _named_tensors("response", logprob_head.response.standardizer)
        tensors["response.weight"] = logprob_head.response.weight
    if logprob_head is not artifact and logprob_head is not None:
        facts["rank_width"] = logprob_head.width
        tensors |= _named_tensors("beside", logprob_head.head)
    if calibration is not None:
        tensors |= _named_tensors("calibration", calibration)
    if artifact.sketch is not None:
        tensors |= {f"sketch.{name}": values for name, values in vars(artifact.sketch).items()}
    if artifact.drift_profile is not None:
        facts["drift"] = artifact.drift_profile.facts()
        tensors |= {f"drift.{name}": values for name, values in artifact.drift_profile.tensors().items()}
    return safetensors.numpy.save(tensors, {METADATA_KEY: json.dumps(facts, allow_nan=False)})


def head_digest(artifact: AnyHead) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of a head's file, which tell heads of one model apart."""
    return hashlib.sha256(encode(artifact)).hexdigest()[:12]


def save(artifact: AnyHead, path: str | os.PathLike[str]) -> None:
    """Write a head to ``path``, atomically. Raises ArtifactError if it cannot be written."""
    data = encode(artifact)
    try:
        with atomic_write(path) as temporary_path:
            temporary_path.write_bytes(data)
    except OSError as error:
        raise ArtifactError(
            f"The head cannot be written to {path}: {error.strerror}.",
            hint="Free some disk space, or choose another path.",
        ) from error


def _named_tensors(prefix: str, part: object) -> dict[str, np.ndarray[Any, Any]]:
    return {f"{prefix}.{name}": np.asarray(value, np.float64) for name, value in vars(part).items()}


def load(path: str | os.PathLike[str]) -> AnyHead:
    """Read a head that ``save()`` wrote. Raises ArtifactError for any other file and executes nothing in it."""
    with _open_head(path) as file:
        data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES >> 20} MB")
        tensors = safetensors.numpy.load(data)
        return _build_head(_parse_facts(data[8 : 8 + int.from_bytes(data[:8], "little")]), tensors)


def read_facts(path: str | os.PathLike[str]) -> StoredFacts:
    """Read the checked facts of a head's file, without its weights. Raises ArtifactError as ``load()`` does."""
    with _open_head(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError("it is not a safetensors file with a head's short header")
        return _parse_facts(file.read(size))


@contextmanager
def _open_head(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file and turn every problem with it into an ArtifactError. Never waits for a pipe or a device."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is not a regular file")
            yield file
    except OSError as error:
        raise ArtifactError(
            f"The head {path} cannot be read: {error.strerror}.", hint="Check the path and its permissions."
        ) from error
    except safetensors.SafetensorError as error:
        raise _not_a_head(path, f"it is not a safetensors file ({error})") from error
    except msgspec.DecodeError as error:
        problem = (
            "its metadata does not fit" if isinstance(error, msgspec.ValidationError) else "its header is not JSON"
        )
        raise _not_a_head(path, f"{problem}: {error}") from error
    # KeyError: a number type that numpy lacks; RecursionError: JSON nested to exhaust the stack.
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _not_a_head(path, str(error)) from error


def _not_a_head(path: str | os.PathLike[str], reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is not a head: {reason.rstrip('.')}.", hint="Heads are written by `swift-client train`."
    )


def _parse_facts(header: bytes) -> StoredFacts:
    """Return the checked facts in a safetensors file's header."""
    metadata = msgspec.json.decode(header, type=_Header).metadata
    if METADATA_KEY not in metadata:
        raise ValueError(f"its metadata has no entry {METADATA_KEY!r}")
    document = metadata[METADATA_KEY]
    kind = msgspec.json.decode(document, type=_Kind)
    if kind.format not in READABLE_FORMATS:
        formats = " and ".join(map(str, READABLE_FORMATS))
        raise ValueError(f"its format is {kind.format} and this swift-client reads {formats}; upgrade swift-client")
    facts_type: type[StoredFacts] = _LogprobFacts
    if kind.kind == "hidden":
        facts_type = _HiddenFacts if kind.rank_width is None else _HybridFacts
    return msgspec.json.decode(document, type=facts_type)


def _build_head(facts: StoredFacts, tensors: Mapping[str, np.ndarray[Any, Any]]) -> AnyHead:
    """Build a head from the facts and tensors of its file; raise ValueError if they do not fit."""
    parts: dict[str, dict[str, np.ndarray[Any, Any]]] = defaultdict(dict)
    for name, tensor in tensors.items():
        part, _, field = name.partition(".")
        parts[part][field] = tensor

    # The parts that a file must have follow from its facts.
    kind = facts.calibration
    if kind != "none" and kind not in CALIBRATIONS:
        raise ValueError(f"its calibration {kind!r} is unknown")
    expected = {"head"}
    if isinstance(facts, _LogprobFacts):
        expected |= {"standardizer", "response"}
    if isinstance(facts, _HybridFacts):
        expected |= {"beside"}
    if kind != "none":
        expected |= {"calibration"}
    if "sketch" in parts:  # heads that were trained without the questions' texts have none
        expected |= {"sketch"}
    if facts.drift is not None:  # heads that were trained on fewer than 30 questions have none
        expected |= {"drift"}
    if parts.keys() != expected:
        raise ValueError(f"it has the parts {sorted(parts)} and not {sorted(expected)}")

    if len({term.verifier for term in facts.verifier_terms}) < len(facts.verifier_terms):
        raise ValueError("it has two weights for the same verifier")
    # Thresholds that were calibrated for other weights, or for another number, hold for no vote of today.
    acceptances = tuple(row for row in facts.acceptances if facts.format > 1 and row.statistic == STATISTIC)
    weighed = {term.verifier for term in facts.verifier_terms if term.helps}
    if any(row.verifier is not None and row.verifier not in weighed for row in acceptances):
        raise ValueError("its acceptance counts judgements of a verifier that it does not weigh")
    shared: dict[str, Any] = {
        "head": GatedLinearHead(**parts["head"]),
        "calibration": None if kind == "none" else CALIBRATIONS[kind](**parts["calibration"]),
        **{name: getattr(facts, name) for name in _SHARED_FIELDS},
        "beta": float(facts.beta) if facts.format > 1 else 1.0,
        "acceptances": acceptances,
        "has_void_acceptances": len(acceptances) < len(facts.acceptances),
        "stopping_costs": tuple(facts.stopping_costs),
        "verifier_terms": tuple(facts.verifier_terms),
        "sketch": QuestionSketch(**parts["sketch"]) if "sketch" in parts else None,
        "drift_profile": None if facts.drift is None else DriftProfile.from_parts(facts.drift, parts["drift"]),
    }
    logprob_fields: dict[str, Any] = {}
    if isinstance(facts, _LogprobFacts):
        logprob_fields = {
            "features": tuple(facts.features),
            "standardizer": Standardizer(**parts["standardizer"]),
            "response_terms": tuple(facts.response_terms),
            "response": ResponseWeights(**parts["response"]),
            "k_min": facts.k_min,
            "k_max": facts.k_max,
        }
    if not isinstance(facts, _HiddenFacts | _HybridFacts):
        return HeadArtifact(**logprob_fields, **shared)
    logprob_head = None
    if isinstance(facts, _HybridFacts):
        logprob_head = HeadArtifact(
            head=GatedLinearHead(**parts["beside"]),
            width=facts.rank_width,
            provider=facts.provider,
            model=facts.model,
            **logprob_fields,
        )
    return HiddenHead(
        layers=tuple(facts.layers),
        moment=facts.moment,  # type: ignore[arg-type]  # HiddenHead checks it
        logprob_head=logprob_head,
        **shared,
    )
