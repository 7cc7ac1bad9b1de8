"""`pytest -n`: claims of one family on one model share work, and go to one worker, as xdist's `loadgroup` deals out tests.

Workers collect, and the controller, which deals out, is told names only. So the names that workers send say the group.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xdist.scheduler import LoadGroupScheduling

from codi_bench.plugin.items import Claims, claims_among
from codi_bench.plugin.options import WHY_REFUSED, refuse

SIGN = "@codi-bench "  # TEST@codi-bench CLAIM@FAMILY on MODEL; the group of loadgroup is what stands behind the last @


class Collector:
    """Hook of a worker.

    `pytest.mark.xdist_group` would do, but xdist 3.8 sets `_nodeid` for it, which tests of pytest 9.2 do not have any more: it
    groups nothing then, and does not say so.
    """

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_collection_finish(self, session):
        """The names say the group only on their way to the controller: reports, junit and `--lf` have them as they are."""
        items, claims = session.items, claims_among(session.items)
        session.items = [GroupedItem(item, claims[item.nodeid]) if item.nodeid in claims else item for item in items]
        try:
            return (yield)
        finally:
            session.items = items


class GroupedItem:
    """A test whose name says which claim it is, and its group."""

    def __init__(self, item: pytest.Item, pair: tuple[str, str, str]):
        claim, model, family = pair
        self.item, self.nodeid = item, f"{item.nodeid}{SIGN}{claim}@{family} on {model}"

    def __getattr__(self, name):
        return getattr(self.item, name)


class Dealer:
    """Hooks of the controller. expect: is told of the claims, and of the number of workers, before any is measured."""

    def __init__(self, expect: Callable[[Claims, int], None]):
        self.expect, self.started = expect, False

    def pytest_xdist_node_collection_finished(self, node, ids):
        claims = dict(_claim(name) for name in ids if SIGN in name)
        if not claims or self.started:
            return
        self.started = True
        self.expect(claims, node.workerinput["workercount"])
        session = node.config.pluginmanager.getplugin("dsession")
        if node.config.option.dist == "load":  # what `-n` alone stands for; whoever asks for another --dist gets that
            nodes, session.sched = session.sched.nodes, ByFamily(node.config, session.log)
            for worker in nodes:
                session.sched.add_node(worker)

    def pytest_testnodedown(self, node):
        """End the run where a worker refuses its arguments: for xdist it crashed, and would be replaced time and again."""
        if why := getattr(node, "workeroutput", {}).get(WHY_REFUSED):
            refuse(node.config, why)

    def pytest_handlecrashitem(self, crashitem, report):
        report.nodeid = crashitem.partition(SIGN)[0]
        report.longrepr = report.longrepr.replace(crashitem, report.nodeid)


def check_names(config) -> None:
    """End the run in one line where an argument or the folder of the run is no UTF-8: xdist cannot send it to workers."""
    for name in (str(config.invocation_params.dir), *map(str, config.invocation_params.args)):
        if name != (plain := name.encode("utf-8", "replace").decode("utf-8")):
            pytest.exit(f"codi-bench: {plain}: this name is no UTF-8 and cannot be sent to workers; leave out -n or rename it", 2)


def _claim(name: str) -> tuple[str, tuple[str, str, str]]:
    """test, (claim, model, family) of a name as workers send it."""
    test, _, group = name.partition(SIGN)
    claim, _, group = group.partition("@")
    family, _, model = group.partition(" on ")
    return test, (claim, model, family)


class ByFamily(LoadGroupScheduling):
    """xdist's `loadgroup`, but what a worker died of is not run again, as under `load`."""

    def remove_node(self, node) -> str | None:
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
