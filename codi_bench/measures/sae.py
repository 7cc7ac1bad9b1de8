"""Sparse autoencoders (ReLU with L1, and TopK), and error prediction from their features as the first study ran it.

Source: GusSand/CoT_Exploration, `gpt2_sae_training/scripts/run_sae_full.py` (GPT-2: l1_kind "mean", l1 0.001, lr 1e-3) and
`sae_error_analysis/train_sae_l12_l16.py`, `train_classifier_l12_l16.py` (LLaMA: l1_kind "sum", l1 0.0005, lr 3e-4).
The study trained on every vector, those of the classifier's test problems included, and fixed no seed for the training.
TopK: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv 2406.04093, §2 and appendix A. The sound protocol,
which holds problems out, is in `sae_heldout.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from torch.nn.functional import linear

from codi_bench.errors import MeasureError, arguments
from codi_bench.measures.arrays import SINGLE, check_finite, check_magnitude, real, truths

QUALITY_CHUNK = 4096
SMALL = 2**20  # weights of an encoder
UNSCALED = (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))  # of features as they go to the classifier
AUX_WEIGHT = 1 / 32  # Gao et al., appendix A.2

Array = TypeVar("Array", np.ndarray, torch.Tensor)


@dataclass(frozen=True, eq=False)
class Sae:
    """Linear-ReLU-Linear: encoder_weight [F, d], encoder_bias [F], decoder_weight [d, F], decoder_bias [d], float32 tensors.

    k None: every positive pre-activation is a feature, and vectors are encoded as they are. k a number: the decoder bias is
    subtracted from vectors before they are encoded, and only the k largest pre-activations are kept, where positive.
    threshold [F], with k None (JumpReLU): only pre-activations above it are kept, as they are, where positive.
    """

    encoder_weight: torch.Tensor
    encoder_bias: torch.Tensor
    decoder_weight: torch.Tensor
    decoder_bias: torch.Tensor
    k: int | None = None
    threshold: torch.Tensor | None = None

    def encode(self, x: Array) -> Array:
        """Features [..., F], none negative, of vectors [..., d]: an array for an array, a tensor for a tensor."""
        return self._run(x, self._features)

    def decode(self, features: Array) -> Array:
        """Vectors [..., d] of features [..., F]: an array for an array, a tensor for a tensor."""
        return self._run(features, lambda f: linear(f, self.decoder_weight, self.decoder_bias), "features")

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        if self.k is not None:
            return largest(linear(x - self.decoder_bias, self.encoder_weight, self.encoder_bias), self.k)
        features = linear(x, self.encoder_weight, self.encoder_bias).relu_()
        return features if self.threshold is None else features * (features > self.threshold)

    @torch.no_grad()
    def _run(self, values: Array, function: Callable[[torch.Tensor], torch.Tensor], name: str = "vectors") -> Array:
        x, width = as_tensor(values, name), self.encoder_weight.shape[name == "vectors"]
        if x.shape[-1:] != (width,):
            raise MeasureError(f"{name} have the shape {list(x.shape)}; this autoencoder takes [..., {width}]")
        out = function(x.to(self.encoder_weight.device))
        return out if isinstance(values, torch.Tensor) else out.cpu().numpy()


@dataclass(frozen=True)
class SaeQuality:
    """Fractions explained_variance, explained_variance_pooled and dead; l0: mean number of active features a vector.

    explained_variance: 1 - sum of squared errors / sum of squares around the mean of each dimension.
    explained_variance_pooled: the study's formula, 1 - var(error) / var(x), each around one mean over all elements. It is
    higher wherever dimensions have different means, which a decoder bias alone reproduces.
    """

    explained_variance: float
    explained_variance_pooled: float
    l0: float
    dead: float


@dataclass(frozen=True, eq=False)
class ErrorPrediction:
    """How well a classifier predicts a model's errors, in fractions.

    precision_*: share of the test predictions of that class that are right, None if it is never predicted; called_*: the number
    of these predictions.

    test_index int64 [n_test]: rows of the test split; test_right bool [n_test]: predicted correctly, in the same order.
    """

    train_accuracy: float
    test_accuracy: float
    precision_correct: float | None
    precision_incorrect: float | None
    called_correct: int
    called_incorrect: int
    test_index: np.ndarray
    test_right: np.ndarray


def train_relu_sae(
    x: ArrayLike | torch.Tensor,
    *,
    features: int,
    l1: float,
    l1_kind: str,
    epochs: int = 25,
    batch_size: int = 256,
    lr: float = 1e-3,
    seed: int,
) -> Sae:
    """A ReLU autoencoder trained by Adam on x, float32 [m, d], an array or a tensor; it lives on the device of x.

    Loss: squared error, mean over all elements, + l1 * penalty. l1_kind "mean": mean of the features over batch and features
    (weaker by the factor F, and so nearly none); "sum": sum over features, mean over the batch. Decoder norms are free.
    Initialisation (that of `nn.Linear`) and order of the batches come from one CPU generator seeded with `seed`.
    Raises MeasureError for x that is not [m, d] or not finite, an unknown l1_kind, no features, or training that diverges.
    """
    x = _vectors(x)
    arguments.choice("l1_kind", l1_kind, ("mean", "sum"), error=MeasureError)
    features = arguments.whole("features", features, error=MeasureError)
    l1 = arguments.number("l1", l1, 0, error=MeasureError)
    generator = torch.Generator().manual_seed(arguments.seed(seed, error=MeasureError))
    d = x.shape[1]

    def draw(*shape: int, fan_in: int) -> torch.Tensor:
        values = torch.empty(shape, dtype=torch.float32).uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        return values.to(x.device).requires_grad_()

    weights = [
        draw(features, d, fan_in=d),
        draw(features, fan_in=d),
        draw(d, features, fan_in=features),
        draw(d, fan_in=features),
    ]
    encoder_weight, encoder_bias, decoder_weight, decoder_bias = weights

    def loss(rows: torch.Tensor) -> torch.Tensor:
        batch = x[rows.to(x.device)]  # [b, d]
        code = linear(batch, encoder_weight, encoder_bias).relu()  # [b, F]
        error = linear(code, decoder_weight, decoder_bias) - batch
        return error.square().mean() + l1 * (code.mean() if l1_kind == "mean" else code.sum(dim=1).mean())

    weights = [encoder_weight, encoder_bias, decoder_weight, decoder_bias]
    descend(loss, weights, len(x), epochs, batch_size, lr, generator)
    return Sae(*(weight.detach() for weight in weights))  # type: ignore[arg-type]  # four of them


def train_topk_sae(
    x: ArrayLike | torch.Tensor,
    *,
    features: int,
    k: int,
    epochs: int = 25,
    batch_size: int = 256,
    lr: float = 1e-3,
    aux_k: int | None = None,
    dead_after: int | None = None,
    seed: int,
) -> Sae:
    """A TopK autoencoder trained by Adam on x, float32 [m, d], an array or a tensor; it lives on the device of x.

    Loss: squared error as a share of the variance of x, + AUX_WEIGHT * AuxK. AuxK: the aux_k (default d / 2; 0: none) largest
    dead features reconstruct what the living ones leave over, as a share of that. Dead: not active on the last dead_after
    vectors (default m, one epoch). Decoder columns have unit norm, their gradient no part along them; the encoder starts as
    their transpose. Training is on x / scale, scale^2 being the variance per element, and the biases are scaled back: x times
    any number gives the same features times that number, as long as its largest magnitude is within 1e-15 and 1e15.
    AuxK needs thousands of steps: of 555 features on gpt2-mini's states, k = 8, 10 % were dead with it and 5 % without after 725
    steps, 2 % and 8 % after 3480, with the same explained variance.
    Initialisation and order of the batches come from one CPU generator seeded with `seed`.
    Source: arXiv 2406.04093; differs in the start of the decoder bias (the mean, not the geometric median), the scale (one
    number for all of x, not a norm for each vector), and in having neither a learning-rate schedule nor clipping nor an
    average of weights.
    Raises MeasureError for x that is not [m, d], not finite or constant, no features, k outside 1..features, or training that
    diverges.
    """
    x = _vectors(x)
    features = arguments.whole("features", features, error=MeasureError)
    k = arguments.whole("k", k, 1, features, error=MeasureError)
    mean = x.mean(dim=0, dtype=torch.float64)  # [d]
    scale = (x - mean).square().mean().sqrt().item()
    if scale == 0.0:
        raise MeasureError("an autoencoder needs vectors that differ, but all are equal")
    m, d = x.shape
    aux_k = max(1, d // 2) if aux_k is None else arguments.whole("aux_k", aux_k, 0, error=MeasureError)
    dead_after = m if dead_after is None else arguments.whole("dead_after", dead_after, 0, error=MeasureError)
    generator = torch.Generator().manual_seed(arguments.seed(seed, error=MeasureError))
    decoder_weight = unit_columns(torch.randn(d, features, generator=generator)).to(x.device)
    encoder_weight = decoder_weight.T.clone().requires_grad_()
    decoder_weight.requires_grad_()
    encoder_bias = torch.zeros(features, device=x.device, requires_grad=True)
    decoder_bias = (mean / scale).float().requires_grad_()
    silence = torch.zeros(features, dtype=torch.int64, device=x.device)  # vectors since a feature was last active

    def loss(rows: torch.Tensor) -> torch.Tensor:
        batch = x[rows.to(x.device)] / scale  # [b, d]
        pre_activations = linear(batch - decoder_bias, encoder_weight, encoder_bias)  # [b, F]
        code = largest(pre_activations, k)
        error = batch - linear(code, decoder_weight, decoder_bias)
        loss = error.square().mean()
        dead = (silence >= dead_after).nonzero()[:, 0]
        if len(dead):
            aux_recon = linear(largest(pre_activations[:, dead], min(aux_k, len(dead))), decoder_weight[:, dead])
            residual = error.detach()
            loss = loss + AUX_WEIGHT * (residual - aux_recon).square().mean() / residual.square().mean().clamp_min(1e-12)
        silence.add_(len(batch)).masked_fill_((code > 0).any(dim=0), 0)
        return loss

    weights = [encoder_weight, encoder_bias, decoder_weight, decoder_bias]
    descend(loss, weights, m, epochs, batch_size, lr, generator, unit_norm=decoder_weight)
    encoder_weight, encoder_bias, decoder_weight, decoder_bias = (weight.detach() for weight in weights)
    return Sae(encoder_weight, encoder_bias * scale, decoder_weight, decoder_bias * scale, k)


def descend(
    loss: Callable[[torch.Tensor], torch.Tensor],
    weights: list[torch.Tensor],
    m: int,
    epochs: int,
    batch_size: int,
    lr: float,
    generator: torch.Generator,
    unit_norm: torch.Tensor | None = None,
) -> None:
    """Adam on the weights, by loss(rows) of batches of rows 0..m-1 in an order from the generator.

    unit_norm: the one of them whose columns keep norm 1; its gradient has no part along them.
    Raises MeasureError for training that diverges.
    """
    epochs = arguments.whole("epochs", epochs, 0, error=MeasureError)
    batch_size = arguments.whole("batch_size", batch_size, error=MeasureError)
    optimizer = torch.optim.Adam(weights, lr=arguments.number("lr", lr, 0, 1e38, error=MeasureError))
    with torch.enable_grad(), threads_for(weights[0].numel()):
        for _ in range(epochs):
            for rows in torch.randperm(m, generator=generator).split(batch_size):
                optimizer.zero_grad()
                loss(rows).backward()
                with torch.no_grad():
                    if unit_norm is not None and unit_norm.grad is not None:
                        unit_norm.grad -= (unit_norm.grad * unit_norm).sum(dim=0) * unit_norm
                    optimizer.step()
                    if unit_norm is not None:
                        unit_norm.copy_(unit_columns(unit_norm))
    if not all(weight.isfinite().all() for weight in weights):
        raise MeasureError(f"the autoencoder diverged at learning rate {lr}")


@torch.no_grad()
def sae_quality(sae: Sae, x: ArrayLike | torch.Tensor, *, l0_above: float = 0.0) -> SaeQuality:
    """How well and how sparsely an SAE describes x, float32 [m, d].

    l0_above: a feature counts as active above this value; the study's L0 takes 0.001. Dead: never above 0 on x (the study:
    never above 1e-6). Sums are taken in float64, QUALITY_CHUNK vectors at a time.
    Raises MeasureError for x that is not [m, d], not finite, or constant, and for other invalid arguments.
    """
    sae = arguments.instance("sae", sae, Sae, error=MeasureError)
    l0_above = arguments.number("l0_above", l0_above, error=MeasureError)
    x = _vectors(x)
    mean = x.mean(dim=0, dtype=torch.float64)  # [d]
    total = square_sum = error_sum = 0.0
    num_active, alive = 0, torch.zeros(len(sae.encoder_bias), dtype=torch.bool, device=sae.encoder_bias.device)
    for chunk in x.split(QUALITY_CHUNK):
        features = sae.encode(chunk)
        error = (sae.decode(features).to(chunk.device) - chunk).double()
        total += (chunk - mean).square().sum().item()
        square_sum += error.square().sum().item()
        error_sum += error.sum().item()
        num_active += (features > l0_above).sum().item()
        alive |= (features > 0).any(dim=0)
    if total == 0.0:
        raise MeasureError("explained variance needs vectors that differ, but all are equal")
    pooled_total = total + len(x) * (mean - mean.mean()).square().sum().item()
    return SaeQuality(
        explained_variance=1 - square_sum / total,
        explained_variance_pooled=1 - (square_sum - error_sum**2 / x.numel()) / pooled_total,
        l0=num_active / len(x),
        dead=1 - alive.double().mean().item(),
    )


def predict_errors(features: ArrayLike, correct: ArrayLike, *, test_share: float = 0.2, seed: int = 42) -> ErrorPrediction:
    """Predict whether a problem is answered correctly: LogisticRegression (C = 1, max_iter 1000), unscaled features, one split.

    features: [n, F], the SAE features of all vectors of a problem concatenated; correct: bool [n]. The split is stratified and
    ignores groups. The fit runs in float64 as the study's did; that copy takes 8 n F bytes.
    Raises MeasureError for shapes that do not match, values that are not finite, or classes too small to be split.
    """
    features, correct = real("features", features), truths("correct", correct)
    if features.ndim != 2 or correct.shape != features.shape[:1] or correct.dtype != bool:
        raise MeasureError(
            f"error prediction needs features [n, F] and correct bool [n], got {list(features.shape)} and "
            f"{correct.dtype} {list(correct.shape)}"
        )
    if correct.all() or not correct.any():
        raise MeasureError(f"error prediction needs two classes, but all {len(correct)} problems are of one")
    test_share = arguments.number("test_share", test_share, math.ulp(0), 1, error=MeasureError)
    seed = arguments.seed(seed, arguments.FOLD_SEED, error=MeasureError)
    check_finite("features", features)
    check_magnitude("features", features, *UNSCALED)
    try:
        train, test = train_test_split(np.arange(len(correct)), test_size=test_share, random_state=seed, stratify=correct)
    except ValueError as error:
        raise MeasureError(f"{correct.sum()} correct and {(~correct).sum()} incorrect cannot be split: {error}") from error

    # Rows are picked before the cast: lbfgs would otherwise cast the whole float32 matrix at every step.
    x = features[train].astype(np.float64)
    model = LogisticRegression(C=1.0, max_iter=1000)
    # One thread: how BLAS splits a sum over threads changes its last bits, lbfgs stops elsewhere, and predictions flip.
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # max_iter belongs to the protocol: a fit that stops there is the study's number, and nothing the user can mend.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, correct[train])
    prediction = model.predict(features[test].astype(np.float64))
    right = prediction == correct[test]
    return ErrorPrediction(
        train_accuracy=float(np.mean(model.predict(x) == correct[train])),
        test_accuracy=float(right.mean()),
        precision_correct=float(right[prediction].mean()) if prediction.any() else None,
        precision_incorrect=float(right[~prediction].mean()) if not prediction.all() else None,
        called_correct=int(prediction.sum()),
        called_incorrect=int((~prediction).sum()),
        test_index=test,
        test_right=right,
    )


def largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """values [..., F], with 0 for all that are not positive or not among the k largest of their row."""
    top, index = values.topk(k, dim=-1)
    return torch.zeros_like(values).scatter(-1, index, top.relu())


def unit_columns(weight: torch.Tensor) -> torch.Tensor:
    """weight [d, F] with columns of norm 1."""
    return weight / weight.norm(dim=0).clamp_min(1e-12)


@contextmanager
def threads_for(size: int) -> Iterator[None]:
    """Use one thread for a small autoencoder: more do not speed it up, and splitting a sum over them would change the weights.

    If other work uses a core, waiting for a second thread would even take many times the training.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if size < SMALL else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _vectors(x: ArrayLike | torch.Tensor) -> torch.Tensor:
    """x as a float32 tensor [m, d] on its own device, checked."""
    x = as_tensor(x, least=SINGLE[0])
    if x.ndim != 2 or 0 in x.shape:
        raise MeasureError(f"an autoencoder needs vectors [m, d], got {list(x.shape)}")
    return x


def as_tensor(x: ArrayLike | torch.Tensor, name: str = "vectors", *, least: float = 0.0) -> torch.Tensor:
    """Float32, outside any graph; read-only arrays (memory-mapped files) are copied, since torch would warn of them.

    least: lower limit of the largest magnitude, unless all are 0. Raises MeasureError for anything but numbers, and for numbers
    that are not finite, too small, or too large for sums of their squares.
    """
    if isinstance(x, torch.Tensor) and x.layout is torch.strided and not x.is_complex():
        x = x.detach()
        x = x.float() if x.dtype.itemsize < 4 else x
    else:
        x = real(name, x)
    if not (np.isfinite(x) if isinstance(x, np.ndarray) else x.isfinite()).all():
        check_finite(name, real(name, x))
    if 0 not in x.shape:
        check_magnitude(name, x, least, SINGLE[1])
    return x.float() if isinstance(x, torch.Tensor) else torch.from_numpy(np.require(x, np.float32, ["C", "W"]))
