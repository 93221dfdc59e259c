"""What every part of a head asks of its numbers: right shape, finite, and a sum that no layout changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from swift_client.features.segments import F64

MAX_MAGNITUDE = 1e9
"""Bound of every stored number, and 1 / LARGEST of every scale: within it no float32 score can overflow."""


def finite_vector(values: ArrayLike, name: str, *, like: F64 | None = None) -> F64:
    """Return ``values`` as a float64 vector; ValueError where it is not one, not finite, or not as long as ``like``."""
    vector = np.array(values, np.float64)
    if vector.ndim != 1 or (like is not None and vector.shape != like.shape):
        raise ValueError(f"{name} has shape {vector.shape}, expected {'(d,)' if like is None else like.shape}.")
    if not (np.abs(vector) <= MAX_MAGNITUDE).all():
        raise ValueError(f"{name} holds a number that is not finite or is beyond {MAX_MAGNITUDE:g}.")
    return vector


def finite_scalar(value: ArrayLike, name: str) -> float:
    """Return ``value`` as a float; ValueError where it is not one finite number."""
    scalar = np.array(value, np.float64)
    if scalar.ndim != 0 or not abs(scalar) <= MAX_MAGNITUDE:
        raise ValueError(f"{name} is not one finite number within {MAX_MAGNITUDE:g}.")
    return float(scalar)


def weigh(rows: ArrayLike, weight: F64) -> F64:
    """Return rows (S, d) · weight (d,), float64 (S,).

    Column by column, and not a BLAS product: there the order of the sum depends on where a row stands, on how the
    array lies in memory and on how many threads run.
    """
    matrix = np.asarray(rows)
    if matrix.ndim != 2 or matrix.shape[1] != len(weight):
        raise ValueError(f"Features have shape {matrix.shape}, expected (T, {len(weight)}).")
    total = np.zeros(len(matrix))
    for column, factor in zip(matrix.T, weight, strict=True):
        total += column * factor
    return total
