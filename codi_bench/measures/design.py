"""Training and test rows of a linear probe in the span of the training rows.

Everything that does not depend on labels is done here, once for each training set: its rows are centred (which changes only an
intercept) and rotated into their own span of at most n - 1 dimensions, which leaves an L2 penalty unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEGLIGIBLE = 1e-10  # directions with less than this share of the largest variance are rounding


@dataclass(frozen=True, eq=False)
class Design:
    """A training set in its own span: train [n, r], test [m, r], variance [r] = diagonal of train' train.

    Weights in the original space are x' train (slope / variance), where x [n, d] are the centred training rows.
    """

    train: Tensor
    test: Tensor
    variance: Tensor

    def to(self, dtype: torch.dtype) -> Design:
        return Design(*(part.to(dtype) for part in (self.train, self.test, self.variance)))


@dataclass(frozen=True, eq=False)
class Gram:
    """Products [n, m] of all rows with m of them. With fewer rows than dimensions, designs lie in the span of these m rows.

    place [n]: the index of a row among those m.
    """

    products: Tensor
    place: Tensor

    @classmethod
    def of(cls, x: Tensor, rows: Tensor) -> Gram:
        """x [n, d] with some of its rows."""
        place = torch.full((len(x),), -1, device=x.device)
        place[rows] = torch.arange(len(rows), device=x.device)
        return cls((x @ x[rows].T).double(), place)


def design(x: Tensor, gram: Gram | None, train: Tensor, test: Tensor) -> Design:
    """Rows `train` of x [n, d] (float64) in their span, and rows `test` in it.

    gram: of x; needed only if there are fewer rows `train` than dimensions.
    """
    if gram is None or len(train) >= x.shape[1]:
        mean = x[train].mean(0)
        rows = x[train] - mean
        values, vectors = _spectrum(rows.T @ rows)
        return Design(rows @ vectors, (x[test] - mean) @ vectors, values)
    gram_train, gram_test = (gram.products[rows][:, gram.place[train]] for rows in (train, test))
    mean = gram_train.mean(0)
    values, vectors = _spectrum(gram_train - mean - (mean - mean.mean()).unsqueeze(1))
    gram_test = gram_test - gram_test.mean(1, keepdim=True) - (mean - mean.mean())
    return Design(vectors * values.sqrt(), gram_test @ (vectors / values.sqrt()), values)


def _spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    span = values > NEGLIGIBLE * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
    return values[span], vectors[:, span]
