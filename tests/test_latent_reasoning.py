"""Where at the answer it is decided: planted in states and keys that are read in a known way."""

from types import SimpleNamespace

import numpy as np
import pytest
from fake_bench import FakeBench, GivenOutcomes, measured, values, words

from codi_bench.claims import runs
from codi_bench.claims.ablations import NUM_ABLATED
from codi_bench.claims.latent_reasoning import NUM_FITTED, training
from codi_bench.errors import MeasureError
from codi_bench.measures.subspaces import band, keeping, principal_axes, random_basis, removing, shifting
from codi_bench.models.conditions import AtCue, KeysMoved
from codi_bench.models.cue import CueStates
from codi_bench.problems import generate
from codi_bench.rules.validity import Validity
from codi_bench.suite.problem_source import ProblemSource

SUPPORTED, REFUTED = Validity.SUPPORTED, Validity.REFUTED
D, K, CLASSES, D_HEAD = 192, 3, 10, 16
LEADING, BAND, REST = slice(0, 1), slice(1, 8), slice(8, 40)  # of a width of 192: as 0 to 3 and 4 to 31 are of 768
SCORED, TRAINING = generate(600, seed=0), generate(400, seed=1, split="train")
PROBLEMS = SCORED + TRAINING
INDEX = {p.question: i for i, p in enumerate(PROBLEMS)}
GOLD = np.array([float(p.answer) for p in PROBLEMS])
CLASS = np.arange(len(PROBLEMS)) % CLASSES
RIGHT = np.random.default_rng(1).random(len(PROBLEMS)) < 0.8


class PlantedBench(SimpleNamespace):
    """States [n, d] at the cue and keys [n, K, 1, 2, 1, d_head] of all problems; right is what `read` gives the own class."""

    def __init__(self, states=None, read=None, *, keys=None, read_keys=None, margin=None):
        source = SimpleNamespace(
            first=lambda n: SCORED, sample=lambda n, edited: SCORED, references=lambda scored, most: (TRAINING, "training")
        )
        model = SimpleNamespace(num_latents=K, name="planted")
        super().__init__(model=model, problems=source, seed=0, permutations=999, memo={})
        self.states, self.read, self.keys, self.read_keys, self.margin = states, read, keys, read_keys, margin

    def cached(self, kind, function, model, questions):
        rows = [INDEX[q] for q in questions]
        if kind is CueStates:
            return CueStates(self.states[rows], np.zeros(len(rows)) if self.margin is None else self.margin[rows])
        return principal_axes(self.keys[rows])

    def answers(self, problems, conditions, **_):
        rows = [INDEX[p.question] for p in problems]
        right = np.array([self.right(condition, rows) for condition in conditions])
        answers = [SimpleNamespace(texts=[*map(str, np.where(row, GOLD[rows], GOLD[rows] + 1))]) for row in right]
        return GivenOutcomes(given_right=right, answers=answers, problems=problems, log_probability=None)

    def right(self, condition, rows):
        match condition:
            case AtCue(move):
                x = self.states[rows] if move is None else self.states[rows] @ move.matrix + move.offset
                return self.read(x) == CLASS[rows]
            case KeysMoved(place, move):
                keys = self.keys[rows].copy()
                keys[:, place] = np.einsum("n...i,...ij->n...j", keys[:, place], move.matrix) + move.offset
                return self.read_keys(keys) == self.read_keys(self.keys[rows])
        return np.ones(len(rows), bool)


def planted(axes: slice, **more) -> PlantedBench:
    """States whose class is the nearest code along these axes: of the right class in four of five problems."""
    rng = np.random.default_rng(0)
    scale = np.concatenate([np.full(1, 20.0), np.full(7, 4.0), np.full(D - 8, 0.2)])
    codes = np.zeros((CLASSES, D))
    codes[:, axes] = (
        np.linspace(-2, 2, CLASSES)[:, None] if axes == LEADING else rng.standard_normal((CLASSES, axes.stop - axes.start))
    )
    codes *= scale
    states = scale * rng.standard_normal((len(PROBLEMS), D))
    states[:, axes] = (codes[np.where(RIGHT, CLASS, (CLASS + 1) % CLASSES)] + 0.02 * scale * states)[:, axes]
    rotation = random_basis((D, D), rng)  # no axis is a coordinate

    def read(x):
        return ((x @ rotation.T)[:, None, axes] - codes[:, axes]).__pow__(2).sum(-1).argmin(1)

    return PlantedBench((states @ rotation).astype(np.float32), read, **more)


