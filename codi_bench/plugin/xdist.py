"""`pytest -n`: what the plugin does in the controller of xdist. The claims of one family on one model go to one worker.

Workers collect, the controller deals out, and of a test it is told the name only. So each worker leaves the claims among its
tests in a file that the controller named to it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from uuid import uuid4

import pytest
from xdist.scheduler import LoadScheduling, LoadScopeScheduling

from codi_bench.store.files import write_text

TOLD = "codi_bench_claims"  # in the input of a worker: the file
Claims = dict[str, tuple[str, str, str]]  # test → claim, model, family


def tell(config, claims: Claims) -> None:
    """In a worker: say which of its tests are claims."""
    if claims and TOLD in config.workerinput:
        with suppress(OSError):  # then they are dealt as other tests are: the results are the same, work may be waited for
            write_text(Path(config.workerinput[TOLD]), json.dumps(claims))


class Dealer:
    """Hooks of the controller. expect: is told of the claims, and of the number of workers, before any is measured."""

    def __init__(self, expect: Callable[[Claims, int], None]):
        self.expect = expect
        self.claims: Claims = {}
        self.folder = Path(gettempdir()) / f"codi-bench-{uuid4().hex}"

    def pytest_configure_node(self, node):
        if node.gateway.spec.popen:  # a worker on another machine could not leave a file here
            node.workerinput[TOLD] = str(self.folder / f"{node.gateway.id}.json")

    def pytest_xdist_node_collection_finished(self, node, ids):
        path = Path(node.workerinput.get(TOLD, ""))
        if not self.claims and path.is_file():
            claims = json.loads(path.read_text(encoding="utf-8"))
            self.claims = {test: tuple(claims[test]) for test in ids if test in claims}  # -k and --lf came later
            self.expect(self.claims, node.workerinput["workercount"])

    @pytest.hookimpl(trylast=True)
    def pytest_xdist_make_scheduler(self, config, log):
        """For what `-n` alone stands for; whoever asks for another --dist gets that."""
        return Dealing(config, log, self) if config.option.dist == "load" else None

    def pytest_unconfigure(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Dealing:
    """xdist's own `load`, until claims turn out to be among the tests: from then on `ByFamily`."""

    def __init__(self, config, log, dealer: Dealer):
        self.config, self.log, self.dealer = config, log, dealer
        self.chosen = LoadScheduling(config, log)

    @property  # type: ignore[misc]  # of object it can be set too, here it is for reading alone
    def __class__(self):
        return type(self.chosen)  # `-v` names it, to suites without claims too

    def __getattr__(self, name):
        return getattr(self.chosen, name)

    def add_node_collection(self, node, collection):
        if self.dealer.claims and isinstance(self.chosen, LoadScheduling):
            nodes, self.chosen = self.chosen.nodes, ByFamily(self.config, self.log, self.dealer.claims)
            for worker in nodes:
                self.chosen.add_node(worker)
        self.chosen.add_node_collection(node, collection)


class ByFamily(LoadScopeScheduling):
    """Claims of one family on one model share work and are dealt together; every other test is dealt alone."""

    def __init__(self, config, log, claims: Claims):
        super().__init__(config, log)
        self.claims = claims

    def _split_scope(self, nodeid: str) -> str:
        if nodeid not in self.claims:
            return nodeid
        _, model, family = self.claims[nodeid]
        return f"{family} on {model}"

    def remove_node(self, node) -> str | None:
        """What a worker died of is not run again, as under `load`; xdist's own class would run it until no worker is left."""
        units = self.assigned_work[node]
        current = next(((unit, test) for unit in units.values() for test, done in unit.items() if not done), None)
        if current is None:
            return super().remove_node(node)
        unit, test = current
        unit[test] = True
        for scope in [scope for scope, unit in units.items() if all(unit.values())]:
            del units[scope]  # dealt again, it would be waited for
        super().remove_node(node)
        return test
