"""The generated parts of docs/findings/first-study.md and docs/findings/contradictions.md, drawn from rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codi_bench.models.registry import EMBEDDED, PUBLISHED
from codi_bench.records.baseline import REPORTED, SOUND
from codi_bench.records.results import OK, Row
from codi_bench.report.comparison import StudyWinner, largest_drop, study_table
from codi_bench.report.console import grid
from codi_bench.report.table import REPORTING, UNITS, number, place, shown_unit, word

COLUMNS = ["number", "model", "published", "measured", "its null", "problems", "word"]
LARGEST_DROP = "drop_*"


@dataclass(frozen=True)
class StudySection:
    """A section about one row of the study's summary.

    subject: its name among the study's winners; numbers: label, claim, metric and protocol.
    """

    heading: str
    claimed: str
    subject: str
    numbers: Sequence[tuple[str, str, str, str]]


STUDY = (
    StudySection(
        "Task accuracy",
        "The study: LLaMA answers more problems of GSM8K than GPT-2. The null is always giving the most frequent answer.",
        "accuracy",
        (("accuracy, %", "task-accuracy", "accuracy", SOUND),),
    ),
    StudySection(
        "Probes",
        "The study: linear probes on the thoughts tell right answers from wrong ones. It scored each probe on the 100 problems "
        "that the probe was fitted to. The null is the same protocol with permuted labels.",
        "probes",
        (
            ("as published, mean over cells, %", "probe-accuracy", "mean", REPORTED),
            ("as published, best cell, %", "probe-best", "accuracy", REPORTED),
            ("held out, mean over cells, %", "probe-accuracy", "mean", SOUND),
            ("held out, best cell, %", "probe-best", "accuracy", SOUND),
            ("held out, best cell, AUC", "probe-best", "auc", SOUND),
            ("AUC beyond the model's confidence, points", "probe-best", "gain_confidence", SOUND),
            ("the question alone, held out, AUC, %", "rel-probe-surface", "auc_held_out_1000", SOUND),
        ),
    ),
    StudySection(
        "SAE features and errors",
        "The study: features of a sparse autoencoder on the thoughts predict whether the answer will be wrong. Of GPT-2's "
        "classifier only counts were released.",
        "SAE errors",
        (
            ("as published, accuracy, %", "sae-error-prediction", "test_accuracy", REPORTED),
            ("accuracy, %, sound", "sae-error-prediction", "test_accuracy", SOUND),
            ("over the larger class, points", "sae-error-prediction", "over_majority", SOUND),
            ("over what the question shows, points", "sae-error-prediction", "over_surface", SOUND),
            ("held out, AUC", "sae-error-prediction", "auc", SOUND),
            ("over raw states, points", "sae-error-prediction", "gain", SOUND),
            ("AUC beyond the model's confidence, points", "sae-error-prediction", "gain_confidence", SOUND),
        ),
    ),
    StudySection(
        "Where information sits",
        "The study: GPT-2 concentrates information in a few cells of layer and token, LLaMA spreads it evenly. The number is "
        "how much probe accuracy differs between cells. The word says whether the study's sentence holds: its sentence on GPT-2 "
        "for gpt2-mini, its sentence on LLaMA for llama-mini.",
        "distribution",
        (
            ("as published, standard deviation, points", "spread", "std", REPORTED),
            ("held out, beyond sampling error, points", "spread", "tau", SOUND),
        ),
    ),
    StudySection(
        "Ablation",
        "The study: GPT-2 has critical tokens, 2 and 3 (here latents 1 and 2), and LLaMA has none. The released runs zero two "
        "inputs at a time, as the study did; on the embedded pair one thought is replaced by its mean. The word behind the range "
        "says whether the study's sentence on critical tokens holds.",
        "robustness",
        (
            ("largest drop, points", "ablation", LARGEST_DROP, SOUND),
            ("range of the drops over latents, points", "ablation-critical", "range", SOUND),
        ),
    ),
)


@dataclass(frozen=True)
class Contradiction:
    """Sources that disagree. sides: who says what; outcome: what the measured numbers below say; metrics: all where empty."""

    heading: str
    sides: Sequence[str]
    outcome: str
    claims: Mapping[str, Sequence[str]]


CONTRADICTIONS = (
    Contradiction(
        "How often do the thoughts hold the intermediate results?",
        (
            "The CODI paper, Table 3: 97.1, 83.9 and 75.0 % for problems of one, two and three steps.",
            "The log that its authors released: 90.7, 78.0 and 54.6 %. A lab notebook: 89.1, 75.0 and 62.8 %.",
        ),
        "Tested: does it explain the difference if a word counts that a result only begins with (`prefix`) and not only an "
        "equal number (`equal`)? Not on the real model: the looser rule moves the log towards the paper, but this many "
        "problems do not decide it.",
        {"contra-table3": ()},
    ),
    Contradiction(
        "What is left without thoughts?",
        (
            "A lab notebook, of GSM8K's problems: 23.8 % with eot at once, 10.5 % with means. Scratchpad Thinking: 23.1 % with "
            "zeros.",
            "A lab journal: with zeros every right answer of GPT-2 is lost.",
        ),
        "Tested: do none, zeros and means give different numbers on one model? Not as published: where they differ on the "
        "embedded pair, means leave more and not less. Zeros leave part of the right answers on every model but in the "
        "journal's run of GPT-2.",
        {"contra-none": (), "gs-necessity": ("lost",)},
    ),
    Contradiction(
        "Which latent matters most?",
        (
            "A lab notebook: latent 4 by zeros, latent 0 by means and by noise. A lab journal: latent 5.",
            "The first study: latents 1 and 2.",
        ),
        "Tested: does the replacement decide which latent costs most? Not on the embedded pair: all four replacements name the "
        "same latent on gpt2-mini, and the same one on llama-mini. So no word is given; there is no difference to test.",
        {"contra-most-important": ("zero", "mean", "noise", "resample")},
    ),
    Contradiction(
        "Does the order of the thoughts matter?",
        (
            "Scratchpad Thinking: reversed thoughts leave 36.3 % of 41.7 %, so the order hardly matters.",
            "The released log: each slot holds a step of its own.",
        ),
        "Tested: is more owed to having the thoughts than to their order? Yes, on both models. Both sides are right: reversal "
        "costs something on one model and hardly anything on the other.",
        {"contra-order": ()},
    ),
    Contradiction(
        "How many problems of GSM8K does CODI-GPT-2 answer?",
        ("The CODI paper and its script, in padded batches: 43.7 %.", "A lab notebook, each problem alone: 41.9 %."),
        "Tested: do padded batches, whose thoughts attend to the paddings, answer more? Paddings change which problems are "
        "answered rightly on the real model (`differ`), and cost the embedded pair answers. That they help is not shown "
        "anywhere.",
        {"cap-batch-effect": (), "rel-padding": ("batch_1", "batch_16", "batch_128", "differ_16", "differ_128")},
    ),
    Contradiction(
        "How much better does SIM-CoT answer than what it is trained from?",
        (
            "SIM-CoT's README: 4.3 points better than CODI on GPT-2.",
            "Table 1 of its paper: 42.6 against 42.0 % of GSM8K, and a mean of 48.3 against 48.0 % on three other sets. There "
            "the same table has 4.3 points for Coconut. The CODI paper gives CODI 43.7 %.",
        ),
        "Not tested yet: nobody released both models' answers to the same problems. `simcot-gain` tests it where the weights of "
        "both are given: whether the headline lies in the interval of the gain, and whether there is a gain at all.",
        {"simcot-gain": ("gain_gsm8k", "headline")},
    ),
    Contradiction(
        "Is a result held in one thought or in all of them?",
        (
            "A lab notebook, thoughts moved between twin problems: 84 % of the answers follow with all thoughts, 36 % with the "
            "best single one. So a result is in one place.",
            "The same notebook: 71 % with all and 11 % with the best. So it is in all of them.",
        ),
        "The second is the notebook's own first run, whose places were one off. Tested: does the same transplant do less one "
        "place off? Yes, with all thoughts on both models (the null is the right place).",
        {"cap-off-by-one": ("all",)},
    ),
    Contradiction(
        "Are the thoughts at even places numbers?",
        ("The released log: 94 to 97 %, and none at odd places.", "A lab journal: 14 to 29 %."),
        "Recounted from the log, the first words at even places are numbers. The journal's figures are not those of this "
        "checkpoint. The embedded pair has no such pattern.",
        {"log-parity": ("number_0", "number_1", "number_2", "alternates"), "gs-decode-numeric": ("number_0", "number_2")},
    ),
    Contradiction(
        "Do zeros at five places lose more than zeros at all six?",
        (
            "A lab journal, of LLaMA's right answers: 86.8 % lost with zeros at five places.",
            "The same journal: 32.7 or 63.5 % with zeros at six.",
        ),
        "Tested on the problems that both files have: six places lose more than five, as they should. The 1000 problems with "
        "five places were chosen among those that six places lose, so their share is high.",
        {"contra-necessity": ()},
    ),
)


def first_study(rows: Sequence[Row], environment: dict) -> str:
    """The five rows of the study's summary: what it said, each number on the real models and on the embedded pair, who wins."""
    by_key = {row.key: row for row in rows}
    winners: dict[tuple[str, str], StudyWinner] = {}
    for where, models in (("the real models", REPORTING), ("the embedded pair", EMBEDDED)):
        table = study_table([row for row in rows if row.model in models], environment)
        winners |= {(where, one.subject): one for one in (table.winners if table else ())}
    parts = []
    for position, summary in enumerate(STUDY, 1):
        lines, seen = [], set()
        for label, claim, metric, protocol in summary.numbers:
            for model in (*REPORTING, *EMBEDDED):
                row = _row(by_key, (claim, model, metric, protocol), "measured")
                source = None if (claim, metric) in seen else _row(by_key, (claim, model, metric, REPORTED), "reported")
                lines += _line(label, model, row, source)
            seen.add((claim, metric))
        outcomes = [(where, one) for (where, subject), one in winners.items() if subject == summary.subject]
        verdicts = " ".join(f"On {where}: **{one.outcome}** ({one.why})." for where, one in outcomes)
        winner = f"The study's winner is {outcomes[0][1].winner}. {verdicts}" if outcomes else "No winner was measured."
        parts += [f"## {position}. {summary.heading}", summary.claimed, grid(lines, COLUMNS), winner]
    return "\n\n".join(parts).replace("\xa0", " ")


