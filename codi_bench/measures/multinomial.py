"""L2-penalised softmax regression for many label columns at once: the kernel under `value_probes`.

Minimises C x sum of log-losses + |W|^2 / 2 with free intercepts and all k classes penalised, as scikit-learn's multinomial
LogisticRegression does for k > 2 (for k = 2 that is its binary regression with 2 C). Works in the span of a training set, on a
`logistic.Design`, with the solver of `logistic.fit`: nonlinear conjugate gradients, preconditioned by the diagonal of the Hessian
with p(1-p) replaced by its mean over the problems of a column and class; a line search that takes no matrix product; columns
that have converged leave. The solution sums to zero over classes, so steps are projected there: a third fewer iterations.

A class that a column's training rows lack has probability 0, slope 0 and intercept -inf: scikit-learn fits the others alone. A
constant added to the intercepts changes nothing, so those of the classes present sum to zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codi_bench.errors import MeasureError
from codi_bench.measures.logistic import COMPACT, MAX_ITERATIONS, TIGHT, Design, Weights


def fit(of: Design, labels: Tensor, classes: int, C: Tensor, *, tolerance: float = TIGHT) -> Weights:
    """Weights for every column of labels: slope [r, k, columns], intercept [k, columns].

    labels [n, columns] int64 in 0..k-1, C [columns] in the dtype of the design. Raises MeasureError for other labels, and if a
    column does not converge.
    """
    if labels.min() < 0 or labels.max() >= classes:
        raise MeasureError(f"labels must lie within 0..{classes - 1}, got {int(labels.min())} to {int(labels.max())}")
    z, variance = of.train, of.variance.view(-1, 1, 1)
    one, tiny = torch.ones((), dtype=z.dtype, device=z.device), torch.finfo(z.dtype).tiny
    n, columns = labels.shape
    z_t = z.T.contiguous()
    slope, intercept = z.new_zeros(z.shape[1], classes, columns), z.new_empty(classes, columns)
    active = torch.arange(columns, device=z.device)
    y, w, b = labels, slope.clone(), _rates(labels, classes).to(z.dtype)
    share = (b > -math.inf) / (b > -math.inf).sum(0).to(z.dtype)  # [k, columns]: 1 / classes present, 0 for an absent one
    f = b.expand(n, *b.shape).clone()
    history: tuple[Tensor, ...] | None = None
    for _ in range(MAX_ITERATIONS):
        p = f.softmax(1)
        residual = _residual(p, y, C)
        gradient, gradient_b = w - (z_t @ residual.view(n, -1)).view(w.shape), -residual.sum(0)
        # A class that is absent or alone has no curvature, and no gradient: 0 / 0 must be 0.
        curvature = C * torch.addcmul(p, p, p, value=-1).mean(0).clamp_(min=1e-9)
        newton, newton_b = gradient / torch.addcmul(one, variance, curvature), gradient_b / (n * curvature)
        newton, newton_b = newton.addcmul_(newton.sum(1, keepdim=True), share, value=-1), newton_b - newton_b.sum(0) * share
        decrement = (gradient * newton).sum((0, 1)) + (gradient_b * newton_b).sum(0)

        unsolved = decrement > tolerance**2 * ((w * w).sum((0, 1)) + 1e-4 * n * C)
        num_active = int(unsolved.sum())
        if num_active < COMPACT * len(active):
            slope[..., active], intercept[:, active] = w, b
            if num_active == 0:
                return Weights(slope, intercept)
            survivors = unsolved.nonzero().squeeze(1)
            active, C, y, share, w, b, f, p, gradient, gradient_b, newton, newton_b, decrement = (
                v.index_select(-1, survivors)
                for v in (active, C, y, share, w, b, f, p, gradient, gradient_b, newton, newton_b, decrement)
            )
            if history is not None:
                history = tuple(v.index_select(-1, survivors) for v in history)

        step, step_b = -newton, -newton_b
        if history is not None:
            old_gradient, old_gradient_b, old_decrement, old_step, old_step_b = history
            beta = (decrement - (old_gradient * newton).sum((0, 1)) - (old_gradient_b * newton_b).sum(0)) / (old_decrement + tiny)
            beta.clamp_(min=0)
            step.addcmul_(old_step, beta), step_b.addcmul_(old_step_b, beta)
            uphill = (gradient * step).sum((0, 1)) + (gradient_b * step_b).sum(0) >= 0
            if uphill.any():
                step, step_b = torch.where(uphill, -newton, step), torch.where(uphill, -newton_b, step_b)
        shift = torch.addmm(step_b.view(1, -1), z, step.flatten(1)).view(f.shape)
        length = _line_search(f, p, y, C, (w * step).sum((0, 1)), (step * step).sum((0, 1)), shift)
        w.addcmul_(step, length), b.addcmul_(step_b, length), f.addcmul_(shift, length)
        history = (gradient, gradient_b, decrement, step, step_b)
    raise MeasureError(f"{len(active)} softmax fits did not converge in {MAX_ITERATIONS} iterations")


def _rates(labels: Tensor, classes: int) -> Tensor:
    """Log frequencies [k, columns] that sum to zero, -inf where a class is absent: the intercepts of a slope of 0."""
    counts = torch.stack([column.bincount(minlength=classes) for column in labels.T], dim=1)
    present = counts > 0
    rates = counts.double().log()
    return rates - torch.where(present, rates, 0).sum(0) / present.sum(0)


def _residual(p: Tensor, y: Tensor, C: Tensor) -> Tensor:
    """C (1[y = class] - p) [n, k, columns]."""
    index = y.unsqueeze(1)
    return (p * -C).scatter_add_(1, index, C.expand(index.shape))


def _line_search(
    f: Tensor, p: Tensor, y: Tensor, C: Tensor, penalty_slope: Tensor, penalty_curvature: Tensor, shift: Tensor
) -> Tensor:
    """Two Newton steps along the direction, from 0; the second may not go back behind a tenth or beyond four times the first."""
    label_shift, tiny = shift.gather(1, y.unsqueeze(1)).sum((0, 1)), torch.finfo(f.dtype).tiny

    def newton(p: Tensor, slope: Tensor) -> Tensor:
        product = p * shift
        mean = product.sum(1)
        bend = product.mul_(shift).sum((0, 1)) - (mean * mean).sum(0)
        return (slope + C * (mean.sum(0) - label_shift)) / (penalty_curvature + C * bend.clamp_(min=0) + tiny)

    first = -newton(p, penalty_slope)
    second = first - newton(torch.addcmul(f, shift, first).softmax(1), torch.addcmul(penalty_slope, first, penalty_curvature))
    return torch.minimum(torch.maximum(second, 0.1 * first), 4 * first)


def decide(of: Design, weights: Weights) -> Tensor:
    """Logits [m, k, columns] of the test rows; -inf for a class that was absent in training."""
    classes, columns = weights.intercept.shape
    return torch.addmm(weights.intercept.view(1, -1), of.test, weights.slope.flatten(1)).view(-1, classes, columns)
