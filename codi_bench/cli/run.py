"""`codi-bench run`: shows and completes the options of the plugin; every word goes to pytest as it was given."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Annotated, Any

import typer

from codi_bench.cli import complete
from codi_bench.cli.help import Command

COMPLETE = {"--model": complete.models, "--claim": complete.claims, "-m": complete.suites}
WORDS = "codi_bench.words"  # under which a context holds the words of the command line


class RunCommand(Command):
    """A command with the plugin's options: they are checked by pytest alone, which gets them with all others."""

    def get_params(self, ctx):
        return [*(param for param in _pytest_params() if param.name != "help"), *super().get_params(ctx)]

    def parse_args(self, ctx, args):
        ctx.meta[WORDS] = [*args]
        return super().parse_args(ctx, args)


def run(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PYTEST_ARGS",
            help="Anything else that pytest takes, such as `benchmarks/test_probes.py`, or `-x` to stop at the first failure. "
            "`codi-bench run -- --help` lists all of it.",
        ),
    ] = None,
) -> None:
    """Measure claims on models, compare them with what was published and recorded, and show the table.

    Without options this is the first study on the two small models that come with the package: two minutes on two cores the
    first time, half a minute after that. It needs no network and no GPU. Results and figures go to report/.

    Exit status: 0 if every number came out as recorded, 1 if one did not, 2 for wrong options or files.
    """
    from codi_bench.plugin.run import run

    words = context.meta[WORDS]
    if "--" in words:  # what stands behind it is for pytest too, even --help
        words = [word for i, word in enumerate(words) if i != words.index("--")]
    raise typer.Exit(run(words))


@cache
def _pytest_params() -> list[Any]:
    """The plugin's options, and those of pytest that are used with it, as options of a command."""
    from codi_bench.plugin.options import shown_options

    parameters = []
    for name, option in shown_options().items():
        is_flag, repeatable = "metavar" not in option, option.get("action") == "append"
        kind: Any = bool if is_flag else list[str] | None if repeatable else str | None
        extra = {"metavar": option.get("metavar", ""), "autocompletion": COMPLETE.get(option["flag"])}
        shown = typer.Option(option["flag"], help=option["help"], show_default=False, rich_help_panel=option["panel"], **extra)
        default = False if is_flag else None
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown])
        )

    def options(**values: object) -> None: ...

    options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads options off
    options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(options)
    params = typer.main.get_command(app).params
    for param in params:
        param.expose_value = False
    return params
