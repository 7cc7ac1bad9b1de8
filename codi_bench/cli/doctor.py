"""`codi-bench doctor`: what is here, what can be measured with it, and what is missing for the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from codi_bench.errors import one_line

if TYPE_CHECKING:
    from codi_bench.suite.doctor import Finding

SIGNS = {"ok": "✓", "missing": "–", "broken": "✗"}
WIDTH = 100


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON and no text.")] = False) -> None:
    """Show what is installed and at hand here, what you can measure with it, and what to run for the rest.

    It uses no network and changes nothing. Exit status: 0, or 1 if something that every run needs is broken.
    """
    try:
        from codi_bench.suite.doctor import broken, examine
    except ImportError as error:  # a library without which nothing of this package can be looked at
        fault = {"part": "versions", "name": error.name or "a library", "state": "broken"}
        fault |= {"text": f"does not load: {one_line(error)}", "mend": "pip install --force-reinstall codi-bench"}
        line = f"  {SIGNS['broken']} {fault['name']} {fault['text']} → {fault['mend']}"
        print(json.dumps({"ok": False, "findings": [fault]}, indent=1) if as_json else line)
        raise typer.Exit(1) from None
    findings = examine()
    if as_json:
        print(json.dumps({"ok": not broken(findings), "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        print("\n".join(lines(findings)))
    if broken(findings):
        raise typer.Exit(1)


def lines(findings: Sequence[Finding]) -> list[str]:
    """A line each, under the name of its part; of the versions one line for all that are there."""
    from textwrap import wrap

    versions = [finding for finding in findings if finding.part == "versions"]
    present = ", ".join(f"{finding.name} {finding.text}" for finding in versions if finding.state == "ok")
    text = wrap(present, WIDTH, break_on_hyphens=False)
    rest = [finding for finding in findings if finding not in versions or finding.state != "ok"]
    part = "versions"
    for finding in rest:
        if finding.part != part:
            text.append(f"{finding.part}:")
            part = finding.part
        mend = f" → {finding.mend}" if finding.mend else ""
        head = f"  {SIGNS[finding.state]} {finding.name:<16} "
        text += wrap(head + finding.text + mend, WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False)
    return text
