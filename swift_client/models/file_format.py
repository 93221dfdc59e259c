"""A head's file: safetensors with one JSON document of facts in its metadata. Nothing in it can run."""

from __future__ import annotations

import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.numpy

from swift_client.atomic_write import atomic_write
from swift_client.errors import ArtifactError
from swift_client.models.acceptance import Acceptance
from swift_client.models.artifact import HeadArtifact, ResponseWeights
from swift_client.models.calibration import CALIBRATIONS
from swift_client.models.gated_linear import GatedLinearHead
from swift_client.models.hidden_head import HiddenHead
from swift_client.models.standardizer import Standardizer

FORMAT = 1
"""Version of the file's layout. Features keep their meaning under their name, or get a new name."""
MAX_FILE_BYTES = 64 * 2**20
"""Bytes; a head is some kilobytes, and one on the hidden states of a 70B model less than this."""
MAX_HEADER_BYTES = 2**20
"""Bytes of JSON before the weights; a head's are a few thousand."""
METADATA_KEY = "swift_client"
"""Metadata key of the JSON document."""

_FACTS: dict[str, type] = {
    "format": int,
    "features": list,
    "width": int,
    "response_terms": list,
    "calibration": str,
    "provider": str,
    "model": str,
    "k_min": int,
    "k_max": int,
    "training": dict,
    "licence": str,
}
"""Field and JSON type; ``calibration`` is "none" or a key of CALIBRATIONS."""

_HIDDEN_FACTS: dict[str, type] = {
    "format": int,
    "layers": list,
    "width": int,
    "moment": str,
    "calibration": str,
    "provider": str,
    "model": str,
    "training": dict,
    "licence": str,
}
"""The same for a head on hidden states, whose ``kind`` is "hidden"; one with a head ``beside`` has ``rank_width``."""
_LOGPROB_HEAD_FACTS: dict[str, type] = {
    "features": list,
    "rank_width": int,
    "response_terms": list,
    "k_min": int,
    "k_max": int,
}

AnyHead = HeadArtifact | HiddenHead


def save(artifact: AnyHead, path: str | os.PathLike[str]) -> None:
    """Write the file whole or not at all. Raises ArtifactError where it cannot be written."""
    calibration = artifact.calibration
    kinds = [kind for kind, maker in CALIBRATIONS.items() if isinstance(calibration, maker)]
    facts = {
        "format": FORMAT,
        "calibration": kinds[0] if kinds else "none",
        "provider": artifact.provider,
        "model": artifact.model,
        "training": dict(artifact.training),
        "licence": artifact.licence,
        "width": artifact.width,
    }
    if artifact.acceptances:
        facts["acceptances"] = [each.to_dict() for each in artifact.acceptances]
    tensors = _named_tensors("head", artifact.head)
    reads: AnyHead | None = artifact
    if isinstance(artifact, HiddenHead):
        facts |= {"kind": "hidden", "layers": list(artifact.layers), "moment": artifact.moment}
        reads = artifact.logprob_head
    if isinstance(reads, HeadArtifact):
        facts |= {
            "features": list(reads.features),
            "response_terms": list(reads.response_terms),
            "k_min": reads.k_min,
            "k_max": reads.k_max,
        }
        tensors |= _named_tensors("standardizer", reads.standardizer) | _named_tensors(
            "response", reads.response.standardizer
        )
        tensors["response.weight"] = reads.response.weight
    if reads is not artifact and reads is not None:
        facts["rank_width"] = reads.width
        tensors |= _named_tensors("beside", reads.head)
    if calibration is not None:
        tensors |= _named_tensors("calibration", calibration)
    data = safetensors.numpy.save(tensors, {METADATA_KEY: json.dumps(facts, allow_nan=False)})
    try:
        with atomic_write(path) as draft:
            draft.write_bytes(data)
    except OSError as error:
        raise ArtifactError(
            f"The head cannot be written to {path}: {error.strerror}.", hint="Make room, or give another path."
        ) from error


def _named_tensors(prefix: str, part: object) -> dict[str, np.ndarray[Any, Any]]:
    return {f"{prefix}.{name}": np.asarray(value, np.float64) for name, value in vars(part).items()}