def test_the_axes_that_carry_the_answer_are_found_and_no_others():
    assert words("pc-band", planted(BAND)) == {
        "keep_band": SUPPORTED,
        "remove_band": SUPPORTED,
        "keep_leading": SUPPORTED,
        "remove_leading": SUPPORTED,
    }
    found = values("pc-band", planted(BAND))
    assert found["clean"] == found["keep_band"] == found["remove_leading"] == pytest.approx(0.8, abs=0.04)
    assert max(found["remove_band"], found["keep_leading"], found["keep_random"]) < 0.25
    leading = words("pc-band", planted(LEADING))
    assert leading["keep_band"] is leading["remove_band"] is leading["keep_leading"] is leading["remove_leading"] is REFUTED
    elsewhere = words("pc-band", planted(REST))
    assert elsewhere["keep_band"] is elsewhere["remove_band"] is REFUTED and elsewhere["remove_leading"] is SUPPORTED


def test_a_band_is_as_large_a_share_of_another_width():
    assert [band(width, 0, 4, 768) for width in (768, 104, 200)] == [slice(0, 4), slice(0, 1), slice(0, 1)]
    assert [band(width, 4, 32, 768) for width in (768, 104, 200, 16)] == [slice(4, 32), slice(1, 4), slice(1, 8), slice(1, 2)]


def test_steering_along_what_produces_a_right_answer_is_told_from_steering_along_what_predicts_one():
    rng = np.random.default_rng(0)
    states = rng.standard_normal((len(PROBLEMS), D)).astype(np.float32)
    states[:, 0] = np.where(RIGHT, 1, -1)
    produces = PlantedBench(states, None)
    produces.right = lambda condition, rows: (
        (states[rows] if condition.move is None else states[rows] + condition.move.offset)[:, 0] > 0
    )
    rows = measured("steer-correctness", produces)[1]
    assert rows["change_1"].verdict.word is REFUTED and rows["change_1"].value == pytest.approx(20, abs=4)
    assert rows["change_quarter"].verdict.word is SUPPORTED and rows["change_1"].null.value == pytest.approx(0, abs=2)
    predicts = planted(BAND)
    predicts.states = predicts.states + np.where(RIGHT, 1, -1)[:, None] * 5 * principal_axes(predicts.states).axes[0].astype(
        np.float32
    )
    assert {*words("steer-correctness", predicts).values()} == {SUPPORTED}


def keyed(axis: int, at: int) -> PlantedBench:
    """The sign of one axis of the keys at one place is read; variance falls from axis to axis."""
    keys = np.random.default_rng(0).standard_normal((len(PROBLEMS), K, 1, 2, 1, D_HEAD)) * 0.5 ** np.arange(D_HEAD)
    return PlantedBench(keys=keys, read_keys=lambda k: k[:, at, 0, 0, 0, axis] > 0)


def test_directions_of_keys_that_are_read_matter_where_they_are_read():
    assert words("kv-rank4", keyed(0, at=1)) == {"learned_0": SUPPORTED, "learned_1": REFUTED, "learned_2": SUPPORTED}
    rows = measured("kv-rank4", keyed(0, at=1))[0]
    assert rows["clean"].value == rows["learned_0"].value == rows["random_2"].value == 1 and rows["learned_1"].value < 0.6
    assert words("kv-rank4", keyed(8, at=1))["learned_1"] is SUPPORTED  # the leading ones are not what is read


@pytest.mark.parametrize("claim", ("pc-band", "steer-correctness", "kv-rank4"))
def test_an_edit_that_does_nothing_and_a_model_that_knows_nothing_get_no_word(claim):
    def seldom(condition, rows):
        return np.arange(len(rows)) % 15 == (getattr(condition, "move", None) is not None)

    dead, lost = keyed(0, 0), keyed(0, 0)
    dead.states = lost.states = planted(BAND).states
    dead.right, lost.right = lambda condition, rows: RIGHT[rows], seldom
    for bench, message in ((dead, "dead edit: none of"), (lost, "nothing to lose: 6.7 %")):
        with pytest.raises(MeasureError, match=message):
            measured(claim, bench)


