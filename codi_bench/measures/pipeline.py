"""The common parts of probes with two and with many classes: checks, scaling, the choice of C, one thread per cell."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from codi_bench.errors import MeasureError, arguments, one_line
from codi_bench.measures.arrays import check_finite, classes, real
from codi_bench.measures.design import Design, Gram, design
from codi_bench.measures.folds import Split

Result = TypeVar("Result")


def checked_cells(
    activations: ArrayLike, labels: ArrayLike, name: str = "labels", read: Callable[[str, Any], np.ndarray] = classes
) -> tuple[np.ndarray, np.ndarray]:
    """Activations [n, positions, d] and labels [n] as arrays; raises MeasureError for other shapes or gaps. read: the labels."""
    x, labels = real("activations", activations), read(name, labels)
    if x.ndim != 3 or 0 in x.shape or labels.shape != x.shape[:1]:
        raise MeasureError(
            f"probes need activations [n, positions, d] and {name} [n], got {list(x.shape)} and {list(labels.shape)}"
        )
    check_finite("activations", x)
    return x, labels


def two_classes(labels: np.ndarray) -> np.ndarray:
    """The two classes [2] of labels [n]. Raises MeasureError for more or fewer."""
    classes = np.unique(labels)
    if len(classes) != 2:
        raise MeasureError(f"a probe needs two classes, the labels have {len(classes)}: {classes[:5].tolist()}")
    return classes


def penalties(values: Sequence[float]) -> tuple[float, ...]:
    """The penalties to try. Raises MeasureError unless they are positive, finite and rising."""
    Cs = arguments.entries("Cs", values, error=MeasureError)
    for i, C in enumerate(Cs):
        arguments.number(f"Cs[{i}]", C, math.ulp(0), error=MeasureError)
    if not Cs or (np.diff(Cs) <= 0).any():
        raise MeasureError(f"Cs must be positive and rising, got {Cs}")
    return tuple(Cs)


def check_place(device: str, workers: int | None) -> None:
    """Raises MeasureError for a device that is not available, or an invalid number of threads."""
    if workers is not None:
        arguments.whole("workers", workers, error=MeasureError)
    try:
        torch.empty(0, device=arguments.text("device", device, error=MeasureError))
    except (RuntimeError, AssertionError) as error:
        raise MeasureError(f"device '{device}' is not available ({one_line(error)})") from error


def in_threads(task: Callable[..., Result], arguments: Iterable[tuple], workers: int | None) -> list[Result]:
    """Call `task(*arguments)` for each, in `workers` threads, one per core by default.

    Each task computes with one thread: a sum that is split over threads would change its last bits.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers or os.cpu_count(), initializer=use_threads, initargs=(1,)) as pool:
        results = list(pool.map(lambda those: task(*those), arguments))
    torch.set_num_threads(threads)
    return results


def use_threads(count: int) -> None:
    """Set the number of threads that this thread computes with.

    When a thread first asks torch for its number, it gets the number that any thread set last, even if it set another one itself:
    so this function asks before it sets.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


def precision(loose: bool) -> torch.dtype:
    """Data type of fits: single precision for random draws, where it changes fewer than one prediction in a thousand."""
    return torch.float32 if loose else torch.float64


def choices(
    x: Tensor,
    splits: Sequence[Split],
    right: Callable[[Design, Tensor, Tensor], Tensor],
    *,
    columns: tuple[int, int],
    dtype: torch.dtype,
    scale: bool = True,
) -> Iterator[tuple[Split, Design, Tensor, Tensor]]:
    """For each split: the design of its training and test rows, and for each label column the index of C and its inner accuracy.

    x [n, d] float64. right: for a design and its rows to fit and to score, the share of right predictions [Cs, columns]; columns:
    that shape. A split without inner folds takes the first C, with accuracy 0.
    """
    for split in splits:
        train, test = (torch.as_tensor(rows, device=x.device) for rows in (split.train, split.test))
        features = standardised(x, train) if scale else x - x[train].mean(0)
        fewest = min((len(rows) for rows, _ in split.inner), default=len(train))
        gram = Gram.of(features, train) if x.shape[1] > fewest else None
        votes = torch.zeros(columns, dtype=torch.float64, device=x.device)
        for pair in split.inner:
            fit_rows, score_rows = (torch.as_tensor(rows, device=x.device) for rows in pair)
            # Summed fold by fold as scikit-learn does: its ties are ties here.
            votes += right(design(features, gram, fit_rows, score_rows).to(dtype), fit_rows, score_rows)
        # argmax takes the first of equals: the smallest C
        yield split, design(features, gram, train, test).to(dtype), votes.argmax(0), votes.amax(0) / max(1, len(split.inner))


def standardised(x: Tensor, train: Tensor) -> Tensor:
    """x scaled as scikit-learn's StandardScaler fitted to the rows `train` would; a constant feature becomes 0."""
    sample, eps = x[train], torch.finfo(x.dtype).eps
    mean, variance = sample.mean(0), sample.var(0, unbiased=False)
    constant = variance <= len(sample) * eps * variance + (len(sample) * mean * eps) ** 2
    return (x - mean) / torch.where(constant, 1.0, variance.sqrt())