def contradictions(rows: Sequence[Row]) -> str:
    """Each contradiction between sources: who says what, what was measured, and every number of the claims that test it."""
    parts = []
    for pair in CONTRADICTIONS:
        lines = []
        for claim, metrics in pair.claims.items():
            by_key = {row.key: row for row in rows if row.claim == claim}
            for metric in metrics or dict.fromkeys(row.metric for row in by_key.values()):
                for model in (*PUBLISHED, *EMBEDDED):
                    source, sound = (by_key.get((claim, model, metric, protocol)) for protocol in (REPORTED, SOUND))
                    is_one = bool(source and sound and source.measured == sound.measured)
                    lines += _line(label_of(source), model, sound if is_one else source, source) if source else []
                    lines += _line(f"{label_of(sound)}, sound", model, sound, None) if sound and not is_one else []
        parts += [f"## {pair.heading}", "\n".join(f"- {side}" for side in pair.sides), pair.outcome, grid(lines, COLUMNS)]
    return "\n\n".join(parts)


def label_of(row: Row) -> str:
    """A number by its claim, metric and unit."""
    return f"`{row.claim}` {row.metric}{UNITS.get(shown_unit(row), '')}"


def _row(rows: Mapping[tuple[str, str, str, str], Row], key: tuple[str, str, str, str], number_of: str) -> Row | None:
    """The row; of a metric that ends in `*` the one of the latent with the largest number."""
    claim, model, metric, protocol = key
    if metric != LARGEST_DROP:
        return rows.get(key)
    own = [row for row in rows.values() if (row.claim, row.model, row.protocol) == (claim, model, protocol)]
    return largest_drop([row for row in own if getattr(row, number_of)], number_of)


def _line(label: str, model: str, row: Row | None, source: Row | None) -> list[list[str]]:
    """A line of a table, or none where nothing is published or measured."""
    published = number(source.reported, shown_unit(source)) if source and source.reported else ""
    if row is None or row.status != OK:
        absent = "not released" if model in PUBLISHED else "not measured"
        return [[label, model, published, absent, "", "", ""]] if published else []
    where = f" @ {place(row) or row.metric.removeprefix('drop_')}" if row.cell else ""
    null = number(row.null, shown_unit(row)) if row.null else ""
    return [
        [
            label,
            model,
            published,
            number(row.measured, shown_unit(row)) + where,
            null,
            str(row.n),
            word(row.validity),
        ]
    ]