def load(path: str | os.PathLike[str]) -> AnyHead:
    """Read a file that :func:`save` wrote. Raises ArtifactError for anything else, without running any of it."""
    with _open_head(path) as file:
        data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES >> 20} MB")
        tensors = safetensors.numpy.load(data)
        return _build_head(_parse_facts(data[8 : 8 + int.from_bytes(data[:8], "little")]), tensors)


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a head's file says of itself, checked, and no weights. Raises ArtifactError as :func:`load` does."""
    with _open_head(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError("it is not a safetensors file with a head's short header")
        return _parse_facts(file.read(size))


@contextmanager
def _open_head(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file and turn whatever is wrong with it into one ArtifactError. A pipe or a device is not waited for."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is no regular file")
            yield file
    except OSError as error:
        raise ArtifactError(
            f"The head {path} cannot be read: {error.strerror}.", hint="Check the path, and who may read it."
        ) from error
    except safetensors.SafetensorError as error:
        raise _not_a_head(path, f"it is not a safetensors file ({error})") from error
    # KeyError: a number type that numpy lacks; RecursionError: JSON nested to exhaust the stack.
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _not_a_head(path, str(error)) from error


def _not_a_head(path: str | os.PathLike[str], reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is not a head: {reason.rstrip('.')}.", hint="Heads are written by `swift-client train`."
    )


def _parse_facts(header: bytes) -> dict[str, Any]:
    """Return the checked JSON document of a safetensors file's header."""
    document = json.loads(header)
    metadata = document.get("__metadata__") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get(METADATA_KEY), str):
        raise ValueError(f"its metadata has no entry {METADATA_KEY!r}")
    facts = json.loads(metadata[METADATA_KEY])
    if not isinstance(facts, dict) or type(facts.get("format")) is not int:
        raise ValueError("its metadata has no format version")
    if facts["format"] != FORMAT:
        raise ValueError(f"its format is {facts['format']} and this swift-client reads {FORMAT}; upgrade swift-client")
    hidden = facts.get("kind") == "hidden"
    wanted = _HIDDEN_FACTS | (_LOGPROB_HEAD_FACTS if "rank_width" in facts else {}) if hidden else _FACTS
    for name, kind in wanted.items():
        if type(facts.get(name)) is not kind:
            raise ValueError(f"its metadata lacks {name!r} ({kind.__name__})")
        if kind is list and not all(type(entry) is (int if name == "layers" else str) for entry in facts[name]):
            raise ValueError(f"its metadata has {name!r} that are not names")
    Acceptance.read(facts.get("acceptances", []))
    return facts


def _build_head(facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> AnyHead:
    parts: dict[str, dict[str, np.ndarray[Any, Any]]] = defaultdict(dict)
    for name, tensor in tensors.items():
        part, _, field = name.partition(".")
        parts[part][field] = tensor
    kind = facts["calibration"]
    if kind != "none" and kind not in CALIBRATIONS:
        raise ValueError(f"its calibration {kind!r} is unknown")
    hidden = facts.get("kind") == "hidden"
    beside = hidden and "rank_width" in facts
    expected = {"head"} | (set() if hidden and not beside else {"standardizer", "response"})
    expected |= {"beside"} if beside else set()
    expected |= {"calibration"} if kind != "none" else set()
    if parts.keys() != expected:
        raise ValueError(f"it has the parts {sorted(parts)} and not {sorted(expected)}")
    shared: dict[str, Any] = {name: facts[name] for name in ("width", "provider", "model", "training", "licence")}
    shared["acceptances"] = Acceptance.read(facts.get("acceptances", []))  # files from before them have none
    shared["head"] = GatedLinearHead(**parts["head"])
    shared["calibration"] = CALIBRATIONS[kind](**parts["calibration"]) if kind != "none" else None
    if not hidden:
        return HeadArtifact(**_logprob_fields(facts, parts), **shared)
    own: dict[str, Any] = {"layers": tuple(facts["layers"]), "moment": facts["moment"]}
    if beside:
        names = {name: facts[name] for name in ("provider", "model")}
        head = GatedLinearHead(**parts["beside"])
        own["logprob_head"] = HeadArtifact(
            head=head, width=facts["rank_width"], **_logprob_fields(facts, parts), **names
        )
    return HiddenHead(**own, **shared)


def _logprob_fields(facts: Mapping[str, Any], parts: Mapping[str, dict[str, np.ndarray[Any, Any]]]) -> dict[str, Any]:
    """Return what a head reads of logprobs."""
    return {
        "features": tuple(facts["features"]),
        "standardizer": Standardizer(**parts["standardizer"]),
        "response_terms": tuple(facts["response_terms"]),
        "response": ResponseWeights(**parts["response"]),
        "k_min": facts["k_min"],
        "k_max": facts["k_max"],
    }
