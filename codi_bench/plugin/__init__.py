"""The pytest plugin: options, one test a (model, claim), and the table after the run.

It is idle unless a collected test carries the marker `claims`.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codi_bench.errors import CodiBenchError
from codi_bench.records.baseline import record_key
from codi_bench.store.files import package_folder, write_text
from codi_bench.suite.progress import LiveLine, Schedule, load_timings, save_timings

if TYPE_CHECKING:
    from codi_bench.suite.suite import Suite

GATED = ("gpu", "slow", "perf", "calibration", "stress")
UNJUDGED = ("not-run", "blocked", "unchecked")
SUITE, OUTCOME = pytest.StashKey["Suite"](), pytest.StashKey[dict]()
REFUSED = pytest.StashKey[CodiBenchError]()


def pytest_addoption(parser):
    group = parser.getgroup("codi-bench", "claims about continuous-thought models")
    group.addoption(
        "--model",
        action="append",
        default=[],
        metavar="NAME[=PATH]",
        help="measure only this registered model, or add (re-point) one in a folder or on the hub",
    )
    group.addoption(
        "--base",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="the language model under a published checkpoint given with --model NAME=PATH: a folder or a hub name",
    )
    group.addoption("--num-latents", type=int, default=None, help="K of the models given with --model NAME=PATH, if not 6")
    group.addoption("--lora-alpha", type=float, default=None, help="LoRA alpha of published checkpoints given so, if not 32")
    group.addoption("--claim", action="append", default=[], metavar="ID", help="measure only this claim (repeatable)")
    group.addoption(
        "--problems",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="where a problem set lies: gsm8k=FILE, svamp=FILE, gsm-hard=FILE, multiarith=FILE or generated=FILE",
    )
    group.addoption(
        "--log",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a released log of decoded thoughts, on which is measured what it tells (codi-gpt2=FILE: of CODI's authors)",
    )
    group.addoption(
        "--n", type=int, default=None, help="use at most this many problems; nothing is compared with the records then"
    )
    group.addoption(
        "--permutations",
        type=int,
        default=None,
        help="label permutations of every null (default: 199); with others nothing is compared with the records",
    )
    group.addoption(
        "--device",
        default="auto",
        help="cpu, cuda (under -n one for each worker), cuda:N or auto (default: cpu for the embedded pair, cuda under -m gpu "
        "and if it is there)",
    )
    group.addoption("--dtype", default="auto", help="float32 (default), bfloat16 or float16")
    group.addoption("--batch-size", type=int, default=64, help="problems a batch; results do not depend on it")
    group.addoption("--report", default="report", metavar="DIR", help="where table and results.json go (default: report)")
    group.addoption("--baselines", default=None, metavar="DIR", help="baseline files (default: those of the package)")
    group.addoption("--update-baselines", action="store_true", help="propose what was measured as recorded; never passes")
    # --strict is pytest's own option; here blocked, unchecked and not-run claims fail under it too


def pytest_configure(config):
    config.addinivalue_line("markers", "claims(family): benchmarks of a claim family, one test a model and claim")
    for name in GATED:
        config.addinivalue_line("markers", f"{name}: deselected unless -m names it")
    if hasattr(config, "workerinput"):  # under xdist the controller alone writes the report
        return
    reporter = Reporter(config)
    config.pluginmanager.register(reporter, "codi-bench-reporter")
    if getattr(config.option, "dist", "no") != "no":
        from codi_bench.plugin.xdist import Dealer

        config.pluginmanager.register(Dealer(reporter.expect), "codi-bench-dealer")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """`pytest benchmarks` works from any folder: without such a folder here, the packaged one is meant."""
    if not Path("benchmarks").exists() and package_folder("benchmarks").is_dir():
        config.args[:] = [
            re.sub(r"^benchmarks(?=$|/|::)", lambda _: str(package_folder("benchmarks")), arg) for arg in config.args
        ]


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("claims")
    if marker is None:
        return
    try:
        suite = suite_of(metafunc.config)
    except CodiBenchError as error:
        metafunc.config.stash[REFUSED] = error  # said once, after the collection
        metafunc.parametrize("pair", [])
        return
    metafunc.parametrize(
        "pair",
        [
            pytest.param((model, claim), id=f"{model.name}-{claim.id}", marks=_marks(suite, model, claim))
            for model in suite.asked_models
            for claim in suite.asked_claims
            if claim.family == marker.args[0] and model.takes(claim)
        ],
    )


def _marks(suite, model, claim) -> list:
    return [pytest.mark.gpu] * (suite.gpu or model.for_gpus) + [pytest.mark.slow] * suite.is_slow(model, claim)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if REFUSED in config.stash:
        pytest.exit(f"codi-bench: {config.stash[REFUSED]}", returncode=2)
    markers = re.findall(r"\w+", config.option.markexpr or "")
    surplus = [
        item for item in items if any(item.get_closest_marker(name) and name not in markers for name in GATED) or _is_empty(item)
    ]
    if surplus:
        config.hook.pytest_deselected(items=surplus)
        items[:] = [item for item in items if item not in surplus]
    if hasattr(config, "workerinput"):
        from codi_bench.plugin.xdist import tell

        tell(config, claims_among(items))


def claims_among(items) -> dict[str, tuple[str, str, str]]:
    """Claim, model and family by name of the test; a test that has none (a refused run, an empty family) is left out."""
    tests = [item for item in items if item.get_closest_marker("claims") and not _is_empty(item)]
    pairs = {item.nodeid: item.callspec.params["pair"] for item in tests}
    return {name: (claim.id, model.name, claim.family) for name, (model, claim) in pairs.items()}


def _is_empty(item) -> bool:
    """A family without a claim of this run has an empty parameter set; it is deselected, not skipped."""
    return item.get_closest_marker("claims") is not None and not isinstance(item.callspec.params["pair"], tuple)


def suite_of(config) -> Suite:
    """The suite of this run, made once. Raises CodiBenchError for arguments or files that cannot be used."""
    if REFUSED in config.stash:
        raise config.stash[REFUSED]
    if SUITE not in config.stash:
        from codi_bench.suite.suite import Suite  # torch and transformers take seconds: only runs that measure load them

        option = config.option
        config.stash[SUITE] = Suite(
            models=option.model,
            bases=option.base,
            claims=option.claim,
            problems=option.problems,
            logs=option.log,
            num_latents=option.num_latents,
            lora_alpha=option.lora_alpha,
            gpu=_gpu_asked(option.markexpr),
            worker=_worker(config),
            n=option.n,
            permutations=option.permutations,
            device=option.device,
            dtype=option.dtype,
            batch_size=option.batch_size,
            report=Path(option.report),
            baselines=option.baselines,
        )
    return config.stash[SUITE]


def _worker(config) -> int | None:
    """The number in the name that xdist gives to a worker (gw0, gw1, …); None where there are none."""
    match = re.search(r"\d+$", getattr(config, "workerinput", {}).get("workerid", ""))
    return int(match[0]) if match else None


def crowded(option, workers: int) -> str:
    """Says it where several workers are to share a GPU, "" where none are."""
    has_own = any("=" in model for model in option.model)
    if option.device != "cuda" and not (option.device == "auto" and (has_own or _gpu_asked(option.markexpr))):
        return ""
    import torch

    count = torch.cuda.device_count()
    gpus = "1 GPU" if count == 1 else f"{count} GPUs"
    return f"{workers} workers share {gpus}; with -n {count} each has its own" if 0 < count < workers else ""


def _gpu_asked(expression: str) -> bool:
    """Does `-m` ask for the marker gpu? The models of such a run, the embedded pair too, are measured on cuda."""
    from _pytest.mark.expression import Expression  # what -m itself uses

    if not expression:
        return False
    try:
        condition = Expression.compile(expression)
    except SyntaxError:
        return False  # pytest says so itself

    def selects(names: set[str]) -> bool:
        return condition.evaluate(lambda name, /, **_: name in names)

    # alone (`gpu`, `gpu or slow`) or beside others (`gpu and slow`) it makes the difference
    other_gates = [name for name in GATED if name != "gpu"]
    subsets = [{*names} for k in range(len(other_gates) + 1) for names in combinations(other_gates, k)]
    return any(selects({"gpu", *names}) and not selects(names) for names in subsets)


@pytest.fixture
def judged(request, pair, caplog):
    """One claim measured on one model and compared; the test is NOT RUN, BLOCKED or UNCHECKED where nothing can be judged."""
    model, claim = pair
    result = suite_of(request.config).measure(model, claim)
    word, lines = result.word, result.lines
    if request.config.option.update_baselines and result.proposal is not None:
        word, lines = "proposed", [f"{claim.id} on {model.name}: proposed, not accepted", *changes(result)]
    request.node.stash[OUTCOME] = {
        "word": word,
        "lines": lines,
        "rows": [asdict(row) for row in result.rows],
        "facts": {model.name: suite_of(request.config).facts(model.name)},
        "warnings": [record.getMessage() for record in caplog.records if record.name.startswith("codi_bench.")],
        "proposal": result.proposal.model_dump_json() if word == "proposed" and result.proposal is not None else None,
    }
    if word in UNJUDGED:
        text = f"{word.upper().replace('-', ' ')}: {claim.id} on {model.name}: {lines[0]}"
        # a user's own model has nothing to be checked against: that is no failure
        excusable = word == "unchecked" and not model.known
        pytest.fail(text, pytrace=False) if strict(request.config) and not excusable else pytest.skip(text)
    return Check(word, lines)


def strict(config) -> bool:
    """pytest's own --strict: an ini value since pytest 9, an option before."""
    try:
        return bool(config.getini("strict"))
    except ValueError:
        return bool(getattr(config.option, "strict", False))


