"""Tests of a head's file: an exact round trip, and one clear error for a bad file."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swift_client.errors import ArtifactError, ArtifactMismatchError
from swift_client.models import (
    Calibration,
    GatedLinearHead,
    HeadArtifact,
    IsotonicCalibration,
    PlattCalibration,
    ResponseWeights,
    Standardizer,
    load,
    save,
)
from swift_client.models.resolve_head import load_head


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Make every write beyond ``size`` bytes fail, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def make_head(calibration: Calibration | None = None, **facts: Any) -> HeadArtifact:
    """Build a head on four columns (logprob, entropy and two ranks) and two response terms."""
    rng = np.random.default_rng(7)
    return HeadArtifact(
        **{
            "features": ("logprob", "entropy", "rank_surprise"),
            "width": 2,
            "standardizer": Standardizer(mean=rng.normal(size=4), scale=rng.random(4) + 0.5),
            "head": GatedLinearHead(
                gate_weight=rng.normal(size=4), gate_bias=0.25, reward_weight=rng.normal(size=4), reward_bias=-1.5
            ),
            "response_terms": ("sum_logprob", "log_length"),
            "response": ResponseWeights(mean=[-40.0, 3.0], scale=[10.0, 0.5], weight=[0.3, -0.2]),
            "calibration": calibration,
            "provider": "pocket",
            "model": "pocket-1",
            "k_min": 1,
            "k_max": 2,
            "training": {"questions": 560, "auroc": 0.75, "seeds": [1, 2], "note": "café"},
            "licence": "Apache-2.0",
        }
        | facts
    )


def numbers(artifact: HeadArtifact) -> list[bytes]:
    parts = (artifact.standardizer, artifact.head, artifact.response.standardizer, artifact.calibration)
    arrays = [value for part in parts if part is not None for value in vars(part).values()]
    return [np.asarray(array).tobytes() for array in [*arrays, artifact.response.weight]]


@pytest.mark.parametrize(
    "calibration", [None, PlattCalibration(a=1.25, b=-0.5), IsotonicCalibration(x=[-1, 0, 2], y=[0, 0.4, 1])]
)
def test_a_saved_head_comes_back_to_the_last_bit(tmp_path: Path, calibration: Calibration | None) -> None:
    written = make_head(calibration)
    save(written, tmp_path / "head.safetensors")
    loaded_head = load_head(tmp_path / "head.safetensors")
    assert numbers(loaded_head) == numbers(written)
    assert type(loaded_head.calibration) is type(written.calibration)
    for fact in ("features", "width", "response_terms", "provider", "model", "k_min", "k_max", "training", "licence"):
        assert getattr(loaded_head, fact) == getattr(written, fact)
    assert os.listdir(tmp_path) == ["head.safetensors"]


def test_a_head_without_response_terms_comes_back_too(tmp_path: Path) -> None:
    none = ResponseWeights(mean=[], scale=[], weight=[])
    save(make_head(response_terms=(), response=none), tmp_path / "head")
    assert load_head(tmp_path / "head").response_terms == ()


def test_any_safetensors_reader_opens_the_file_and_the_facts_are_plain_json(tmp_path: Path) -> None:
    save(make_head(), tmp_path / "head")
    with safetensors.safe_open(tmp_path / "head", "np") as file:
        assert json.loads(file.metadata()["swift_client"])["features"] == ["logprob", "entropy", "rank_surprise"]
        assert file.get_tensor("head.gate_weight").shape == (4,)


def rewrite(path: Path, *, drop: str = "", tensors: dict[str, np.ndarray] | None = None, **facts: Any) -> None:
    """Write a sound head's file again with some tensors or facts changed, or one fact dropped."""
    save(make_head(), path)
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    document = json.loads(header["__metadata__"]["swift_client"]) | facts
    document.pop(drop, None)
    changed = safetensors.numpy.load(data) | (tensors or {})
    path.write_bytes(safetensors.numpy.save(changed, {"swift_client": json.dumps(document)}))


