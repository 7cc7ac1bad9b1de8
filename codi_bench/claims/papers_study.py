"""What else was published on continuous thoughts: papers, lab notebooks and released logs, by the ids of our catalogue.

Figures live in `baselines/`, never here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from codi_bench.claims import papers_answers as answers
from codi_bench.claims import papers_contradictions as contradictions
from codi_bench.claims import papers_decoding as decoding
from codi_bench.claims import papers_latents as latents
from codi_bench.claims import papers_probes as probes
from codi_bench.claims import papers_transplant as transplant
from codi_bench.claims import seed_sound_probes
from codi_bench.claims.claim import Bench, Claim, Measured
from codi_bench.claims.own_edits import NUM_PAIRS
from codi_bench.claims.own_reading import NUM_READ
from codi_bench.claims.papers_answers import NUM_ANSWERED
from codi_bench.claims.papers_transplant import NUM_TWINS
from codi_bench.claims.seed_sound import NUM_ABLATED

PAPER = "CODI, arXiv 2502.21074 v3"
LOG = "released log, outputs/decoded_latent.txt of github.com/zhenyi4/codi, recomputed"
NOTEBOOK = "lab notebook, github.com/ethankimm/ai-capstone"
JOURNAL = "lab journal, github.com/GusSand/CoT_Exploration"
SCRATCHPAD = "Scratchpad Thinking, NeurIPS 2025 MI workshop, github.com/sayam-goyal/Scratchpad-Thinking"
FORUM = "Alignment Forum, 22 Dec 2025, github.com/cywinski/codi"
DYNAMICS = "Dynamics within latent CoT, arXiv 2602.08783"
RIGHT = "rightly answered problems alone; the head's first words behind bot and each latent; numbers compared as numbers; "
OTHERS = (
    "the same, against the values of another problem of as many steps: exact McNemar, Holm in the claim times the claims of the "
    "family; the null is the mean over all other problems"
)
EXPLAINED = "exact McNemar, Holm in the claim times the claims of the family"
CONSTANT = "against always giving the most frequent answer: exact McNemar, Holm in the claim times the claims of the family"
ELSEWHERE = (
    "SVAMP (1000), GSM-Hard (1319) and MultiArith (600) whole; beside generated problems 400 behind a fact of no use, and 400 "
    "with a number beyond what their story has in training"
)
LOSS = "loss against the clean run; exact McNemar, Holm in the claim times the claims of the family"
TWINS = (
    f"{NUM_PAIRS} generated pairs a step that differ in one number, both steps together, of them those whose problems are "
    "answered rightly; {what} fed to the recipient; the rate at which the answer becomes the twin's"
)
CONTROLS = "the same, against a donor with the same value, a problem of like length and noise: exact McNemar against each, Holm"
STORIES = "on stories that no probe was trained on (GSM8K: problems), against stories with the operations of others"


def _claim(
    name: str,
    kind: str,
    sentence: str,
    source: str,
    protocol: str,
    measure: Callable[[Bench], list[Measured]],
    sound: Callable[[Bench, Mapping[str, float]], list[Measured]],
    sound_protocol: str,
    *,
    family: str,
    before: str = "",
    on_logs: bool = False,
    slow: bool = False,
) -> Claim:
    """before: what stands before every protocol of the family."""
    return Claim(
        name, family, kind, sentence, source, before + protocol, measure, sound_protocol, sound, slow=slow, on_logs=on_logs
    )


_decoding = partial(_claim, family="decoding", before=RIGHT, on_logs=True)
_latents = partial(_claim, family="latents")
_probes = partial(_claim, family="other probes")
_contradiction = partial(_claim, family="contradictions", slow=True)

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
        slow=True,
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
        OTHERS,
    ),
    _decoding(
        "log-table3-strict",
        "value",
        "All results before the last are among the first five words, or are first, at some place.",
        LOG,
        "by the number of results before the last",
        decoding.strict,
        decoding.strict_sound,
        OTHERS,
        slow=True,
    ),
    _decoding(
        "log-table3-readings",
        "value",
        "Under other readings of the table the results are found this often.",
        LOG,
        "values counted singly; numbers that begin alike; whole numbers below 1000 alone; the last result too",
        decoding.readings,
        decoding.readings_sound,
        OTHERS,
        slow=True,
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
        slow=True,
    ),
    _decoding(
        "log-slot-map",
        "value",
        "Results of steps stand first at even places, one after the other.",
        LOG,
        "the first word at one place, by the number of results before the last",
        decoding.slots,
        decoding.slots_sound,
        OTHERS,
        slow=True,
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
        slow=True,
    ),
    _decoding(
        "log-final-answer",
        "none",
        "The final answer is hardly read in any thought.",
        LOG,
        "the answer at any place, first word and first five",
        decoding.final_answer,
        decoding.final_answer_sound,
        "surely less than 5 points more often than another problem's answer",
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
        slow=True,
    ),
    _decoding(
        "gs-table3",
        "value",
        "The results of all steps, the last one too, are first at some place, or among the first five at an even one.",
        JOURNAL,
        "by the number of steps, all of them counted",
        decoding.journal_table,
        decoding.journal_table_sound,
        OTHERS,
        slow=True,
    ),
    _decoding(
        "cap-decode",
        "value",
        "All intermediate results are among the first five words behind some thought.",
        NOTEBOOK,
        "all results before the last, at any place (there: of problems whose intermediates were checked)",
        decoding.table,
        decoding.table_sound,
        OTHERS,
        slow=True,
    ),
    _latents(
        "codi-acc-gsm8k",
        "value",
        "The model answers this share of the problems correctly.",
        f"{PAPER}, Figure 3",
        f"{NUM_ANSWERED} problems, batches of 128 in their order, thoughts attend to paddings, greedy, numbers equal as floats",
        answers.accuracy,
        seed_sound_probes.task_accuracy,
        "no padding attended to, first 1000 problems; against always giving the most frequent answer, exact McNemar",
        slow=True,
    ),
    _latents(
        "cap-batch-effect",
        "exists",
        "In padded batches more problems are answered rightly than alone: thoughts attend to paddings.",
        NOTEBOOK,
        f"{NUM_ANSWERED} problems, batches of 128 in their order with paddings attended to, and each alone",
        answers.batch_effect,
        answers.batch_effect_sound,
        "gain over each alone, of one point or more; exact McNemar",
        slow=True,
    ),
    _latents(
        "scratch-baseline",
        "value",
        "Each problem alone, the model answers this share correctly.",
        SCRATCHPAD,
        f"{NUM_ANSWERED} problems, each alone, greedy, numbers equal as floats",
        answers.alone,
        answers.alone_sound,
        CONSTANT,
        slow=True,
    ),
    _latents(
        "codi-ood",
        "value",
        "Out of distribution the model answers these shares correctly.",
        f"{PAPER}, Table 1",
        f"{ELSEWHERE}, in the order of their questions; the published evaluation, as for codi-acc-gsm8k",
        answers.elsewhere,
        answers.elsewhere_sound,
        f"each problem alone, {CONSTANT}",
        slow=True,
    ),
    _latents(
        "codi-ood-beats-cot",
        "order",
        "Out of distribution thoughts answer rightly more often than chains of thought in words.",
        f"{PAPER}, Table 1",
        f"{ELSEWHERE}; the published evaluation, less what the model's own teacher answers in words (there: another model)",
        answers.beats_words,
        answers.beats_words_sound,
        "the same, each problem alone: does the interval of the difference, by Newcombe, lie above zero?",
        slow=True,
    ),
    _latents(
        "cap-truncation",
        "value",
        "With fewer latents the model answers less often rightly, in steps at three and five.",
        NOTEBOOK,
        f"eot behind the first k latents, {NUM_READ} problems (there: 1319, batch 1)",
        latents.truncation,
        latents.truncation_sound,
        "loss against all latents; exact McNemar, Holm in the claim times the claims of the family",
    ),
    _latents(
        "cap-truncation-by-steps",
        "exists",
        "Problems of three steps or more are answered worst after two latents.",
        NOTEBOOK,
        f"the same by the number of steps, 4 and more together, {NUM_READ} problems",
        latents.truncation_by_steps,
        latents.truncation_by_steps_sound,
        "problems of three steps and more: none against two latents, exact McNemar",
        slow=True,
    ),
    _latents(
        "dyn-solved-rate",
        "value",
        "After one of the first k latents so many problems are answered rightly.",
        f"{DYNAMICS} (second-hand)",
        f"right after eot behind any of 0 to k latents, {NUM_READ} problems",
        latents.solved,
        latents.nothing_more,
        "nothing more: it grows by construction, whatever a latent holds; see cap-truncation",
        slow=True,
    ),
    _latents(
        "cap-ablate-all",
        "value",
        "With all latents replaced accuracy falls, least with zeros, most with means.",
        NOTEBOOK,
        f"all latents zero, mean of training problems (there: of test problems) or noise of equal norm, {NUM_ABLATED} problems",
        latents.ablate_all,
        latents.ablate_all_sound,
        LOSS,
        slow=True,
    ),
    _latents(
        "cap-ablate-one",
        "value",
        "With one latent replaced accuracy falls, by how much depends on the value put there.",
        NOTEBOOK,
        f"one latent zero, mean or noise of equal norm, what follows recomputed, {NUM_ABLATED} problems",
        latents.ablate_one,
        latents.ablate_one_sound,
        LOSS,
        slow=True,
    ),
    _latents(
        "af-last-two-random",
        "none",
        "Noise in the last two latents does not reduce accuracy.",
        FORUM,
        f"noise of equal norm, {NUM_ABLATED} problems (the number cannot be read)",
        latents.last_two,
        latents.last_two_sound,
        "the loss is surely below 5 points",
        slow=True,
    ),
    _latents(
        "gs-necessity",
        "value",
        "With zeros for all latents right answers become wrong.",
        JOURNAL,
        f"share of right answers, first {NUM_ABLATED} problems",
        latents.necessity,
        latents.nothing_more,
        "nothing more: see cap-ablate-all",
        slow=True,
    ),
    _latents(
        "gs-cumulative",
        "value",
        "The more of the first latents are zero, the more right answers become wrong.",
        JOURNAL,
        f"share of right answers, first {NUM_ABLATED} problems; zeros for the first i latents",
        latents.cumulative,
        latents.nothing_more,
        "nothing more: it grows by construction, whatever a latent holds",
        slow=True,
    ),
    _latents(
        "dyn-flip",
        "value",
        "Zero for one latent changes so many predictions.",
        f"{DYNAMICS} (second-hand)",
        f"wrong answers that change count too, {NUM_ABLATED} problems",
        latents.flips,
        latents.nothing_more,
        "nothing more: the loss of accuracy is cap-ablate-one's",
        slow=True,
    ),
    _latents(
        "gs-number-positions",
        "value",
        "Zeros where numbers are read, or where none are, cost so much.",
        JOURNAL,
        f"zeros for the latents at even positions, which the head reads numbers in, and at odd ones, {NUM_ABLATED} problems",
        latents.number_places,
        latents.number_places_sound,
        LOSS,
        slow=True,
    ),
    _latents(
        "gs-resample",
        "value",
        "Another problem's latent costs so much, and not where a zero does.",
        JOURNAL,
        f"one latent of another problem (there: at one layer), mean over donors, {NUM_ABLATED} problems",
        latents.resampled,
        latents.resampled_sound,
        "loss against the clean run, mean over donors; exact McNemar of the first donor, Holm in the claim times the claims of "
        "the family",
        slow=True,
    ),
    _latents(
        "gs-discretise",
        "value",
        "With words in the place of thoughts accuracy falls.",
        JOURNAL,
        f"latents that are the projected embedding of the head's first word, at odd positions and at all, {NUM_ABLATED} problems",
        latents.discretised,
        latents.discretised_sound,
        LOSS,
        slow=True,
    ),
    _latents(
        "scratch-order",
        "exists",
        "The thoughts are needed in their order.",
        SCRATCHPAD,
        f"the own thoughts of a clean run, permuted once for all and reversed, {NUM_ABLATED} problems",
        latents.reordered,
        latents.reordered_sound,
        LOSS,
        slow=True,
    ),
    _latents(
        "scratch-subset",
        "exists",
        "With half of the thoughts accuracy falls.",
        SCRATCHPAD,
        f"the own thoughts of a clean run, some alone, {NUM_ABLATED} problems",
        latents.subset,
        latents.subset_sound,
        LOSS,
        slow=True,
    ),
    _latents(
        "scratch-single",
        "exists",
        "One thought alone leaves less than a zero vector does.",
        SCRATCHPAD,
        f"one thought of a clean run, fed once, {NUM_ABLATED} problems",
        latents.single,
        latents.single_sound,
        "loss against a zero vector; exact McNemar, Holm in the claim times the claims of the family",
        slow=True,
    ),
    _latents(
        "scratch-repeat",
        "exists",
        "One thought, fed at every position, leaves less than zero vectors do.",
        SCRATCHPAD,
        f"one thought of a clean run, fed at every position, {NUM_ABLATED} problems",
        latents.repeat,
        latents.repeat_sound,
        "loss against zero vectors; exact McNemar, Holm in the claim times the claims of the family",
        slow=True,
    ),
    _latents(
        "scratch-retention",
        "value",
        "Of the right answers so many stay right.",
        SCRATCHPAD,
        f"half of the thoughts, or one zero vector, first {NUM_ABLATED} problems",
        latents.retention,
        latents.nothing_more,
        "nothing more: see scratch-subset and scratch-single",
        slow=True,
    ),
    _latents(
        "cap-minimal-pair",
        "exists",
        "With its twin's thoughts a problem is answered as the twin.",
        NOTEBOOK,
        TWINS.format(what="all latents of the twin, or one,"),
        transplant.pair,
        transplant.pair_sound,
        CONTROLS,
        slow=True,
    ),
    _latents(
        "cap-minimal-pair-without",
        "exists",
        "With all of its twin's thoughts but one a problem is answered as the twin.",
        NOTEBOOK,
        TWINS.format(what="all latents of the twin but one"),
        transplant.without,
        transplant.without_sound,
        CONTROLS,
        slow=True,
    ),
    _latents(
        "cap-minimal-pair-prefix",
        "exists",
        "With the first of its twin's thoughts a problem is answered as the twin.",
        NOTEBOOK,
        TWINS.format(what="the first latents of the twin"),
        transplant.prefix,
        transplant.prefix_sound,
        CONTROLS,
        slow=True,
    ),
    _latents(
        "cap-minimal-pair-wrong",
        "exists",
        "With the thoughts of a twin that is answered wrongly a problem gets the twin's wrong answer, not its right one.",
        NOTEBOOK,
        f"{NUM_TWINS} generated pairs a step; the recipient answered rightly, the twin wrongly and not as the recipient; all "
        "latents of the twin fed",
        transplant.wrong_twin,
        transplant.wrong_twin_sound,
        "the twin's wrong answer against its right one: exact McNemar times the claims of the family",
        slow=True,
    ),
    _latents(
        "cap-cfr",
        "value",
        "Of the problems that are solved this share has a twin that is solved too.",
        NOTEBOOK,
        f"{NUM_TWINS} generated pairs a step, over all and by the number of steps, 5 and more together",
        transplant.response_rate,
        latents.nothing_more,
        "nothing more: a share of problems that nothing is done to",
        slow=True,
    ),
    _latents(
        "af-same-value-patch",
        "none",
        "The thoughts of a problem with the same value leave the answer as it is.",
        FORUM,
        TWINS.format(what="all latents of a problem with the same value, or one (there: the mean of such problems),").replace(
            "becomes the twin's", "stays right"
        ),
        transplant.same_value,
        transplant.same_value_sound,
        "the loss is surely below 5 points",
        slow=True,
    ),
    _latents(
        "cap-off-by-one",
        "exists",
        "One place off, a transplant does less: what it finds there looks diffuse.",
        NOTEBOOK,
        TWINS.format(what="each latent of the twin, one place too early,"),
        transplant.off_by_one,
        transplant.off_by_one_sound,
        "loss against the right places; exact McNemar, Holm",
        slow=True,
    ),
    _probes(
        "gs-operation-class",
        "value",
        "A probe tells which of three operations comes first.",
        JOURNAL,
        f"plus, minus or times; logistic regression, {probes.NUM_OPERATIONS} problems, 480 to train; the first probed layer at "
        "latent positions 1 and 4, and all layers and positions together",
        probes.operation_class,
        probes.operation_class_sound,
        f"ridge classifier, {STORIES}; the best cell of each draw, times the claims of the family",
        slow=True,
    ),
    _probes(
        "af-op-probe",
        "exists",
        "The difference of means tells plus from minus.",
        f"{FORUM} (code alone, no number published)",
        f"nearer mean of two, last layer, 70 % of up to {probes.NUM_OPERATIONS} problems to train, by latent position",
        probes.operation_direction,
        probes.operation_direction_sound,
        f"the same, {STORIES}; the best position of each draw, times the claims of the family",
        slow=True,
    ),
    _probes(
        "cap-probe-metric",
        "exists",
        "Regression finds no value where the head reads it.",
        NOTEBOOK,
        "rightly answered problems alone, values of steps 1 and 2, ridge regression on the last layer at each place, five folds; "
        "hit: within one percent; read: the head's first word",
        probes.probe_metric,
        probes.probe_metric_sound,
        "read at some place, against regression that rounds to it or is within a percent at some place: exact McNemar, Holm in "
        "the claim times the claims of the family",
        slow=True,
    ),
    _contradiction(
        "contra-table3",
        "value",
        "How words are compared with results explains why a paper finds more of them than its log.",
        f"{PAPER}, Table 3 (97.1 / 83.9 / 75.0 %), against its {LOG} (90.7 / 78.0 / 54.6 %)",
        "all results before the last among the first five words at any place: equal numbers, and words that a result begins with",
        contradictions.table,
        contradictions.table_sound,
        f"the looser rule against the stricter, on the same problems: {EXPLAINED}",
        before=RIGHT,
        on_logs=True,
    ),
    _contradiction(
        "contra-none",
        "value",
        "What is meant by no thoughts explains why accuracy without them is 24, 23 or 11 %.",
        f"{NOTEBOOK} (eot at once, zeros, means), against {SCRATCHPAD} (zeros) and {JOURNAL} (zeros: nothing left)",
        f"eot behind bot, zeros for all latents, means for all latents, {NUM_READ} problems",
        contradictions.without_thoughts,
        contradictions.without_thoughts_sound,
        f"each against each of lower figures, on the same problems: {EXPLAINED}",
    ),
    _contradiction(
        "contra-most-important",
        "value",
        "What is put in its place decides which latent matters most.",
        f"{NOTEBOOK} (zeros: position 4; means and noise: 0), against {JOURNAL} (5) and the first study (1 and 2)",
        f"the position whose replacement costs most, by means, zeros, noise and another problem's latent, {NUM_ABLATED} problems",
        contradictions.most_important,
        contradictions.most_important_sound,
        "each two replacements: their positions chosen on the first half of the problems; on the other half, how much more each "
        "costs at its own than at the other's: is the simultaneous bootstrap interval of the weaker above zero?",
    ),
    _contradiction(
        "contra-order",
        "order",
        "Thoughts matter by their content more than by their order.",
        f"{SCRATCHPAD} (reversed 36.3 %, in order 41.7 %), against a strict reading of the slots in the {LOG}",
        f"the own thoughts in order, reversed, and none (eot behind bot), {NUM_READ} problems",
        contradictions.order_or_content,
        contradictions.order_or_content_sound,
        "what reversed thoughts give over none, less what order gives over reversed: is the bootstrap interval above zero?",
    ),
)
