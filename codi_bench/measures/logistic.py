"""L2-penalised logistic regression for many label columns at once: the kernel of `probe_grid` with probe="logistic".

Minimises C x sum of log-losses + |w|^2 / 2 with a free intercept, as scikit-learn's LogisticRegression does, in the span of the
training set (`Design`), where the Hessian at equal weights is diagonal. All label columns share two matrix products an iteration.

Solver: nonlinear conjugate gradients (Polak-Ribiere with restarts), preconditioned by the Hessian with the residual weights
p(1-p) replaced by their mean over the problems of a column. Its line search needs no matrix product, and columns are dropped
when they have converged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from codi_bench.errors import MeasureError
from codi_bench.measures.design import Design

CS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # those of the first study
TIGHT, LOOSE = 1e-5, 3e-4  # relative error of the weights: observed fits (float64), permuted fits (float32)
MAX_ITERATIONS = 2000
NOTHING = 1e-4  # a column of weights that lowers the mean loss by less than this need not be known relative to itself
FLAT = 0.2  # share of its derivative that a step along a direction may leave in loose fits; in tight ones that would cost digits
AT_ONCE = 100_000  # numbers an elementwise operation works on
COMPACT = 0.8  # converged columns leave when fewer than this share are still going


@dataclass(frozen=True, eq=False)
class Weights:
    """In the span of a design: slope [r, columns], intercept [columns]."""

    slope: Tensor
    intercept: Tensor


def decide(of: Design, signs: Tensor, C: Tensor) -> Tensor:
    """Decision values [m, columns] of the test rows; signs [n, columns] of +1 and -1, C [columns], in the dtype of the design."""
    return _decisions(of, fit(of, signs, C))


def path(of: Design, signs: Tensor, grid: Tensor) -> Tensor:
    """Decision values at every C of a grid, [Cs, m, columns].

    From the smallest C on, each starting from the one before; small problems at once, where calling the operations costs more.
    """
    weights: Weights | None
    n, columns = signs.shape
    if n * columns * len(grid) <= AT_ONCE:
        weights = fit(of, signs.repeat_interleave(len(grid), 1), grid.repeat(columns))
        return _decisions(of, weights).view(-1, columns, len(grid)).permute(2, 0, 1)
    decisions, weights = [], None
    for C in grid:
        weights = fit(of, signs, C.expand(columns), start=weights)
        decisions.append(_decisions(of, weights))
    return torch.stack(decisions)


def _decisions(of: Design, weights: Weights) -> Tensor:
    return of.test @ weights.slope + weights.intercept


def fit(of: Design, signs: Tensor, C: Tensor, *, start: Weights | None = None) -> Weights:
    """Weights for every column of labels, in float64 to TIGHT, in float32 to LOOSE; signs and C as in `decide`.

    start: where to begin, such as the weights of a smaller C. Columns with one class only get slope 0 and an intercept of that
    sign. Raises MeasureError if a column does not converge.
    """
    tolerance = TIGHT if of.train.dtype == torch.float64 else LOOSE
    z, z_t, variance = of.train, of.train.T.contiguous(), of.variance.unsqueeze(1)
    n, columns = signs.shape
    if start is None:
        slope, intercept = z.new_zeros(z.shape[1], columns), z.new_zeros(columns)
    else:
        slope, intercept = start.slope.clone(), start.intercept.clone()
    one_class = signs.sum(0).abs() == n
    intercept[one_class] = signs[0, one_class]
    active = (~one_class).nonzero().squeeze(1)
    if not active.numel():
        return Weights(slope, intercept)

    # Divided by C: mean losses weigh 1, the penalty 1/C. `deficit` is -y f: how far each problem is on the wrong side.
    y, w, b, penalty = (v.index_select(-1, active) for v in (-signs, slope, intercept, 1 / C))
    deficit = torch.zeros_like(y) if start is None else torch.addmm(b, z, w).mul_(y)
    p_wrong = deficit.sigmoid()  # the probability of the wrong class: no cancellation where the fit is good
    history: tuple[Tensor, ...] | None
    history, slack, tiny = None, FLAT if tolerance >= LOOSE else 0.0, torch.finfo(z.dtype).tiny
    for _ in range(MAX_ITERATIONS):
        weight = torch.addcmul(p_wrong, p_wrong, p_wrong, value=-1)
        pull = y * p_wrong
        gradient, gradient_b = torch.addmm(penalty * w, z_t, pull), pull.sum(0)
        curvature = weight.mean(0)
        newton, newton_b = gradient / torch.addcmul(penalty, variance, curvature), gradient_b / (n * curvature)
        decrement = (gradient * newton).sum(0) + gradient_b * newton_b

        unsolved = decrement > tolerance**2 * (penalty * (w * w).sum(0) + NOTHING * n)
        num_active = int(unsolved.sum())
        if num_active < COMPACT * len(active):
            slope.index_copy_(1, active, w), intercept.index_copy_(0, active, b)
            if num_active == 0:
                return Weights(slope, intercept)
            survivors = unsolved.nonzero().squeeze(1)
            active, penalty, y, w, b, deficit, weight, gradient, gradient_b, newton, newton_b, decrement = (
                v.index_select(-1, survivors)
                for v in (active, penalty, y, w, b, deficit, weight, gradient, gradient_b, newton, newton_b, decrement)
            )
            if history is not None:
                history = tuple(v.index_select(-1, survivors) for v in history)

        step, step_b, downhill = -newton, -newton_b, -decrement
        if history is not None:
            old_gradient, old_gradient_b, old_decrement, old_step, old_step_b = history
            # a column that one step has solved stands still: 0 of 0
            beta = (decrement - (old_gradient * newton).sum(0) - old_gradient_b * newton_b) / old_decrement.clamp(min=tiny)
            beta.clamp_(min=0)
            step.addcmul_(old_step, beta), step_b.addcmul_(old_step_b, beta)
            downhill = (gradient * step).sum(0) + gradient_b * step_b
            if (uphill := downhill >= 0).any():
                step, step_b = torch.where(uphill, -newton, step), torch.where(uphill, -newton_b, step_b)
                downhill = torch.where(uphill, -decrement, downhill)
        shift = torch.addmm(step_b, z, step).mul_(y)
        penalty_slope, penalty_curvature = penalty * (w * step).sum(0), penalty * (step * step).sum(0)
        length, deficit, p_wrong = _line_search(deficit, shift, weight, downhill, penalty_slope, penalty_curvature, slack)
        w.addcmul_(step, length), b.addcmul_(step_b, length)
        history = (gradient, gradient_b, decrement, step, step_b)
    raise MeasureError(f"{len(active)} logistic fits did not converge in {MAX_ITERATIONS} iterations")


def _line_search(
    deficit: Tensor, shift: Tensor, weight: Tensor, slope: Tensor, penalty_slope: Tensor, penalty_curvature: Tensor, slack: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Length [columns] of the step along the direction, and `deficit` and `p_wrong` after the step.

    A Newton step from 0, where the derivative is `slope`; if that leaves more than `slack` of it anywhere, a second one, which
    must lie between a tenth and four times the first. Overwrites weight. penalty_slope, penalty_curvature [columns]:
    derivatives of the penalty.
    """
    square, tiny = shift * shift, torch.finfo(shift.dtype).tiny  # tiny: a column that stands still has a step of 0
    first = -slope / (penalty_curvature + weight.mul_(square).sum(0)).clamp_(min=tiny)
    new_deficit = torch.addcmul(deficit, shift, first)
    p_wrong = new_deficit.sigmoid()
    remainder = torch.addcmul(penalty_slope, first, penalty_curvature) + (p_wrong * shift).sum(0)
    if (remainder.abs() <= slack * slope.abs()).all():
        return first, new_deficit, p_wrong
    curvature = penalty_curvature + torch.addcmul(p_wrong, p_wrong, p_wrong, value=-1).mul_(square).sum(0)
    second = first - remainder / curvature.clamp_(min=tiny)
    length = torch.minimum(torch.maximum(second, 0.1 * first), 4 * first)
    new_deficit = torch.addcmul(deficit, shift, length)
    return length, new_deficit, new_deficit.sigmoid()
