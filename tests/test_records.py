"""What lies in baselines/: no record is stale by anything but code, and no model in the repository answers like a constant."""

import pytest

from codi_bench.claims import CLAIMS
from codi_bench.models.loading import load
from codi_bench.models.registry import REGISTRY
from codi_bench.records.baseline import FILES, RELEASED, REPORTED, SOUND, load_baseline, orphans
from codi_bench.store.files import package_folder
from codi_bench.thoughts.released import MODELS

BASELINES = package_folder("baselines")
OWN = [name for name, entry in REGISTRY.items() if entry.embedded]


def stale(baseline, record, weights):
    """The inputs of a record that are not those of today."""
    claim = CLAIMS[baseline.claim]
    claim = claim.on_files if record.environment.device == RELEASED else claim
    same = {
        "protocols": record.protocols == {REPORTED: claim.protocol, SOUND: claim.sound_protocol},
        "seeds": record.seeds == claim.seeds,
        "weights": record.environment.device == RELEASED or record.weights == weights.get(baseline.model),
    }
    return [name for name, is_same in same.items() if not is_same]


def test_no_record_is_stale():
    weights = {name: load(name, device="cpu").fingerprint for name in OWN}
    baselines = [load_baseline(BASELINES, path.parent.name, path.stem) for path in BASELINES.glob(FILES)]
    records = [(baseline, record) for baseline in baselines for record in baseline.recorded]
    assert len(records) > 350 and {f"{b.model}/{b.claim}": stale(b, r, weights) for b, r in records if stale(b, r, weights)} == {}
    assert orphans(BASELINES, CLAIMS, {*REGISTRY, *MODELS}) == []
    baseline, record = next((b, r) for b, r in records if b.model == "gpt2-mini")
    for changes in ({"weights": "of another model"}, {"seeds": {"bench": 7}}, {"protocols": {REPORTED: "another", SOUND: ""}}):
        assert stale(baseline, record.model_copy(update=changes), weights) == list(changes)


@pytest.mark.parametrize("model", OWN)
def test_it_answers_better_than_a_constant(model):
    accuracy = load_baseline(BASELINES, model, "task-accuracy").newest("cpu").metrics["sound accuracy"]
    assert accuracy.verdict == "SUPPORTED" and accuracy.low > accuracy.null.value