@dataclass(frozen=True)
class Check:
    """What a benchmark asserts: nothing recorded has moved, and nothing is merely proposed."""

    word: str
    lines: list[str]

    def assert_holds(self):
        """Fails with one line a number that moved: claim, model, stored, measured, tolerance."""
        if self.word in ("red", "proposed"):
            pytest.fail("\n".join(self.lines), pytrace=False)


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
    if call.when == "setup" and OUTCOME in item.stash:  # on the report, so that a worker's rows reach the controller
        outcome.get_result().codi_bench = json.dumps(item.stash[OUTCOME])


def pytest_report_teststatus(report, config):
    """NOT RUN, BLOCKED and UNCHECKED are counted apart from passed and from skipped."""
    if report.when == "setup" and getattr(report, "codi_bench", None):
        word = json.loads(report.codi_bench)["word"]
        if report.skipped:
            return word.replace("-", " "), word[0].upper(), word.replace("-", " ").upper()
        if report.failed:  # --strict: not an error of the harness but a claim that could not be judged
            return "failed", "F", f"FAILED ({word.replace('-', ' ').upper()})"
    return None


class Reporter:
    """Gathers the rows of a run, says how far it is, and writes table and results when it ends."""

    def __init__(self, config):
        self.config, self.outcomes, self.crashed, self.shown, self.red = config, {}, set(), "", []
        self.pairs, self.schedule, self.live = {}, Schedule([], {}), LiveLine()  # test → (claim, model)

    def pytest_collection_finish(self, session):
        self.expect(claims_among(session.items))

    def expect(self, claims: dict[str, tuple[str, str, str]], workers: int = 1) -> None:
        """Before long work: how much there is to do, and about how long it takes. Under xdist the workers alone collect."""
        self.pairs = {test: (claim, model) for test, (claim, model, _) in claims.items()}
        option = self.config.option
        if not claims or option.collectonly:
            return
        from codi_bench.store.cache import default_folder

        timings = {} if option.n or option.permutations else load_timings(default_folder().parent)
        self.schedule = Schedule([" on ".join(pair) for pair in self.pairs.values()], timings)
        note = f"; {workers} workers share it" if workers > 1 else ""
        self._line(f"codi-bench: {self.schedule.says('to measure, a claim on a model each')}{note}")
        if warning := crowded(option, workers):
            self._line(f"codi-bench: {warning}")

    def pytest_runtest_logstart(self, nodeid):
        if nodeid in self.pairs and not self.config.pluginmanager.hasplugin("dsession"):
            self._line("")
            self.live.show(f"{' on '.join(self.pairs[nodeid])}; {self.schedule.says()}")

    def pytest_runtest_logreport(self, report):
        self.live.hide()
        if getattr(report, "codi_bench", None):
            self.outcomes[report.nodeid] = json.loads(report.codi_bench)
            if not hasattr(report, "node"):  # a worker of xdist waits for others now and then: no time to go by
                self.schedule.taken[" on ".join(self.pairs[report.nodeid])] = report.duration
        elif report.failed and report.nodeid in self.pairs and report.nodeid not in self.outcomes:
            self.crashed.add(self.pairs[report.nodeid])  # while it was measured, or its worker died of it

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        self.live.hide()
        if self.outcomes:
            self._keep_timings()
            self._report()
            if self.red and exitstatus == 0:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _keep_timings(self) -> None:
        from codi_bench.store.cache import default_folder

        if not suite_of(self.config).changed:
            save_timings(default_folder().parent, self.schedule.taken)

    def _report(self) -> None:
        """Write results, report and proposals; where they cannot be written the table is shown all the same."""
        from codi_bench.records.results import Row, write_results
        from codi_bench.report.render import render, terminal
        from codi_bench.suite.winners import winners

        suite, folder = suite_of(self.config), Path(self.config.option.report)
        rows = [Row(**row) for outcome in self.outcomes.values() for row in outcome["rows"]]
        comparisons = winners(rows)
        facts = {name: details for outcome in self.outcomes.values() for name, details in outcome["facts"].items()}
        rows += suite.not_selected(rows, self.crashed)
        environment = {**suite.environment(rows, facts), "winners": comparisons}
        self.red = suite.stray_files()
        try:
            write_results(folder / "results.json", environment, rows)
            self._propose(folder)
            self.shown = render(rows, environment, folder)
        except OSError as error:
            self.shown = terminal(rows, environment, None)
            self.red.append(
                f"{error.filename or folder}: could not be written ({error.strerror or error}): the table above is all there is "
                f"of this run, files in {folder} may be of an earlier one; make room or give --report DIR, and run again"
            )

    def pytest_terminal_summary(self, terminalreporter):
        if not self.outcomes:
            return
        terminalreporter.write_line("")
        terminalreporter.write(self.shown)
        for line in dict.fromkeys(warning for outcome in self.outcomes.values() for warning in outcome["warnings"]):
            terminalreporter.write_line(f"warning: {line}", yellow=True)
        for line in self.red:
            terminalreporter.write_line(f"RED {line}", red=True)

    def _line(self, text: str) -> None:
        """Write a line of its own where pytest's letters go; an empty one only ends what was begun, where the live line comes."""
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None and (text or self.live.watched):
            terminal.ensure_newline()
            if text:
                terminal.write_line(text)

    def _propose(self, folder: Path) -> None:
        shutil.rmtree(folder / "proposals", ignore_errors=True)  # those of an earlier run may no longer be true
        for outcome in self.outcomes.values():
            if outcome["proposal"]:
                row = outcome["rows"][0]
                write_text(
                    folder / "proposals" / row["model"] / f"{row['claim']}.json",
                    json.dumps(json.loads(outcome["proposal"]), indent=1) + "\n",
                )
