"""The public auditor, `codi_bench.audit`: it judges your probes and outcomes, and needs no model.

    import codi_bench
    print(codi_bench.audit.probes(activations, labels, groups=groups, surface=surface, confidence=confidence))
    print(codi_bench.audit.outcomes(rows))
    codi_bench.audit.probes(**codi_bench.audit.read_probes("probes.npz")).as_dict()

`codi-bench audit probes FILE` and `codi-bench audit outcomes FILE` do the same; `--json` prints `as_dict()`. In it, rates, AUCs
and drops are fractions; an estimate is {value, low, high} with a 95 % interval, whose ends are null if there is none; a
verdict is {word, why, fragile, decide}. Both kinds have `schema` (1), `kind`, `status` ("ok", or "blocked" with its `reason`),
`sentence`, `decide` (the number of problems that would decide an undecided result, or null) and `source`.

`probes`: `word`; n (groups if given), rows, ones, cells, width, probe, folds, permutations, seed; and, null if blocked,
`published` {mean, best, cell}, in-sample accuracies {value, null {value, low, high, p}, artefact, verdict}; `held_out`
{accuracy, auc, auc_null, cell, p (by null), added, surface_auc, verdict}; `confidence` {auc, gain, p, verdict}.

`outcomes`: `models`, a list of {model, n, problems, conditions, critical, reason}, where `conditions` is a list of {condition,
accuracy, drop, p, verdict}, the clean one first, and `critical` {conditions, none, q_p, top, contrast, verdict, decide} or null;
`pairs`, a list of {a, b, n, difference, p, winner, decide}.
"""

from codi_bench.audits.outcome_assessment import OutcomeAssessment, outcomes
from codi_bench.audits.outcome_table import read_outcomes
from codi_bench.audits.probe_arrays import read_probes
from codi_bench.audits.probe_assessment import ProbeAssessment, probes

__all__ = ["OutcomeAssessment", "ProbeAssessment", "outcomes", "probes", "read_outcomes", "read_probes"]