def test_the_last_latent_is_spare_or_it_is_not():
    full = np.arange(200) % 4 > 0
    bench = FakeBench({f"after {k}": full & (np.arange(200) % 5 > 5 - k) for k in range(5)}, problems=SCORED[:200])
    assert words("latent-budget", bench) == {"accuracy_3": SUPPORTED, "accuracy_4": SUPPORTED, "accuracy_5": SUPPORTED}
    bench = FakeBench({"after 5": full & (np.arange(200) % 2 > 0)}, problems=SCORED[:200])
    found = words("latent-budget", bench)
    assert found["accuracy_5"] is REFUTED and found["accuracy_4"] is not SUPPORTED
    assert values("latent-budget", bench)["accuracy_6"] == 0.75


def predicting(margin: float, direction: float) -> PlantedBench:
    """By so many standard deviations the margin, and the state along one axis, are larger where the answer is right."""
    rng = np.random.default_rng(2)
    states, noise = rng.standard_normal((len(PROBLEMS), 8)).astype(np.float32), rng.standard_normal(len(PROBLEMS))
    states[:, 0] += direction * RIGHT
    bench = PlantedBench(states, None, margin=noise + margin * RIGHT)
    bench.right = lambda condition, rows: RIGHT[rows]
    return bench


def test_what_a_direction_adds_to_the_margin_is_what_was_planted():
    found = words("confidence-baseline", predicting(margin=2.0, direction=0.0))
    assert found == {"auc_margin": SUPPORTED, "auc_direction": REFUTED, "gain_direction": SUPPORTED}
    found = words("confidence-baseline", predicting(margin=1.0, direction=2.0))
    assert found == {"auc_margin": SUPPORTED, "auc_direction": SUPPORTED, "gain_direction": REFUTED}
    rows = measured("confidence-baseline", predicting(margin=2.0, direction=1.0))[1]
    aucs = [rows[f"auc_{name}"].value for name in ("margin", "direction")]
    assert aucs == pytest.approx([0.92, 0.76], abs=0.04)  # of normal scores that lie 2 and 1 standard deviations apart
    bench = predicting(1, 1)
    bench.right = lambda condition, rows: np.ones(len(rows), bool)
    with pytest.raises(MeasureError, match="400 of 400 problems .* 20 right and 20 wrong"):
        measured("confidence-baseline", bench)


def test_maps_keep_remove_and_shift_what_they_say():
    rng = np.random.default_rng(0)
    x, centre, basis = rng.standard_normal((50, 2, 6)), rng.standard_normal((2, 6)), random_basis((2, 3, 6), rng)

    def under(move):
        return np.einsum("nhi,hij->nhj", x, move.matrix) + move.offset

    inside = np.einsum("nhi,hri,hrj->nhj", x - centre, basis, basis)
    assert np.allclose(under(removing(basis, centre)), x - inside, atol=1e-5)
    assert np.allclose(under(removing(basis, centre, np.array([2.0, 0.0]))), x - inside * [[2.0], [0.0]], atol=1e-5)
    assert np.allclose(under(keeping(basis, centre)), centre + inside, atol=1e-5)
    assert np.allclose(x[:, 0] @ shifting(centre[0]).matrix + centre[0], x[:, 0] + centre[0])
    axes = principal_axes(x)
    assert np.allclose(axes.energy(axes.axes[..., :2, :]), axes.variance[..., :2].sum(-1))
    assert np.allclose(axes.energy(basis), np.einsum("nhi,hri->nhr", x - axes.centre, basis).var(0).sum(-1))
    other = random_basis((2, 3, 6), rng)
    assert np.allclose(axes.scale(basis, other) ** 2 * axes.energy(other), axes.energy(basis))
    still = principal_axes(np.concatenate([x[:, :1], np.ones((50, 1, 6))], axis=1))  # as the values of a constant input are
    assert still.scale(basis, other)[0] > 0 and still.scale(basis, other)[1] == 0
    with pytest.raises(MeasureError, match="two problems or more"):
        principal_axes(x[:1])


@pytest.mark.parametrize(("given", "fitted"), ((0, NUM_FITTED), (1100, 100), (1400, 200)))
def test_nothing_is_fitted_to_what_is_scored(given, fitted):
    source = ProblemSource(tuple(generate(given, seed=4)) if given else ())
    problems = training(SimpleNamespace(problems=source, memo={}))
    scored = source.first(NUM_ABLATED) + source.sample(runs.NUM_PROBLEMS, edited=True)
    assert len(problems) == fitted and not {p.group for p in problems} & {p.group for p in scored}
