"""The study's own table: what was planted stands in its cell, what was not measured never looks like a pass, and it fits."""

from dataclasses import replace

import pytest
import rows as built
from rows import printed, row, value
from typer.testing import CliRunner

from codi_bench.cli import app
from codi_bench.errors import BaselineError
from codi_bench.records.extras import recorded_winners, winners_of
from codi_bench.records.results import published_rows, write_results
from codi_bench.report.comparison import study_table
from codi_bench.report.comparison_text import text_of, winners_text, words_by_source
from codi_bench.report.render import terminal
from codi_bench.report.streams import ERRORS

PAIR = ("gpt2-mini", "llama-mini")
FAMILIES = dict.fromkeys(
    ("task-accuracy", "probe-accuracy", "probe-best", "sae-error-prediction", "ablation", "ablation-critical", "spread", "size"),
    "x",
)


def sound(claim, model, metric, x, *ends, word="SUPPORTED", **more):
    return row(claim, model, metric, "sound", measured=value(x, *ends), validity=word, **more)


def study(model, *, critical, spread, words=("SUPPORTED", "SUPPORTED"), accuracy=0.669):
    drops = [sound("ablation", model, f"drop_{i}", 19.3 if i in critical else 1.0, 0, 20, unit="points", n=300) for i in range(3)]
    null = value(0.812, 0.697, 0.922, p=0.1)
    return [
        sound("task-accuracy", model, "accuracy", accuracy, accuracy - 0.03, accuracy + 0.03, n=2400),
        row("probe-accuracy", model, "mean", null=null, validity="ARTEFACT"),
        sound("probe-best", model, "auc", 0.82, 0.75, 0.88, word="ARTEFACT"),
        sound("sae-error-prediction", model, "auc", 0.853, 0.79, 0.9, word="UNDERPOWERED"),
        *drops,
        sound("ablation-critical", model, "range", 18.0, word=words[0], unit="points", detail={"critical": list(critical)}),
        sound("spread", model, "tau", 0.9, 0, 1.7, word=words[1], unit="points", detail={"note": f"spread: {spread}"}),
        row("size", model, "parameters", unit="count", measured=value(570440)),
    ]


def compared(claim, metric, winner, p=0.0004, models=PAIR):
    difference = value(0.1, 0.05, 0.15)
    return {"claim": claim, "metric": metric, "models": list(models), "winner": winner, "p": p, "difference": difference}


def environment(*comparisons, **more):
    winners = {str(i): {"unit": "fraction", "test": "a test", **one} for i, one in enumerate(comparisons)}
    return built.environment(FAMILIES, **{"winners": winners, **more})


GPT2 = study("gpt2-mini", critical=[1, 2], spread="concentrated")
LLAMA = study("llama-mini", critical=[], spread="even", accuracy=0.7)
PUBLISHED = [
    printed(x=0.432, claim="task-accuracy", metric="accuracy"),
    printed(),
    *(printed(x=x, claim="ablation", metric=f"drop_{i}", unit="points") for i, x in enumerate((7.0, 18.0, 20.0))),
]
ACCURACY = compared("task-accuracy", "accuracy", "llama-mini")


def lines(rows, known, width=100):
    """The lines of the table, with one space between words."""
    return [" ".join(line.split()) for line in text_of(study_table(rows, known), width)]


def test_every_planted_value_stands_in_its_line_with_interval_mark_and_winner():
    shown = lines([*GPT2, *LLAMA, *PUBLISHED], environment(ACCURACY, compared("probe-best", "auc", None, 0.83)))
    for text in (
        "GPT-2 LLaMA gpt2-mini llama-mini winner, p",
        "Task accuracy, % 43.2 66.9 [63.9, 69.9] ✓ 70.0 [67.0, 73.0] ✓ llama-mini <.001",
        "as published, mean 92.1 88.7 [85.1, 91.9] ≈ 88.7 [85.1, 91.9] ≈ –",
        "permuted labels 81.2 [69.7, 92.2] 81.2 [69.7, 92.2]",
        "held out, AUC, best 0.82 [0.75, 0.88] ≈ 0.82 [0.75, 0.88] ≈ none .83",
        "largest @ latent 20 @ 2 19.3 @ 1 ✓ 1.0 @ 0 ✓ –",
        "critical latents 1, 2 none 1, 2 ✓ none ✓ –",
        "Information sits concentr. even concentrated ✓ even ✓ –",
        "Parameters 0.57 M 0.57 M –",
    ):
        assert text in shown
    assert "measured here, up to 2400 problems" in " ".join(shown)


