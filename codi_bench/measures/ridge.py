"""Ridge regression on labels of +1 and -1 for many label columns at once: the kernel under `probe_grid`.

Minimises the sum of squared errors + |w|^2 / C with a free intercept, as scikit-learn's RidgeClassifier does with alpha = 1 / C.
In the span of a training set (`Design`) its matrix is diagonal, so all penalties and all columns share one product with the
training rows and one with the test rows each: closed form, nothing iterates. A column of one class gets that class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codi_bench.measures.design import Design

CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # from all but the mean label to hardly any penalty, for some hundred standardised problems


def decide(of: Design, signs: Tensor, C: Tensor) -> Tensor:
    """Decision values [m, columns] of the test rows; signs [n, columns] of +1 and -1, C [columns], in the dtype of the design."""
    return torch.addmm(signs.mean(0), of.test, (of.train.T @ signs) / (of.variance.unsqueeze(1) + 1 / C))


def path(of: Design, signs: Tensor, grid: Tensor) -> Tensor:
    """The same at every C of a grid, [Cs, m, columns]."""
    towards, mean = of.train.T @ signs, signs.mean(0)
    return torch.stack([torch.addmm(mean, of.test / (of.variance + 1 / C), towards) for C in grid])
