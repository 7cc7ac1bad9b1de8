"""What other workflows read: the section of a model card, the dataset folder, and the properties of a JUnit file."""

import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace

import pytest
import yaml
from huggingface_hub import ModelCard
from rows import environment, row, value
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.plugin.junit import properties
from codi_bench.records.results import write_results
from codi_bench.report.export import flat
from codi_bench.report.model_card import model_card

pytestmark = pytest.mark.usefixtures("plain_reports")
NULL = value(0.55, 0.5, 0.6, p=0.001)
SOUND = row(protocol="sound", validity="SUPPORTED", null=NULL, detail={"problems": "ab12", "decide": None})
ROWS = [
    row(validity="ARTEFACT"),
    SOUND,
    row("task-accuracy", metric="accuracy", protocol="sound", validity="REFUTED", n=2400, measured=value(0.1 + 0.2)),
    row("task-accuracy", metric="std", protocol="sound"),  # no rule gives it a word
    row("size", status="blocked", metric="width", reason="weights | <b>odd</b> *x*"),
    row("size", model="mine", status="not-run", metric="-", reason="no GPU here"),
]
FAMILIES = {"probe-accuracy": "probes", "task-accuracy": "task accuracy", "size": "size"}
KNOWN = environment(
    FAMILIES,
    **{"codi-bench": "0.2.0", "date": "2026-01-02T03:00:00+00:00", "devices": {"gpt2-mini": "cpu float32"}},
    problem_sets={"gpt2-mini": "gsm8k"},
    inputs={"gpt2-mini": {"weights": "c0ffee", "problems": "ab12"}},
)


def test_the_hub_reads_the_numbers_of_a_card_back():
    card = ModelCard(model_card(ROWS, KNOWN, "gpt2-mini", source="https://example.org/report"))
    by_type = {result.metric_type: result for result in card.data.eval_results}
    # what is sound and has a verdict, and nothing else
    assert {name: result.metric_value for name, result in by_type.items()} == {
        "probe-accuracy.mean": 0.887,
        "accuracy": 0.1 + 0.2,
    }
    probes = by_type["probe-accuracy.mean"]
    assert (probes.dataset_type, probes.dataset_split, probes.dataset_revision) == ("openai/gsm8k", "test", "ab12")
    assert probes.metric_name == "probe-accuracy, mean: SUPPORTED" and probes.source_url == "https://example.org/report"
    numbers = {"low": 0.851, "high": 0.919, "null_value": 0.55, "null_low": 0.5, "null_high": 0.6, "null_p": 0.001, "n": 100}
    assert probes.metric_args == {"verdict": "SUPPORTED", "protocol": "sound", "unit": "fraction", **numbers}
    assert card.data.model_name == "gpt2-mini" and card.data.tags == ["codi-bench"]


def test_the_section_has_verdicts_of_both_protocols_and_what_was_not_measured():
    text = ModelCard(model_card(ROWS, KNOWN, "gpt2-mini")).text
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")]
    shown = {(line[0], line[2]): line for line in lines[2:]}
    assert shown["probe-accuracy", "as published"][-1] == "≈ ARTEFACT"
    sound = ["88.7 % \\[85.1, 91.9\\]", "55.0 % \\[50.0, 60.0\\]", "0.001", "100", "✓ SUPPORTED"]
    assert shown["probe-accuracy", "sound"][3:] == sound
    assert "`c0ffee`" in text and "0.2.0" in text and "2026-01-02" in text
    below = text.partition("### Not measured")[2]
    assert "BLOCKED: size" in below and "&lt;b&gt;odd" in below and "<b>" not in text and "\\*x\\*" in below


def test_the_card_of_a_model_that_was_not_run_claims_nothing():
    card = ModelCard(model_card(ROWS, KNOWN, "mine"))
    assert card.data.eval_results is None and "NOT RUN: size: no GPU here" in card.text and "|" not in card.text


def test_a_card_of_released_numbers_does_not_say_that_they_were_measured():
    known = KNOWN | {"devices": {"gpt2-mini": "released"}}
    text = ModelCard(model_card([replace(SOUND, origin="released")], known, "gpt2-mini")).text
    assert "others released" in text and "Measured with" not in text


def test_a_drift_stands_in_the_card():
    text = model_card([row(regression="DRIFTED", reason="stored 0.6, measured 0.5")], KNOWN, "gpt2-mini")
    assert "stored 0.6, measured 0.5" in text.partition("### Differs")[2]


def test_a_drifted_number_is_no_pass_in_the_table_of_the_card_nor_in_its_results():
    card = ModelCard(model_card([replace(SOUND, regression="DRIFTED", reason="why"), *ROWS[2:]], KNOWN, "gpt2-mini"))
    drifted, other = card.data.eval_results
    assert drifted.metric_args["regression"] == "DRIFTED" and "regression" not in other.metric_args
    assert "✓ SUPPORTED, DRIFTED |" in card.text and card.text.count("DRIFTED |") == 1