@pytest.mark.parametrize(
    ("gpt2", "llama", "outcomes"),
    [
        (GPT2, LLAMA, ["holds", "undecided", "undecided", "holds", "holds"]),
        (
            study("gpt2-mini", critical=[1], spread="even", words=("SUPPORTED", "REFUTED")),
            LLAMA,
            [..., ..., ..., "does not hold", "holds"],
        ),
        (
            GPT2,
            study("llama-mini", critical=[0], spread="even", words=("REFUTED", "UNDERPOWERED")),
            [..., ..., ..., "undecided", "does not hold"],
        ),
    ],
)
def test_the_study_s_winners_hold_by_test_or_by_both_sentences(gpt2, llama, outcomes):
    table = study_table([*gpt2, *llama], environment(ACCURACY, compared("probe-best", "auc", None, 0.83)))
    assert all(expected in (..., each.outcome) for each, expected in zip(table.winners, outcomes, strict=True))
    assert (
        study_table([*gpt2, *llama], environment(compared("task-accuracy", "accuracy", "gpt2-mini"))).winners[0].outcome
        == "does not hold"
    )


def test_what_was_not_measured_is_said_and_looks_like_no_pass():
    stopped = [row("probe-best", "llama-mini", "-", "sound", "blocked", reason="x"), *LLAMA[:2]]
    shown = lines([*GPT2, *stopped], environment())
    assert "held out, AUC, best 0.82 [0.75, 0.88] ≈ blocked …" in shown
    assert "Information sits concentr. even concentrated ✓ not run –" in shown
    assert "beyond confidence … not run –" in shown
    assert not any(line.startswith("Problems a second") for line in shown)  # no speed is known
    assert not any("✓" in line.split("not run")[-1] for line in shown if "not run" in line)


def test_a_model_that_was_blocked_everywhere_is_blocked_in_every_line():
    asked = study("mine", critical=[], spread="even")
    rows = [row(number.claim, "mine", "-", "reported", "blocked", reason="no room") for number in asked]
    table = study_table(rows, environment())
    cells = {line.name.strip(): line.measured["mine"].text for line in table.lines if line.measured}
    assert len(cells) > 8 and {*cells.values()} == {"blocked"}


def test_one_model_has_no_winner_and_one_claim_its_line_alone():
    alone = text_of(study_table(GPT2, environment()))
    assert not any("winner" in line for line in alone) and winners_text(study_table(GPT2, environment())) == []
    few = text_of(study_table(GPT2[:1], environment()))
    assert any("Task accuracy" in line for line in few) and not any("Probes" in line or "Parameters" in line for line in few)


def test_of_three_models_one_wins_that_beats_both_others():
    rows = [*GPT2, *LLAMA, *study("mine", critical=[], spread="even")]
    pairs = [ACCURACY, compared("task-accuracy", "accuracy", "llama-mini", 0.02, ("llama-mini", "mine"))]
    pairs.append(compared("task-accuracy", "accuracy", None, 0.5, ("gpt2-mini", "mine")))
    assert study_table(rows, environment(*pairs)).lines[0].winner == "llama-mini"
    assert study_table(rows, environment(*pairs)).lines[0].p == ".02"
    assert study_table(rows, environment(*pairs[1:])).lines[0].winner == "none"


def test_a_user_s_own_model_has_the_words_of_both_sentences():
    own = [
        sound("spread", "mine", f"tau_as_{name}", 0.9, word=word, unit="points", detail={"note": "spread: mixed"})
        for name, word in (("gpt2", "REFUTED"), ("llama-3.2-1b", "SUPPORTED"))
    ]
    assert "Information sits concentr. even mixed ⊘✓" in lines(own, environment())


