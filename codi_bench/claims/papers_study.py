"""What else was published on continuous thoughts: papers, lab notebooks and released logs, by the ids of our catalogue.

Figures live in `baselines/`, never here.
"""

from __future__ import annotations

from codi_bench.claims import papers_decoding as decoding
from codi_bench.claims.claim import Claim

PAPER = "CODI, arXiv 2502.21074 v3"
LOG = "released log, outputs/decoded_latent.txt of github.com/zhenyi4/codi, recomputed"
NOTEBOOK = "lab notebook, github.com/ethankimm/ai-capstone"
JOURNAL = "lab journal, github.com/GusSand/CoT_Exploration"
RIGHT = "rightly answered problems alone; the head's first words behind bot and each latent; numbers compared as numbers; "
OTHERS = (
    "the same, against the values of another problem of as many steps: exact McNemar, Holm in the claim times the claims of the "
    "family; the null is the mean over all other problems"
)


def _decoding(
    name: str, kind: str, sentence: str, source: str, protocol: str, measure, sound, sound_protocol: str = OTHERS
) -> Claim:
    return Claim(name, "decoding", kind, sentence, source, RIGHT + protocol, measure, sound_protocol, sound, on_logs=True)


CLAIMS = (
    _decoding(
        "log-count",
        "fact",
        "So many problems are answered rightly.",
        LOG,
        "counted by the integer part, and as floats",
        decoding.count,
        decoding.nothing_more,
        "nothing more: the log holds right answers alone",
    ),
    _decoding(
        "log-parity",
        "exists",
        "The head reads a number at even places and none at odd ones.",
        LOG,
        "is the first word a number?",
        decoding.parity,
        decoding.parity_sound,
        "numbers at all even places and no odd one, against the other way round; exact McNemar",
    ),
    _decoding(
        "codi-table3-decode",
        "value",
        "All intermediate results, one, two or three, are among the first five words behind some thought.",
        f"{PAPER}, Table 3",
        "all results before the last, at any place (rule, n and the last step are not stated)",
        decoding.table,
        decoding.table_sound,
    ),
    _decoding(
        "log-table3-strict",
        "value",
        "All results before the last are among the first five words, or are first, at some place.",
        LOG,
        "by the number of results before the last",
        decoding.strict,
        decoding.strict_sound,
    ),
    _decoding(
        "log-table3-readings",
        "value",
        "Under other readings of the table the results are found this often.",
        LOG,
        "values counted singly; numbers that begin alike; whole numbers below 1000 alone; the last result too",
        decoding.readings,
        decoding.readings_sound,
    ),
    _decoding(
        "log-shuffle-control",
        "value",
        "Another problem's value is seldom found.",
        LOG,
        "one result before the last, that of a shuffled problem, first five words, any place",
        decoding.shuffled,
        decoding.shuffled_sound,
        "the same over all pairs of problems",
    ),
    _decoding(
        "log-slot-map",
        "value",
        "Results of steps stand first at even places, one after the other.",
        LOG,
        "the first word at one place, by the number of results before the last",
        decoding.slots,
        decoding.slots_sound,
    ),
    _decoding(
        "log-saturation",
        "value",
        "Neighbouring even places say the same, the later the more often.",
        LOG,
        "the first words, stripped",
        decoding.saturation,
        decoding.saturation_sound,
        "the same, against the later place of another problem: exact McNemar, Holm in the claim times the claims of the family",
    ),
    _decoding(
        "log-final-answer",
        "value",
        "The final answer is among the words read behind some thought.",
        LOG,
        "the answer at any place, first word and first five",
        decoding.final_answer,
        decoding.final_answer_sound,
    ),
    _decoding(
        "gs-decode-numeric",
        "value",
        "So often the first word at a place is a number.",
        JOURNAL,
        "is the first word a number? (there: all problems)",
        decoding.parity,
        decoding.nothing_more,
        "nothing more: judged by log-parity",
    ),
    _decoding(
        "gs-table3",
        "value",
        "The results of all steps, the last one too, are first at some place, or among the first five at an even one.",
        JOURNAL,
        "by the number of steps, all of them counted",
        decoding.journal_table,
        decoding.journal_table_sound,
    ),
    _decoding(
        "cap-decode",
        "value",
        "All intermediate results are among the first five words behind some thought.",
        NOTEBOOK,
        "all results before the last, at any place (there: of problems whose intermediates were checked)",
        decoding.table,
        decoding.table_sound,
    ),
)
