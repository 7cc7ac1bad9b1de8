"""One test a claim and model: which there are, what they give the table, and how a failure is explained."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pytest
from tabulate import tabulate

from codi_bench.errors import CodiBenchError
from codi_bench.plugin.options import (
    EXTRA,
    REFUSED,
    STUDY,
    SUITE,
    SUITES,
    WHY_REFUSED,
    given,
    gpu_asked,
    named,
    names_given,
    refuse,
    selects,
    strict,
    suite_of,
)
from codi_bench.records.baseline import record_key
from codi_bench.store.files import package_folder

if TYPE_CHECKING:
    from codi_bench.claims import Claim
    from codi_bench.records.results import Row
    from codi_bench.suite.request import ModelRequest, PairOutcome
    from codi_bench.suite.suite import Suite

UNJUDGED = ("not-run", "blocked", "unchecked")
OUTCOME = pytest.StashKey[dict]()
LEFT_OUT = pytest.StashKey[list[str]]()
NOTHING = object()
NO_PAIR = pytest.param(NOTHING, NOTHING, id="nothing")  # of a family without a claim in this run; it is deselected
Claims = dict[str, tuple[str, str, str]]  # test → claim, model, family


def pytest_generate_tests(metafunc):
    """`@pytest.mark.claims(family)`: a test for each claim of that family on each model of the run."""
    marker = metafunc.definition.get_closest_marker("claims")
    if marker is None or len(marker.args) != 1 or not {"suite", "model", "claim", "table"} <= {*metafunc.fixturenames}:
        return  # somebody else's marker of that name
    try:
        suite = suite_of(metafunc.config)
    except CodiBenchError as error:
        metafunc.config.stash[REFUSED] = error  # said once, after the collection
        metafunc.parametrize(("model", "claim"), [NO_PAIR])
        return
    pairs = [
        pytest.param(model, claim, id=f"{model.name}-{claim.id}", marks=[pytest.mark.gpu] * (suite.gpu or model.for_gpus))
        for model in suite.asked_models
        for claim in suite.asked_claims
        if claim.family == marker.args[0] and suite.takes(model, claim)
    ]
    metafunc.parametrize(("model", "claim"), pairs or [NO_PAIR])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if REFUSED in config.stash:
        text = f"codi-bench: {config.stash[REFUSED]}"
        getattr(config, "workeroutput", {})[WHY_REFUSED] = text  # a worker of xdist has no terminal
        refuse(config, text)
    names = names_given(config)
    asked = [_is_asked(item, bool(names & {(item.path, test) for test in _names_of(item)})) for item in items]
    left_out = [item for item, kept in zip(items, asked) if not kept]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item, kept in zip(items, asked) if kept]
    if not items:
        config.stash[LEFT_OUT] = sorted({*SUITES, *EXTRA} & {mark.name for item in left_out for mark in item.iter_markers()})


def pytest_report_collectionfinish(config):
    """Says it where everything was left out for its suite."""
    markers = config.stash.get(LEFT_OUT, [])
    return [f"codi-bench: none of these benchmarks is in the study; give -m {' or -m '.join(markers)}"] if markers else []


def _is_asked(item, is_named: bool) -> bool:
    """Is it in the suites of this run, or named? A test of somebody else always is; of ours pytest's own `-m` decides then.

    What is named is measured whatever its suite: it is marked as of one that `-m` selects.
    """
    expression = item.config.option.markexpr or ""
    if pair := pair_of(item):
        model, claim = pair
        is_named = is_named or suite_of(item.config).names(model, claim)
        markers = {mark.name for mark in item.iter_markers()}
        candidates = (name for name in SUITES if is_named and selects(expression, name, *markers))
        item.add_marker(claim.suite if selects(expression, claim.suite, *markers) else next(candidates, claim.suite))
        return is_named or claim.suite == STUDY or bool(named(expression) & {*SUITES}) or gpu_asked(expression)
    if _params(item).get("claim") is NOTHING:
        return False
    gates = {name for name in EXTRA if item.get_closest_marker(name)}
    return is_named or gates <= named(expression) or not item.path.is_relative_to(package_folder("benchmarks"))


def _names_of(item) -> tuple[str, str]:
    """What a test may be called behind its file, with and without its parameters."""
    name = item.nodeid.partition("::")[2]
    return name, name.partition("[")[0]


def _params(item) -> dict:
    return getattr(getattr(item, "callspec", None), "params", {})


def pair_of(item) -> tuple[ModelRequest, Claim] | None:
    """Model and claim of a test that was made for them here; of no other."""
    if SUITE not in item.config.stash:
        return None
    from codi_bench.claims import Claim  # loaded already, as the suite is

    params = _params(item)
    return (params["model"], params["claim"]) if isinstance(params.get("claim"), Claim) and "model" in params else None


def claims_among(items) -> Claims:
    """Claim, model and family by name of the test; a test that has none (a refused run, an empty family) is left out."""
    pairs = {item.nodeid: pair for item in items if (pair := pair_of(item))}
    return {name: (claim.id, model.name, claim.family) for name, (model, claim) in pairs.items()}


@pytest.fixture
def suite(request):
    """The models and claims of this run, and the way to measure one on the other."""
    return suite_of(request.config)


@pytest.fixture
def table(request, suite, caplog):
    """The table of this run: what a test has measured is given to it."""
    return Gathering(request, suite, caplog)


@dataclass(frozen=True)
class Gathering:
    """Rows of one test on their way to the table."""

    request: pytest.FixtureRequest
    suite: Suite
    caplog: pytest.LogCaptureFixture

    def add(self, outcome: PairOutcome) -> Judged:
        """Give rows to the table; the test is NOT RUN, BLOCKED or UNCHECKED where nothing can be judged."""
        from codi_bench.suite.facts import facts_of  # loaded already, as the suite is

        config, params = self.request.config, self.request.node.callspec.params
        model, claim = params["model"], params["claim"]
        word, lines = outcome.word, outcome.lines
        if given(config).update_baselines and outcome.proposal is not None:
            word, lines = "proposed", [f"{claim.id} on {model.name}: proposed, not accepted", *changes(outcome)]
        self.request.node.stash[OUTCOME] = {
            "word": word,
            "lines": lines,
            "rows": [asdict(row) for row in outcome.rows],
            "facts": {model.name: facts_of(self.suite, model.name)},
            "warnings": [record.getMessage() for record in self.caplog.records if record.name.startswith("codi_bench.")],
            "proposal": outcome.proposal.model_dump_json() if word == "proposed" and outcome.proposal is not None else None,
        }
        if word in UNJUDGED:
            text = f"{word.upper().replace('-', ' ')}: {claim.id} on {model.name}: {lines[0]}"
            # a user's own model has nothing to be checked against: that is no failure
            excusable = word == "unchecked" and not model.known
            pytest.fail(text, pytrace=False) if strict(config) and not excusable else pytest.skip(text)
        return Judged(outcome.rows, lines if word in ("red", "proposed") else [])


@dataclass(frozen=True)
class Numbers:
    """The numbers of one measured claim, as measured or as recorded: equal unless something is red."""

    judged: Judged

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and self.judged is other.judged and not self.judged.red

    __hash__ = None  # type: ignore[assignment]  # what is compared by tolerance has none

    def __repr__(self) -> str:
        return f"{len(self.judged.rows)} numbers"


@dataclass(frozen=True)
class Judged:
    """Rows of one claim on one model, and why they are red, a line each (() where nothing moved and nothing is proposed)."""

    rows: list[Row]
    red: list[str]

    @property
    def measured(self) -> Numbers:
        return Numbers(self)

    @property
    def recorded(self) -> Numbers:
        return Numbers(self)


def pytest_assertrepr_compare(op, left, right):
    """Why a claim is red, and which numbers moved: claim, model, metric, stored, measured, by which tolerance."""
    if not (op == "==" and isinstance(left, Numbers) and isinstance(right, Numbers)):
        return None
    judged = left.judged
    head, body = ["claim", "model", "metric", "stored", "measured", "tolerance"], []
    for row in judged.rows:
        stored, now = ((number or {}).get("value") for number in (row.recorded, row.measured))
        if row.regression == "DRIFTED" and stored is not None and now is not None and stored != now:  # weights are said in words
            why = row.reason.partition(f"measured {now:.6g}, ")[2].partition(";")[0].removeprefix("tolerance ")
            body.append([row.claim, row.model, record_key(row.protocol, row.metric), f"{stored:.6g}", f"{now:.6g}", why])
    numbers = tabulate(body, head, disable_numparse=True).splitlines() if body else []
    return ["the measured numbers differ from the recorded ones", *judged.red, *numbers]


def changes(found) -> list[str]:
    """Old → new of every metric of a proposal."""
    lines = []
    for row in found.rows:
        if row.measured is not None:
            old = "nothing" if row.recorded is None else f"{row.recorded['value']:.6g}"
            word = f" {row.validity}" if row.validity else ""
            lines.append(f"  {record_key(row.protocol, row.metric)}: {old} → {row.measured['value']:.6g}{word}")
    return lines


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call" and OUTCOME in item.stash:  # on the report, so that a worker's rows reach the controller
        outcome.get_result().codi_bench = json.dumps(item.stash[OUTCOME])


def pytest_report_teststatus(report, config):
    """NOT RUN, BLOCKED and UNCHECKED are counted apart from passed and from skipped."""
    if report.when == "call" and getattr(report, "codi_bench", None):
        word = json.loads(report.codi_bench)["word"]
        if report.skipped:
            return word.replace("-", " "), word[0].upper(), word.replace("-", " ").upper()
        if report.failed and word in UNJUDGED:  # --strict: not an error of the harness but a claim that could not be judged
            return "failed", "F", f"FAILED ({word.replace('-', ' ').upper()})"
    return None
