"""Linear subspaces of states: principal axes, random axes for comparison, and the maps that keep or remove a subspace.

All functions take one cloud of vectors, or many of the same shape: [n, ..., d].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codi_bench.errors import MeasureError
from codi_bench.measures.arrays import check_finite, check_magnitude, real
from codi_bench.models.conditions import Affine


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes of vectors: centre [..., d], axes [..., d, d] (rows, orthonormal), and the variance along each, falling."""

    centre: np.ndarray
    axes: np.ndarray
    variance: np.ndarray

    def energy(self, basis: np.ndarray) -> np.ndarray:
        """Variance within the span of orthonormal rows [..., r, d], [...]."""
        along = np.einsum("...rd,...ad->...ra", basis, self.axes)
        return np.asarray(np.einsum("...ra,...a->...", along**2, self.variance))

    def scale(self, basis: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The factor by which `other` must be scaled to hold as much variance as `basis`, [...]; 0 where it holds none."""
        wanted, held = self.energy(basis), self.energy(other)
        return np.sqrt(np.divide(wanted, held, out=np.zeros_like(wanted), where=held > 0))


def principal_axes(x: np.ndarray) -> Axes:
    """Principal axes of vectors [n, ..., d]. Raises MeasureError for fewer than two."""
    x = real("vectors", x)
    if x.ndim < 2 or len(x) < 2:
        raise MeasureError(f"principal axes need two problems or more, not {len(x) if x.ndim else 0}")
    check_finite("vectors", x)
    check_magnitude("vectors", x, 1e-100, 1e100)
    centre = x.mean(axis=0, dtype=np.float64)
    centred = np.moveaxis(x - centre, 0, -2)  # [..., n, d]
    variance, columns = np.linalg.eigh(centred.swapaxes(-1, -2) @ centred / len(x))
    return Axes(centre, columns[..., ::-1].swapaxes(-1, -2), variance[..., ::-1].clip(min=0))


def random_basis(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Orthonormal rows [..., r, d] of random spaces; shape: (..., r, d)."""
    return np.linalg.qr(rng.standard_normal(shape).swapaxes(-1, -2))[0].swapaxes(-1, -2)


def removing(basis: np.ndarray, centre: np.ndarray, scale: np.ndarray | float = 1.0) -> Affine:
    """x → x - scale P (x - centre), P the projection on orthonormal rows [..., r, d]; scale [...]."""
    inside = np.asarray(scale)[..., None, None] * (basis.swapaxes(-1, -2) @ basis)
    return _affine(np.eye(basis.shape[-1]) - inside, np.einsum("...i,...ij->...j", centre, inside))


def keeping(basis: np.ndarray, centre: np.ndarray) -> Affine:
    """x → centre + P (x - centre)."""
    inside = basis.swapaxes(-1, -2) @ basis
    return _affine(inside, centre - np.einsum("...i,...ij->...j", centre, inside))


def shifting(direction: np.ndarray) -> Affine:
    """x → x + direction [d]."""
    return _affine(np.eye(len(direction)), direction)


def _affine(matrix: np.ndarray, offset: np.ndarray) -> Affine:
    return Affine(matrix.astype(np.float32), offset.astype(np.float32))


def band(width: int, first: int, end: int, of: int) -> slice:
    """Scale components first..end - 1 of a model of width `of` to the same share of another width; at least one."""
    start = max(min(first, 1), round(first * width / of))
    return slice(start, max(start + 1, round(end * width / of)))
