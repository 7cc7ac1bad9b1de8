"""A bench whose answers under conditions are given, so that it is known what a claim must say of them."""

from types import SimpleNamespace

import numpy as np

from codi_bench.claims import CLAIMS
from codi_bench.models.conditions import UNMASKED, Discretised, Edited, Fed, InWords, Patched, Shortened

K, N = 6, 200
EVERY = tuple(range(K))


def name_of(condition) -> str:
    """What a test calls a condition: "" is the clean run; of fed thoughts the latent positions, 0 for a zero vector."""
    match condition:
        case Edited(edits, padding):
            return padding if padding == UNMASKED else "+".join(map(str, edits))
        case Fed():
            fed = condition.latents[0, :, 0]
            return "fed " + " ".join(f"{int(place) - 1}" if place else "zero" for place in fed)
        case Shortened(latents):
            return f"after {latents}"
        case InWords():
            return "in words"
        case Patched():
            return str(condition)
        case Discretised(places):
            return f"words at {places}"
    raise AssertionError(condition)


class GivenOutcomes(SimpleNamespace):
    def right(self, scoring="study", golds=()):
        return self.given_right


class FakeBench(SimpleNamespace):
    """right, numbers: by name of the condition; what is not named is as the clean run (three of four right, number i)."""

    def __init__(self, right=None, numbers=None, *, num_latents=K, problems=(), **more):
        model = SimpleNamespace(num_latents=num_latents, name="fake")
        source = SimpleNamespace(**{"first": lambda n, variants=1: list(problems), **more.pop("sets", {})})
        super().__init__(model=model, problems=source, seed=0, permutations=199, memo={}, **more)
        self.given, self.given_numbers, self.clean = right or {}, numbers or {}, np.arange(N) % 4 > 0

    def answers(self, problems, conditions, **_):
        names = [name_of(condition) for condition in conditions]
        rows = slice(len(problems) or None)
        right = np.array([self.given.get(name, self.clean)[rows] for name in names])
        numbers = np.array([self.given_numbers.get(name, np.arange(float(N)))[rows] for name in names])
        return GivenOutcomes(
            problems=[SimpleNamespace(answer=str(i)) for i in range(right.shape[1])],
            given_right=right,
            numbers=numbers,
            log_probability=np.zeros((len(names), N)),
            answers=[SimpleNamespace(texts=[*map(str, zip(*rows, strict=False))]) for rows in zip(right, numbers)],
            hidden_states=np.zeros((N, 1)),
            confidence=np.zeros((N, 2)),
            reference="",
        )

    def cached(self, kind, function, *arguments, **settings):
        """Thoughts that tell their place: place k has k + 1 everywhere."""
        return np.tile(np.arange(1, self.model.num_latents + 2, dtype=np.float32)[None, :, None], (N, 1, 2))


def measured(claim: str, bench, published=None) -> tuple[dict, dict]:
    """Rows by metric of both protocols."""
    reported, sound = CLAIMS[claim].function(bench, published or {})
    return {row.metric: row for row in reported}, {row.metric: row for row in sound}


def values(claim: str, bench) -> dict:
    """Reported values by metric."""
    return {row.metric: row.value for row in CLAIMS[claim].reported(bench)}


def words(claim: str, bench, published=None) -> dict:
    """Words of the sound protocol by metric, None where there is none."""
    return {metric: row.verdict and row.verdict.word for metric, row in measured(claim, bench, published)[1].items()}