def test_records_that_hold_words_alone_tell_the_same():
    bare = [row.__class__(**{**vars(row), "detail": {}}) for row in [*GPT2, *LLAMA]]
    bare = [row.__class__(**{**vars(row), "cell": {"layer": None, "latent_pos": 2}}) for row in bare]
    shown = lines(bare, environment())
    assert "critical latents 1, 2 none 2 ✓ none ✓ –" in shown
    assert "Information sits concentr. even concentrated ✓ even ✓ –" in shown


@pytest.mark.parametrize("width", [100, 80, 60])
@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_it_fits_whatever_the_names(width, count):
    names = [*PAIR, *(f"a-model-with-a-long-name-{i}" for i in range(4))][:count]
    rows = [*[line for name in names for line in study(name, critical=[1], spread="concentrated")], *PUBLISHED]
    table = study_table(rows, environment(ACCURACY))
    text = [*text_of(table, width), *winners_text(table, width)]
    assert max(map(len, text)) <= width
    assert len(text) <= 40 and any("more model" in line for line in text) >= (count == 6)


def test_what_was_published_is_told_by_the_environment_too():
    numbers = [
        {"claim": "task-accuracy", "model": "gpt2", "metric": "accuracy", "unit": "fraction", "n": 9, "reported": value(0.432)}
    ]
    known = environment(published=[*numbers, {**numbers[0], "claim": "other"}])
    assert [row.claim for row in published_rows(known, GPT2)] == ["task-accuracy"]
    assert published_rows(known, [*GPT2, *PUBLISHED]) == []
    assert "Task accuracy, % 43.2 66.9 [63.9, 69.9] ✓" in " ".join(terminal(GPT2, known, None).split())


def test_without_the_study_words_are_counted_by_source():
    rows = [row("other", "m", f"m{i}", "sound", validity=word) for i, word in enumerate(("REFUTED", "REFUTED", "SUPPORTED"))]
    known = {"claims": {"other": {"source": "CODI, arXiv 2502, Table 3", "family": "decoding", "position": 0}}}
    assert study_table(rows, known) is None
    assert any(line.split() == ["CODI", "decoding", "1", "2"] for line in words_by_source(rows, known))
    many = [row(f"c{i}", "m", "x", "sound", validity="REFUTED") for i in range(40)]
    many_known = {"claims": {f"c{i}": {"source": f"source {i:02}", "family": "f"} for i in range(40)}}
    assert len(terminal(many, many_known, None).splitlines()) <= 30


def test_a_terminal_without_utf_8_gets_plain_signs():
    text = "\n".join(text_of(study_table([*GPT2, *LLAMA], environment(ACCURACY))))
    for encoding in ("ascii", "cp1252"):
        plain = text.encode(encoding, ERRORS).decode(encoding)
        assert "+ supported" in plain and "66.9 [63.9, 69.9] +" in plain
        assert all(len(line) == len(other) for line, other in zip(plain.splitlines(), text.splitlines(), strict=True))


# --- one claim in full -----------------------------------------------------------------------------------------------


def shown(*arguments):
    return CliRunner().invoke(app, ["show", *arguments])


def test_one_claim_in_full_has_both_protocols_nulls_why_and_the_command(tmp_path):
    why = {"validity": "effect -0.2 points"}
    rows = [
        *GPT2,
        *LLAMA,
        row("probe-best", "gpt2-mini", "accuracy", "sound", null=value(0.5, 0.4, 0.6, p=0.2), validity="REFUTED", detail=why),
    ]
    write_results(tmp_path / "results.json", environment(compared("probe-best", "auc", None, 0.83)), rows)
    text = " ".join(shown("probe-best", "--report", str(tmp_path)).output.split())
    for part in (
        "as published: 50 right and 50 wrong probe-best problems",
        "sound: 400 probe-best problems",
        "accuracy, %, sound: ⊘ REFUTED",
        "null: 50.0 [40.0, 60.0], p = 0.2",
        "verdict: effect -0.2 points",
        "measure it again: codi-bench run --claim probe-best --model llama-mini",
        "winner, probe-best auc: none",
    ):
        assert part in text
    one = shown("probe-best", "--model", "gpt2-mini", "--report", str(tmp_path)).output
    assert "--model gpt2-mini" in one and "--model llama-mini" not in one


