"""The numbers of the slow benchmarks on planted data: values that are there, that are not, and that the template tells."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from codi_bench.audits.values import audit_step, template_accuracy
from codi_bench.errors import MeasureError

N, K, D = 120, 3, 6
NAMES = [f"problem {i}" for i in range(N)]


def planted(strength: float):
    """States [N, 2, D] whose second cell shows the value of step 1, and values of which every second problem has two."""
    rng = np.random.default_rng(5)
    first, second = rng.permutation(N) % K, rng.permutation(N) % K
    states = rng.standard_normal((N, 2, D)).astype(np.float32)
    states[:, 1] += strength * np.eye(D)[first]
    values = [(float(a), float(b))[: 1 + i % 2] for i, (a, b) in enumerate(zip(first, second, strict=True))]
    return states, values


def audit(states, values, *, step=1, key=NAMES, **more):
    templates = [f"template {i % 4}" for i in range(N)]
    return audit_step(states, values, step=step, groups=NAMES, templates=templates, control_key=key, permutations=39, **more)


def test_a_planted_value_is_read_at_its_cell():
    found = audit(*planted(4))
    assert found.decodable and found.best == 1
    assert found.n == N and found.classes == (0, 1, 2)
    assert found.majority == pytest.approx(1 / K)
    assert found.cells[1].accuracy.value > 0.9 and found.cells[1].p == found.p_value_any == 1 / 40
    assert found.cells[0].p > 1 / 40
    for cell in found.cells:
        assert cell.selectivity == pytest.approx(cell.accuracy.value - cell.control)


def test_shuffled_values_are_not():
    found = audit(*planted(4), shuffle=True)
    assert not found.decodable and found.p_value_any > 1 / 40


def test_only_problems_with_that_step_count():
    states, values = planted(4)
    found = audit(states, values, step=2)
    assert found.n == N // 2 and not found.decodable
    with pytest.raises(MeasureError):
        audit(states, values, step=3)
    with pytest.raises(MeasureError, match="none of 0 problems has a step 1"):
        audit_step(states[:0], [], step=1, groups=[], templates=[], control_key=[], permutations=39)


def test_a_control_that_the_thought_tells_takes_the_selectivity():
    states, values = planted(4)
    found = audit(states, values, key=[f"value {each[0]}" for each in values])
    assert found.cells[1].control > 0.9
    assert found.cells[1].selectivity < 0.1


def test_the_template_guesses_its_most_frequent_value():
    values = np.array([7, 7, 3, 3, 7, 7, 1, 5])
    templates = np.array(["a", "a", "b", "b", "a", "a", "c", "b"])
    fold = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    # "c" is new to the rest; the fold 0 of "b" sees 3 and 5, and takes the smaller
    assert template_accuracy(values, templates, SimpleNamespace(fold=fold)) == 6 / 8