@pytest.mark.parametrize("p", [0.0009, 1e-300, 0.0])
def test_no_p_is_zero(p):
    text = ModelCard(model_card([replace(SOUND, null=value(0.55, p=p))], KNOWN, "gpt2-mini")).text
    assert "| &lt;0.001 |" in " ".join(text.split())


def test_a_blocked_row_has_no_number_in_the_dataset_nor_in_the_csv():
    record = flat(row("size", status="blocked", reason="why", measured=value(3.0), recorded=value(2.0), null=NULL))
    assert record["measured"] is record["null"] is record["null_p"] is None and record["recorded"] == 2.0


@pytest.fixture
def results(tmp_path):
    write_results(tmp_path / "results.json", KNOWN, ROWS)
    return tmp_path / "results.json"


def report(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_the_command_writes_a_card_for_each_model_and_the_dataset(results, tmp_path):
    ended = report(results, "--model-card", "--dataset", "--out", tmp_path / "out")
    assert ended.exit_code == 0, ended.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"model-card-gpt2-mini.md", "model-card-mine.md", "dataset", "badge.svg"}
    assert report(results, "--model-card", "--model", "mine", "--out", tmp_path / "one").exit_code == 0
    assert [path.name for path in (tmp_path / "one").glob("model-card*")] == ["model-card-mine.md"]
    assert not (tmp_path / "one" / "dataset").exists()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--model", "mine"], "--model-card"),
        (["--source", "https://example.org"], "--model-card"),
        (["--model-card", "--model", "theirs"], "theirs"),
        (["--model-card", "--source", "javascript:x"], "javascript:x"),
        (["--dataset", "SECOND"], "--dataset"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(results, tmp_path, arguments, names):
    given = [str(results) if argument == "SECOND" else argument for argument in arguments]
    ended = report(results, *given, "--out", tmp_path / "out")
    assert names in str(ended.exception) and not (tmp_path / "out").exists()


def test_datasets_loads_the_folder_with_typed_columns(results, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    assert report(results, "--dataset").exit_code == 0
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    rows = {(r["claim"], r["model"], r["metric"], r["protocol"]): r for r in loaded}
    assert len(rows) == len(ROWS)
    for one in ROWS:
        loaded_row, expected = rows[one.key], flat(one)
        assert {name: loaded_row[name] for name in expected if name != "fragile"} == {
            name: x for name, x in expected.items() if name != "fragile"
        }
        assert loaded_row["fragile"] is (False if one.validity else None)
        assert loaded_row["family"] == FAMILIES[one.claim]
    kinds = {name: feature.dtype for name, feature in loaded.features.items()}
    # `recorded_low` is null in every row, and is a number all the same
    assert kinds["measured"] == kinds["recorded_low"] == "float64" and kinds["n"] == kinds["decide"] == "int64"
    assert kinds["fragile"] == "bool" and kinds["latent_pos"].endswith("string")
    front = (tmp_path / "dataset" / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert yaml.safe_load(front)["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "results.parquet"}]}
    ]


# --- JUnit -----------------------------------------------------------------------------------------------------------


def of_test(file, name):
    """The properties of a test in a JUnit file."""
    (case,) = [case for case in ElementTree.parse(file).iter("testcase") if name in case.get("name")]
    return {one.get("name"): one.get("value") for one in case.iter("property")}


def test_junit_has_value_word_and_regression_of_each_number(run_benchmarks, tmp_path):
    file = tmp_path / "junit.xml"
    run_benchmarks("--model", "gpt2-mini", "--model", "gpt2", "--claim", "size", "--junitxml", file)
    mini, published = of_test(file, "[gpt2-mini-size]"), of_test(file, "[gpt2-size]")
    assert mini["size.parameters.reported.value"] == "570440" and mini["size.parameters.sound.regression"] == "SAME"
    assert (
        published["size.parameters.reported.status"] == "not-run" and "--device" in published["size.parameters.reported.reason"]
    )
    assert not [name for name in published if name.endswith((".value", ".word", ".regression"))]


def test_properties_are_what_a_row_has():
    blocked = row("size", status="blocked", metric="width", reason="weights", regression="DRIFTED")
    named = dict(properties(asdict(one) for one in [SOUND, blocked]))
    assert named == {
        **{
            "probe-accuracy.mean.sound.value": 0.887,
            "probe-accuracy.mean.sound.low": 0.851,
            "probe-accuracy.mean.sound.high": 0.919,
        },
        **{"probe-accuracy.mean.sound.null": 0.55, "probe-accuracy.mean.sound.p": 0.001},
        **{"probe-accuracy.mean.sound.word": "SUPPORTED", "probe-accuracy.mean.sound.regression": "SAME"},
        **{"size.width.reported.status": "blocked", "size.width.reported.reason": "weights"},
        "size.width.reported.regression": "DRIFTED",
    }
