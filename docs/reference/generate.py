"""What mkdocs calls while it builds the site. The reference is written from the code here, so that it cannot go stale.

A page says where each part stands: `<!-- from the code: NAME -->`, with the name of a function of PARTS and what it is given.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator
from html import escape
from importlib import import_module
from inspect import cleandoc
from typing import Any

import typer
from mkdocs.exceptions import PluginError
from pydantic import TypeAdapter
from typer.main import get_command

from codi_bench.cli import app
from codi_bench.plugin.options import shown_options
from codi_bench.problems import Problem
from codi_bench.records.baseline import json_schema
from codi_bench.records.results import ResultsFile

MARKER = re.compile(r"<!-- from the code: (\w+) ?(.*?) -->")
CELL = re.compile(r"(?<=<td>)[^<]+(?=</td>)")
WHOLE = re.compile(r"-?[\d.]+ \[[-\d., ]+\]|[✓≈⊘…] [A-Z]+\*?|(?:gpt2|llama|coconut|sim|smollm2)-[\w.-]+")  # no line breaks in it


def on_startup(**_: Any) -> None:
    """Called once: what tqdm says about its own looks is no part of a notebook."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page: fill in what the page leaves to the code."""
    return MARKER.sub(lambda marker: PARTS[marker[1]](*marker[2].split()), markdown)


def on_page_content(html: str, *, page: Any, files: Any, **_: Any) -> str:
    """Called for every page: numbers and words in tables are not broken; in notebooks links lead to pages, and keys scroll."""
    if not page.file.src_uri.endswith(".ipynb"):
        return CELL.sub(lambda cell: WHOLE.sub(r'<span class="whole">\g<0></span>', cell[0]), html)

    def link(match: re.Match[str]) -> str:
        target = files.get_file_from_path(posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), match[1])))
        if target is None:
            raise PluginError(f"{page.file.src_uri}: links to {match[1]}, which is no page")
        return f'href="{target.url_relative_to(page.file)}{match[2]}"'

    return re.sub(r'href="([^":]+\.(?:md|ipynb))((?:#[^"]*)?)"', link, html).replace("<pre>", '<pre tabindex="0">')


def on_post_page(output: str, **_: Any) -> str:
    """Called for every page: a screen reader learns what the theme's dialog is."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


def commands() -> str:
    """Every command and subcommand with its help, usage, arguments, options and examples."""
    parts = []
    for path, command, context in walk():
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        help, epilog = (cleandoc(text or "").replace("\\[", "[") for text in (command.help, command.epilog))
        rows = [_parameter(parameter, context) for parameter in command.get_params(context)]
        examples = "\n".join(line.removeprefix("$ ") for line in epilog.splitlines() if line.startswith("$ "))
        parts += [
            f"## `{path}`",
            _paragraphs(help),
            f"```text\n{usage}\n```",
            _table(("argument or option", "what it does"), rows),
        ]
        parts += [f"```sh\n{examples}\n```"] if examples else []
    return "\n\n".join(filter(None, parts))


def walk(command: Any = None, parent: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """(words on the command line, command, its context) of every command, in the order of `--help`."""
    command = command or get_command(app)
    context = typer.Context(command, info_name=command.name if parent else "codi-bench", parent=parent)
    yield context.command_path, command, context
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from walk(command.get_command(context, name), context)


def options() -> str:
    """The options of a run, as `codi-bench run --help` lists them: a table for ours, and one for those of pytest."""
    panels: dict[str, list[tuple[str, ...]]] = {}
    for option in shown_options().values():
        name = f"{option['flag']} {option.get('metavar', '')}".strip()
        panels.setdefault(option["panel"], []).append((f"`{name}`", _text(option["help"])))
    return "\n\n".join(f"## {panel}\n\n{_table(('option', 'what it does'), rows)}" for panel, rows in panels.items())


def doors(package: str) -> str:
    """Signature and docstring of every public function and class of a package, by mkdocstrings."""
    module, parts = import_module(package), []
    for name in sorted(module.__all__, key=str.lower):
        thing = getattr(module, name)
        if callable(thing):  # a package such as codi_bench.audit has a section of its own
            heading = f"      heading: {package.replace('audits.public', 'audit')}.{name}"
            parts.append(f"::: {thing.__module__}.{thing.__qualname__}\n    options:\n{heading}")
    return "\n\n".join(parts)


def schema(name: str) -> str:
    """The fields of a file format, a table for each object in it."""
    schema = {
        "baseline": lambda: json.loads(json_schema()),
        "results": lambda: TypeAdapter(ResultsFile).json_schema(),
        "problem": lambda: TypeAdapter(Problem).json_schema(),
    }[name]()
    parts = [_fields(schema)]
    for title, definition in schema.get("$defs", {}).items():
        if "properties" in definition:
            parts += [f"### {title} {{ #{name}-{title.lower()} }}", _text(definition.get("description", "")), _fields(definition)]
    return "\n\n".join(filter(None, parts))


def _fields(definition: dict[str, Any]) -> str:
    required, properties = definition.get("required", ()), definition["properties"]
    rows = [
        (
            f"`{field}`" + ("" if field in required else " (optional)" if required else ""),
            _kind(kind),
            _text(kind.get("description", "")),
        )
        for field, kind in properties.items()
    ]
    if any(row[2] for row in rows):
        return _table(("field", "what it holds", "meaning"), rows)
    return _table(("field", "what it holds"), [row[:2] for row in rows])


def _kind(kind: dict[str, Any]) -> str:
    """A JSON Schema in words."""
    if "$ref" in kind:
        return kind["$ref"].rpartition("/")[2]
    if choices := kind.get("anyOf") or kind.get("oneOf"):
        return " or ".join(dict.fromkeys(map(_kind, choices))).replace("integer or number", "number")
    if values := kind.get("enum") or ([kind["const"]] if "const" in kind else None):
        return " or ".join(f"`{value}`" for value in values)
    if kind.get("type") == "array":
        return f"list of {_kind(kind['items'])}" if "items" in kind else "list"
    if isinstance(kind.get("additionalProperties"), dict):
        return f"object of {_kind(kind['additionalProperties'])} by name"
    return kind.get("type", "anything")


def _parameter(parameter: Any, context: Any) -> tuple[str, str]:
    names, help = parameter.get_help_record(context)
    return f"`{names}`", _text(help)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines) if rows else ""


def _paragraphs(text: str) -> str:
    return "\n\n".join(map(_text, text.split("\n\n")))


def _text(text: str) -> str:
    """Words of the code as one line of Markdown: what looks like markup is meant as it stands, but for `code`."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if i % 2 else re.sub(r"([*_\[\]])", r"\\\1", escape(part, quote=False)) for i, part in enumerate(parts))


PARTS = {part.__name__: part for part in (commands, options, doors, schema)}
