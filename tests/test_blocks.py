"""Baseline files say each thing once: what a claim's numbers share stands above them, and every entry in memory is whole."""

import json

import jsonschema
import pytest

from codi_bench.records.baseline import Baseline, load_baseline, path_of, strict_text
from codi_bench.store.files import package_folder

FOLDER = package_folder("baselines")
PAIRS = [(path.parent.name, path.stem) for path in sorted(FOLDER.glob("[!_]*/*.json"))]
COMMON = {"case": "other-list", "unit": "fraction", "protocol": "p", "source": "s", "place": "table 1", "n": 100, "note": "so"}
ENTRIES = {
    "a": COMMON | {"value": 0.25},
    "b": COMMON | {"value": 0.25},
    "c": COMMON | {"low": 0.25, "high": 0.5, "case": "stated-range"},
    "d": {name: field for name, field in COMMON.items() if name not in ("n", "note")} | {"value": 0.5, "cell": {"layer": None}},
}
BLOCK = COMMON | {
    "metrics": {
        "a": 0.25,
        "b": 0.25,
        "c": {"case": "stated-range", "high": 0.5, "low": 0.25},
        "d": {"cell": {"layer": None}, "n": None, "note": None, "value": 0.5},
    }
}
NOISE = {"batch": {"of": "one thread", "runs": 3, "spread": 0.0}, "seed": {"of": "other seeds", "runs": 9, "spread": 0.5}}
TOLERANCES = {
    metric: {
        "kind": "value",
        "deterministic": 1e-6,
        "device": 1.0,
        "why": "a test",
        "noise": NOISE | {"seed": seed} if seed else {},
    }
    for metric, seed in (("a", NOISE["seed"]), ("b", NOISE["seed"] | {"spread": 0.25}), ("c", NOISE["seed"]), ("d", None))
}


def baseline(**parts) -> Baseline:
    return Baseline.model_validate_json(json.dumps({"model": "m", "claim": "c"} | parts), strict=True)


@pytest.fixture(scope="module")
def schema():
    return jsonschema.Draft202012Validator(json.loads((FOLDER / "schema.json").read_text()))


@pytest.mark.parametrize("model", sorted({model for model, _ in PAIRS}))
def test_every_file_is_what_its_baseline_is_written_as(model, schema):
    for claim in (claim for name, claim in PAIRS if name == model):
        text = path_of(FOLDER, model, claim).read_text(encoding="utf-8")
        assert strict_text(load_baseline(FOLDER, model, claim)) == text, claim
        schema.validate(json.loads(text))


def test_a_claim_with_seven_figures_fits_on_a_screen():
    assert len(path_of(FOLDER, "gpt2", "scratch-single").read_text().splitlines()) <= 40


def test_what_most_numbers_share_is_said_once_and_nothing_is_lost(schema):
    whole = baseline(reported=ENTRIES, tolerance=TOLERANCES)
    written = json.loads(strict_text(whole))
    assert written["reported"] == BLOCK
    assert written["tolerance"]["noise"] == {"batch": NOISE["batch"], "seed": {"of": "other seeds", "runs": 9}}
    spreads = [("a", 0.5), ("b", 0.25), ("c", 0.5)]
    metrics = {metric: {"noise": {"seed": {"spread": spread}}} for metric, spread in spreads} | {"d": {"noise": None}}
    assert written["tolerance"]["metrics"] == metrics
    schema.validate(written)
    assert baseline(**{part: written[part] for part in ("reported", "tolerance")}) == whole
    assert '   "c": {"case": "stated-range", "high": 0.5, "low": 0.25},\n' in strict_text(whole)


def test_two_numbers_that_differ_share_nothing_and_one_alone_shares_all_but_its_value():
    other = COMMON | {"n": 99, "value": 0.5}
    assert "n" not in baseline(reported={"a": ENTRIES["a"], "b": other}).model_dump()["reported"]
    assert baseline(reported={"b": other}).model_dump()["reported"] == COMMON | {"n": 99, "metrics": {"b": 0.5}}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (BLOCK | {"sorce": "s"}, "reported.a.sorce\n  Extra inputs"),
        (BLOCK | {"metrics": {}}, "reported\n  Value error, metrics has no number that could have case, "),
        (BLOCK | {"metrics": {"a": True}}, "reported.a\n  Input should be an object"),
        (BLOCK | {"metrics": {"a": {"value": 0.5, "unit": None}}}, "reported.a.unit\n  Field required"),
        (BLOCK | {"metrics": ["a"]}, "reported.case\n  Input should be an object"),
    ],
)
def test_what_a_block_gets_wrong_is_named_by_its_field(block, message, schema):
    with pytest.raises(ValueError) as caught:
        baseline(reported=block)
    assert message in str(caught.value)