@pytest.mark.parametrize(
    ("arguments", "said"), [(["probe-bst"], "'probe-best'"), (["size", "--model", "gpt2-mni"], "'gpt2-mini'")]
)
def test_an_unknown_name_is_one_line_with_the_nearest(arguments, said, tmp_path):
    result = shown(*arguments, "--report", str(tmp_path))
    assert result.exit_code and said in str(result.exception) and "\n" not in str(result.exception)


def test_without_a_report_the_records_are_shown(tmp_path):
    text = shown("size", "--report", str(tmp_path)).output
    assert "570440" in text.replace("0.57 M", "570440") and "baselines" in text.splitlines()[-1]


def test_what_is_recorded_of_released_answers_stands_where_nothing_was_measured():
    """With a sign of its own, and never with a word; the place of a critical latent, not the range that it makes."""
    known, not_run = {"status": "not-run", "reason": "this machine has no GPU", "measured": None}, ("gpt2", "llama-3.2-1b")
    rows = [sound("task-accuracy", model, "accuracy", 0.5, 0.4, 0.6) for model in not_run]
    rows.append(sound("ablation-critical", "llama-3.2-1b", "range", 20.0, unit="points"))
    recorded = [
        replace(row, **known, recorded=row.measured, validity=None, cell={"layer": None, "latent_pos": 4}) for row in rows
    ]
    shown = lines(recorded, environment())
    assert shown[0] == "published not measured in this run, ° recorded"
    assert "Task accuracy, % 50.0° [40.0, 60.0] 50.0° [40.0, 60.0] …" in shown
    assert "critical latents 1, 2 none not run 4° –" in shown
    gone = replace(recorded[0], recorded=None), replace(recorded[1], recorded=None)
    assert study_table(gone, environment()) is None


def test_a_winner_that_nobody_released_enough_for_cannot_be_judged():
    open_detail = {"unreleased": "the hidden states"}
    rows = [
        replace(sound("probe-best", model, "auc", 0.8), status="not-run", measured=None, validity=None, detail=open_detail)
        for model in ("gpt2", "llama-3.2-1b")
    ]
    rows += [replace(sound("task-accuracy", model, "accuracy", 0.5), origin="released") for model in ("gpt2", "llama-3.2-1b")]
    table = study_table(rows, environment() | {"beside": {"gpt2": "gpt2", "llama-3.2-1b": "llama-3.2-1b"}})
    outcomes = {winner.subject: (winner.outcome, winner.why) for winner in table.winners}
    assert outcomes["probes"] == ("cannot be judged", "nobody released the hidden states")
    assert outcomes["accuracy"][0] == "cannot be judged" and table.basis.startswith("measured on what others released")


def test_who_is_better_is_recorded_where_every_test_of_the_pair_was_run(tmp_path):
    one = {
        "metric": "auc",
        "unit": "fraction",
        "models": ["gpt2-mini", "llama-mini"],
        "winner": "gpt2-mini",
        "p": 0.01,
        "difference": {"value": 0.1, "low": 0.05, "high": 0.15},
        "test": "bootstrap",
    }
    winners = {name: one | {"claim": name} for name in ("task-accuracy", "probe-best", "sae-error-prediction")}
    write_results(tmp_path / "results.json", {"winners": winners}, [])
    ((file, text),) = winners_of(tmp_path).items()
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    assert recorded_winners(tmp_path) == winners
    for p, models in ((None, one["models"]), (0.01, ["gpt2-mini", "mine"])):  # not tested; not the embedded pair
        other = winners | {"probe-best": winners["probe-best"] | {"p": p, "models": models}}
        write_results(tmp_path / "results.json", {"winners": other}, [])
        assert winners_of(tmp_path) == {}
    (tmp_path / file).write_text(text.replace("0.01", '"small"'))
    with pytest.raises(BaselineError, match=f"{file.name}.*restore it with git"):
        recorded_winners(tmp_path)
    assert recorded_winners(tmp_path / "elsewhere") == {}