@pytest.mark.parametrize(
    ("facts", "tensors", "reason"),
    [
        ({"format": 3}, {}, "its format is 3 and this swift-client reads 1 and 2; upgrade"),
        ({"format": "1"}, {}, r"Expected `int`, got `str` - at `\$\.format`"),
        ({"drop": "k_min"}, {}, "missing required field `k_min`"),
        ({"k_min": True}, {}, r"Expected `int`, got `bool` - at `\$\.k_min`"),
        ({"features": "logprob"}, {}, r"Expected `array`, got `str` - at `\$\.features`"),
        ({"features": [1, 2]}, {}, r"Expected `str`, got `int` - at `\$\.features\[0\]`"),
        ({"features": ["logprob", "entropy", "moon_phase"]}, {}, "Unknown features: moon_phase"),
        ({"features": ["logprob", "entropy"]}, {}, "4 weights for 2 columns"),
        ({"response_terms": ["sum_logprob"]}, {}, "2 weights for 1 columns"),
        ({"width": 3}, {}, "4 weights for 5 columns"),
        ({"width": 10**9, "k_max": 10**9}, {}, "from 0 to 1024"),
        ({"k_min": 2, "k_max": 1}, {}, "must rise"),
        ({"calibration": "magic"}, {}, "'magic' is unknown"),
        ({"calibration": "platt"}, {}, "'calibration'"),
        ({}, {"calibration.a": np.ones(())}, "'calibration'"),
        ({}, {"head.extra": np.ones(1)}, "extra"),
        ({}, {"head.gate_weight": np.ones(3)}, r"\(4,\)"),
        ({}, {"head.gate_weight": np.array([1, 2, np.nan, 4])}, "gate_weight holds a number that is not finite"),
        ({}, {"head.gate_bias": np.array([1.0])}, "gate_bias is not one finite number"),
        ({}, {"standardizer.mean": np.ones(2), "standardizer.scale": np.ones(2)}, "2 columns"),
        ({}, {"standardizer.scale": np.zeros(4)}, "scale"),
        ({}, {"response.weight": np.ones(3)}, r"weight has shape \(3,\)"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, facts: dict[str, Any], tensors: dict[str, np.ndarray], reason: str
) -> None:
    path = tmp_path / "head"
    rewrite(path, tensors=tensors, **facts)
    with pytest.raises(ArtifactError, match=reason) as excinfo:
        load_head(path)
    assert str(path) in str(excinfo.value)
    assert "\n" not in str(excinfo.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("exploded",))


def header(text: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        pickle.dumps(Bomb()),
        b"PK\x03\x04" + b"\0" * 100,
        struct.pack("<Q", 2 * 2**30) + b"{" * 100,
        struct.pack("<Q", 2**64 - 1) + b"{}",
        header(b"{}"),
        header(b"[]"),
        header(b'{"__metadata__":{"swift_client":"{}"}}'),
        header(b'{"__metadata__":{"swift_client":"[1]"}}'),
        header(b'{"__metadata__":{"swift_client":"' + b"[" * 100_000 + b'"}}'),
        header(b'{"__metadata__":{"other":"{}"}}'),
        header(b'{"a":{"dtype":"F64","shape":[9],"data_offsets":[0,72]}}', b"\0" * 8),
        header(b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}', b"\0" * 2),
        header(b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}', b"\0"),
        header(b'{"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}}', b"\0" * 8),
    ],
)
def test_files_that_are_not_heads_are_refused_and_nothing_in_them_runs(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "head"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="is not a head: ") as excinfo:
        load_head(path)
    assert len(str(excinfo.value)) < 500
    assert os.listdir(tmp_path) == ["head"]


def test_a_file_too_large_for_a_head_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "head"
    with path.open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ArtifactError, match="larger than 64 MB"):
        load(path)


def test_every_truncation_of_a_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head"
    save(make_head(PlattCalibration(a=1, b=0)), path)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(ArtifactError):
            load_head(path)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_head_loads_sound_or_is_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "head"
    save(make_head(IsotonicCalibration(x=[0, 1], y=[0, 1])), path)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    path.write_bytes(bytes(damaged))
    try:
        artifact = load_head(path)
    except ArtifactError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert np.isfinite(artifact.head.gate_weight).all()


def test_a_missing_or_unreadable_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        load(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_head_that_cannot_be_written_leaves_the_old_one_whole(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be written .*No such file"):
        save(make_head(), tmp_path / "missing" / "head")
    save(make_head(), tmp_path / "head")
    before = (tmp_path / "head").read_bytes()
    with file_size_limit(10), pytest.raises(ArtifactError, match=r"cannot be written .*File too large"):
        save(make_head(), tmp_path / "head")
    assert (tmp_path / "head").read_bytes() == before
    assert os.listdir(tmp_path) == ["head"]


def test_training_facts_that_json_cannot_hold_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for facts in ({"auroc": float("nan")}, {"auroc": np.float32(1)}):
        with pytest.raises((ValueError, TypeError), match="JSON"):
            save(make_head(training=facts), tmp_path / "head")
    assert os.listdir(tmp_path) == []


def test_a_head_is_refused_for_another_model_or_too_few_alternatives() -> None:
    head = make_head()
    head.check(provider="pocket", model="pocket-1", k=1)
    head.check(provider="pocket", model="pocket-1", k=20)  # of 20 it reads its 2
    for wrong, reason in (
        ({"provider": "openai"}, "trained on pocket/pocket-1, not on openai/pocket-1"),
        ({"model": "pocket-2"}, "trained on pocket/pocket-1, not on pocket/pocket-2"),
        ({"model": None}, "not on pocket/None"),
        ({"k": 0}, "needs at least 1 alternatives per token, not 0"),
    ):
        with pytest.raises(ArtifactMismatchError, match=reason):
            head.check(**{"provider": "pocket", "model": "pocket-1", "k": 2} | wrong)  # type: ignore[arg-type]
