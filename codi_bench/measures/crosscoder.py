"""Crosscoders: one sparse autoencoder over the thoughts of two models shows which features both have, and which only one.

A crosscoder has one set of features, and an encoder and a decoder for each model. A feature that both use has decoder columns of
like norm. Source: Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and Model Diffing"
(transformer-circuits.pub/2024/crosscoders); TopK instead of an L1 penalty, whose shrinkage makes shared features look exclusive
(Minder et al. 2025, arXiv 2504.02922). CKA, which needs no features: Kornblith et al. 2019, arXiv 1905.00414.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import linear

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import SINGLE, check_finite, check_magnitude, real
from codi_bench.measures.sae import as_tensor, descend, largest, unit_columns

SHARED = (0.3, 0.7)  # share of the second model in a feature's decoder norms


@dataclass(frozen=True, eq=False)
class Crosscoder:
    """F features over two models, float32 tensors: encoder_* [F, d], encoder_bias [F], decoder_* [d, F], mean_* [d].

    scale_*: root of the total variance of a model's vectors; vectors are encoded as (x - mean) / scale, so that both models count
    alike whatever their width. k: active features a vector pair. The stacked decoder columns have unit norm.
    """

    encoder_a: torch.Tensor
    encoder_b: torch.Tensor
    encoder_bias: torch.Tensor
    decoder_a: torch.Tensor
    decoder_b: torch.Tensor
    mean_a: torch.Tensor
    mean_b: torch.Tensor
    scale_a: float
    scale_b: float
    k: int

    def encode(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Features float32 [..., F], none negative, of aligned vectors [..., d_a] and [..., d_b]."""
        with torch.no_grad():
            x, y = (as_tensor(a) - self.mean_a) / self.scale_a, (as_tensor(b) - self.mean_b) / self.scale_b
            return largest(linear(x, self.encoder_a, self.encoder_bias) + linear(y, self.encoder_b), self.k).numpy()

    def ratio(self) -> np.ndarray:
        """Share of the second model in each feature's decoder norms, float64 [F]: 0 only the first has it, 1 only the second."""
        a, b = (decoder.double().norm(dim=0).numpy() for decoder in (self.decoder_a, self.decoder_b))
        return b / (a + b)

    def explained(self, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        """Explained variance of each model's vectors [m, d], around the means of these."""
        a, b = real("vectors", a), real("vectors", b)
        features = as_tensor(self.encode(a, b))
        shares = []
        for x, mean, scale, decoder in (
            (a, self.mean_a, self.scale_a, self.decoder_a),
            (b, self.mean_b, self.scale_b, self.decoder_b),
        ):
            reconstruction = (linear(features, decoder) * scale + mean).numpy().astype(np.float64)
            shares.append(1 - ((x - reconstruction) ** 2).sum() / ((x - x.mean(0, dtype=np.float64)) ** 2).sum())
        return float(shares[0]), float(shares[1])


def train_crosscoder(
    a: ArrayLike, b: ArrayLike, *, features: int, k: int, epochs: int = 30, batch_size: int = 128, lr: float = 2e-3, seed: int
) -> Crosscoder:
    """A TopK crosscoder trained by Adam on aligned vectors, float32 [m, d_a] and [m, d_b].

    Loss: the sum over both models of squared error as a share of total variance. Decoder columns, of both models together, have
    unit norm, their gradient no part along them; encoders start as their transpose. Initialisation and order of the batches come
    from one generator seeded with `seed`.
    Raises MeasureError for vectors that are not finite, constant or not aligned, k outside 1..features, or training that
    diverges.
    """
    vectors = [as_tensor(x, least=SINGLE[0]) for x in (a, b)]
    if any(x.ndim != 2 or 0 in x.shape for x in vectors) or len(vectors[0]) != len(vectors[1]):
        shapes = " and ".join(str(list(x.shape)) for x in vectors)
        raise MeasureError(f"a crosscoder needs finite aligned vectors [m, d] of both models, got {shapes}")
    features = arguments.whole("features", features, error=MeasureError)
    k, seed = arguments.whole("k", k, 1, features, error=MeasureError), arguments.seed(seed, error=MeasureError)
    means = cast(tuple[torch.Tensor, torch.Tensor], [x.mean(dim=0, dtype=torch.float64).float() for x in vectors])
    scales = cast(tuple[float, float], [(x - mean).square().sum(dim=1).mean().sqrt().item() for x, mean in zip(vectors, means)])
    if min(scales) == 0.0:
        raise MeasureError("a crosscoder needs vectors that differ, those of one model are all equal")
    pairs = torch.cat([(x - mean) / scale for x, mean, scale in zip(vectors, means, scales)], dim=1)  # [m, d_a + d_b]
    m, d = pairs.shape
    generator = torch.Generator().manual_seed(seed)
    decoder = unit_columns(torch.randn(d, features, generator=generator))
    encoder = decoder.T.clone().requires_grad_()
    bias = torch.zeros(features, requires_grad=True)
    decoder.requires_grad_()

    def loss(rows: torch.Tensor) -> torch.Tensor:
        batch = pairs[rows]
        error = batch - linear(largest(linear(batch, encoder, bias), k), decoder)
        return error.square().sum(dim=1).mean()

    descend(loss, [encoder, bias, decoder], m, epochs, batch_size, lr, generator, unit_norm=decoder)
    encoder, bias, decoder = encoder.detach(), bias.detach(), decoder.detach()
    width_a = vectors[0].shape[1]
    return Crosscoder(
        encoder[:, :width_a].clone(),
        encoder[:, width_a:].clone(),
        bias,
        decoder[:width_a].clone(),
        decoder[width_a:].clone(),
        *means,
        *scales,
        k,
    )


def cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of aligned vectors [m, d_a] and [m, d_b]: 1 for a rotation, near 0 for unrelated ones.

    In float32, whose rounding (1e-6) is far below any interval. Raises MeasureError for vectors that are all equal.
    """
    b = real("vectors", b)
    return float(cka_of(a, b, [np.arange(len(b))])[0])


def cka_of(a: np.ndarray, b: np.ndarray, orders: Iterable[np.ndarray]) -> np.ndarray:
    """CKA with the rows of b in each of several orders; a permutation changes only the product of both."""
    a, b = real("vectors", a), real("vectors", b)
    if a.ndim != 2 or b.ndim != 2 or 0 in (*a.shape, *b.shape) or len(a) != len(b):
        raise MeasureError(f"alignment needs aligned vectors [m, d] of both models, got {list(a.shape)} and {list(b.shape)}")
    for v in (a, b):
        check_finite("vectors", v)
        check_magnitude("vectors", v, *SINGLE)
    x, y = (np.asarray(v, np.float32) - np.mean(v, axis=0, dtype=np.float64).astype(np.float32) for v in (a, b))
    norm = float(np.linalg.norm(x.T @ x)) * float(np.linalg.norm(y.T @ y))
    if norm == 0:
        raise MeasureError("alignment needs vectors that differ, those of one model are all equal")
    return np.array([float(np.linalg.norm(x.T @ y[order])) ** 2 / norm for order in orders])


def match(f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match standardised columns of f [m, F] and g [m, G] one to one so that the sum of their correlations is largest."""
    return linear_sum_assignment(f.T @ g, maximize=True)


def standardised(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """features [m, F] to mean 0 and standard deviation 1 over some rows; a feature that never changes there is 0 everywhere."""
    sample = features[rows].astype(np.float64)
    std = sample.std(0)
    return np.where(std == 0, 0.0, (features - sample.mean(0)) / np.where(std == 0, 1.0, std))
