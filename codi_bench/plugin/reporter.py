"""What comes behind the tests of a run: its table, its results, and what was proposed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from codi_bench.plugin.items import Claims, claims_among
from codi_bench.plugin.options import crowded, given, suite_of
from codi_bench.store.files import write_text
from codi_bench.suite.progress import REPORT_SECONDS, LiveLine, Schedule, expected_seconds, save_timings

SHOWN_WARNINGS = 8


class Reporter:
    """Gathers the rows of a run, says how far it is, and writes table and results when it ends."""

    def __init__(self, config):
        self.config, self.outcomes, self.crashed, self.shown, self.red = config, {}, set(), "", []
        self.pairs, self.schedule, self.live = {}, Schedule([], {}), LiveLine()  # test → (claim, model)
        self.stored: set[str] = set()  # what is read from the cache, as "claim on model"
        self.start = time.monotonic()

    def pytest_collection_finish(self, session):
        self.expect(claims_among(session.items))

    def expect(self, claims: Claims, workers: int = 1) -> None:
        """Before long work: how much there is to do, and about how long it takes. Under xdist the workers alone collect."""
        self.pairs = {test: (claim, model) for test, (claim, model, _) in claims.items()}
        if not claims or self.config.option.collectonly:
            return
        option = given(self.config)
        from codi_bench.store.cache import default_folder

        cache, keys = default_folder().parent, [" on ".join(pair) for pair in self.pairs.values()]
        timings, self.stored = expected_seconds(cache, keys)
        timings = {} if option.n or option.permutations else timings
        self.schedule = Schedule(keys, timings, tail=REPORT_SECONDS)
        stored = sum(key in self.stored for key in keys)
        note = "; cold: everything is computed" if not stored else "; warm: thoughts and answers are in the cache"
        note = f"; thoughts and answers of {stored} are in the cache" if 0 < stored < len(keys) else note
        note += f"; {workers} workers share it" if workers > 1 else ""
        self._line(f"codi-bench: {self.schedule.says('to measure (one claim on one model each)')}{note}")
        if warning := crowded(option, self.config.option.markexpr, workers):
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
            for warm in (False, True):  # a run may find a part of what it needs
                taken = {key: seconds for key, seconds in self.schedule.taken.items() if (key in self.stored) is warm}
                if taken:
                    save_timings(default_folder().parent, taken, warm=warm)

    def _report(self) -> None:
        """Write results, report and proposals; where they cannot be written the table is shown all the same."""
        from codi_bench.records.results import Row, write_results
        from codi_bench.report.render import render, terminal
        from codi_bench.suite.facts import run_environment
        from codi_bench.suite.winners import winners

        suite, folder = suite_of(self.config), Path(given(self.config).report)
        last = {self.pairs[test]: outcome for test, outcome in self.outcomes.items()}  # pytest-repeat measures a pair again
        rows = [Row(**row) for outcome in last.values() for row in outcome["rows"]]
        rows = [*{row.key: row for row in rows}.values()]  # whatever a test gave, a number is there once
        comparisons = winners(rows)
        facts = {name: details for outcome in self.outcomes.values() for name, details in outcome["facts"].items()}
        for claim, model in {*self.pairs.values()} - {(row.claim, row.model) for row in rows}:
            crashed = (claim, model) in self.crashed
            reason = (
                "crashed while it was measured: see the error of its test" if crashed else "the run ended before it was measured"
            )
            rows += suite.unmeasured(claim, model, reason)
        seconds = round(time.monotonic() - self.start)
        environment = {**run_environment(suite, rows, facts), "winners": comparisons, "seconds": seconds}
        self.red = suite.stray_files()
        try:
            write_results(folder / "results.json", environment, rows)
            self._propose(folder)
            self.shown = render(rows, environment, folder)
        except OSError as error:
            self.shown = terminal(rows, environment, None)
            self.red.append(
                f"{error.filename or folder}: could not be written ({error.strerror or error}). Only the table above is of "
                f"this run; files in {folder} may be older. Make room or give --report DIR, and run again"
            )

    def pytest_terminal_summary(self, terminalreporter):
        if not self.outcomes:
            return
        terminalreporter.write_line("")
        terminalreporter.write(self.shown)
        warnings = list(dict.fromkeys(warning for outcome in self.outcomes.values() for warning in outcome["warnings"]))
        for line in warnings[:SHOWN_WARNINGS]:
            terminalreporter.write_line(f"warning: {line}", yellow=True)
        if len(warnings) > SHOWN_WARNINGS:
            terminalreporter.write_line(f"warning: and {len(warnings) - SHOWN_WARNINGS} more", yellow=True)
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
