"""How commands are shown: short type words, no technical limits, and examples that can be copied."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

PANELS = "Measure", "Audit", "Models and problems", "Records", "Housekeeping"  # of `codi-bench --help`, in this order
MEASURE, AUDIT, MATERIAL, RECORDS, HOUSEKEEPING = PANELS
PROMPT = "$ "  # before each example


class _Plain:
    """Flags and arguments show no Python type, and paragraphs of a docstring are filled to the width of the terminal."""

    def __init__(self, *arguments, help=None, **settings):
        paragraphs = [" ".join(paragraph.split()) for paragraph in cleandoc(help or "").split("\n\n")]
        super().__init__(*arguments, help=escape("\n\n".join(paragraphs)), **settings)  # type: ignore[call-arg]  # of the class beside it

    def get_params(self, ctx):
        params = super().get_params(ctx)  # type: ignore[misc]  # likewise
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
            if param.param_type_name == "argument":
                param.display_type_rich = lambda ctx: ""
        return params


class Command(_Plain, TyperCommand):
    """A command of ours."""


class Group(_Plain, TyperGroup):
    """A command with commands of its own."""

    def list_commands(self, ctx):
        panels = {name: getattr(command, "rich_help_panel", None) for name, command in self.commands.items()}
        return sorted(self.commands, key=lambda name: PANELS.index(panels[name]) if panels[name] in PANELS else len(PANELS))


def shown(*examples: str, panel: str | None = None, cls: type = Command) -> dict[str, Any]:
    """What a command is registered with: its examples, `codi-bench …  # what for`, and its panel in `codi-bench --help`."""
    epilog = "\n".join(["Examples:" if len(examples) > 1 else "Example:", *(PROMPT + example for example in examples)])
    return {"cls": cls, "epilog": escape(epilog), **({"rich_help_panel": panel} if panel else {})}


def group(help: str, *examples: str) -> typer.Typer:
    """An empty group of commands."""
    return typer.Typer(no_args_is_help=True, help=help, **shown(*examples, cls=Group))
