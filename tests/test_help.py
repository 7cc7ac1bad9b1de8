"""What a command says of itself: every command has an example that works, every option a text, and the shell completes names."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import codi_bench
from codi_bench.claims import CLAIMS
from codi_bench.cli import app, main
from codi_bench.cli.help import PANELS, PROMPT
from codi_bench.models.registry import REGISTRY
from codi_bench.plugin.options import MARKERS, OPTIONS, SUITES, shown_options
from codi_bench.problems.files import NAMES

ROOT = typer.main.get_command(app)


def commands(command=ROOT, path=()):
    """(words, command) of the command line itself and of everything below it."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = dict(commands())


def context(words):
    """The context of a command line, parsed and not run. Raises typer.BadParameter or its like for one that cannot be."""
    command, parent, words = ROOT, None, list(words)
    while True:
        parent = command.make_context(command.name, words, parent=parent)
        if not hasattr(command, "commands"):
            return parent
        _, command, words = command.resolve_command(parent, [*parent._protected_args, *parent.args])


def examples(command):
    lines = (command.epilog or "").replace("\\[", "[").splitlines()
    return [shlex.split(line.removeprefix(PROMPT), comments=True) for line in lines if line.startswith(PROMPT)]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_says_what_it_does_and_has_an_example_that_works(path):
    command = ALL[path]
    assert re.match(r"[A-Z].*[.:?]", command.help) and examples(command)
    assert path in [tuple(words[1 : 1 + len(path)]) for words in examples(command)] or not path
    for program, *words in examples(command):
        assert program == "codi-bench"
        if "--help" not in words:
            parsed = context(words)
            assert not [word for word in parsed.params.get("arguments") or () if word.startswith("-")]  # that `run` does not list


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_has_a_text_and_no_technical_limit(path):
    command = ALL[path]
    params = command.get_params(command.make_context("x", [], resilient_parsing=True))
    assert [param.name for param in params if not param.help] == []
    for columns in ("80", "100"):
        done = CliRunner().invoke(app, [*path, "--help"], prog_name="codi-bench", env={"COLUMNS": columns})
        assert done.exit_code == 0 and "<=x" not in done.output and "range" not in done.output
        assert max(map(len, done.output.splitlines())) <= int(columns)
        for program, *words in examples(command):  # in one line, to be copied
            assert any(" ".join([program, *words[:2]]) in line for line in done.output.splitlines())


def test_the_commands_stand_in_their_panels_in_order():
    text = CliRunner().invoke(app, ["--help"]).output
    places = [text.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places) and "─ Commands ─" not in text


def test_run_lists_the_options_of_the_plugin():
    text = " ".join(CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output.split())
    assert len(shown_options()) > len(OPTIONS)
    for option in shown_options().values():
        assert f" {option['flag']} " in text and option["help"].split(".")[0] in text


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["--claim", "size", "-k", "mini", "--model=a=b"], ["--claim", "size", "-k", "mini", "--model=a=b"]),
        (["-x", "--", "--help"], ["-x", "--help"]),
        (["-n", "2", "benchmarks/test_size.py", "--n", "5", "-q"], ["-n", "2", "benchmarks/test_size.py", "--n", "5", "-q"]),
        ([], []),
    ],
)
def test_run_hands_every_word_to_pytest(given, passed, monkeypatch):
    words = []
    monkeypatch.setattr("codi_bench.plugin.run.run", lambda arguments: words.append(list(arguments)) or 3)
    assert CliRunner().invoke(app, ["run", *given]).exit_code == 3 and words == [passed]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["problems", "generated", "--n", "0"],
            "'--n': it must be a whole number, at least 1, got 0; see `codi-bench problems --help`",
        ),
        (["sho"], "No such command 'sho'. Did you mean 'show'"),
        (["run", "--claim"], "'--claim' requires an argument"),
        (["audit"], None),
    ],
)
def test_a_wrong_command_line_ends_in_one_line_and_status_2(words, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["codi-bench", *words])
    with pytest.raises(SystemExit) as exit:
        main()
    captured = capsys.readouterr()
    assert exit.value.code == 2
    if said is None:  # a group alone shows its help
        assert "probes" in captured.out and not captured.err
    else:
        assert (
            captured.err.startswith("codi-bench: ")
            and said in captured.err
            and captured.err.count("\n") == 1
            and not captured.out
        )


def test_the_version_is_that_of_the_package():
    assert CliRunner().invoke(app, ["--version"]).output == f"codi-bench {codi_bench.__version__}\n"


# Completion


def completed(words: str) -> set[str]:
    """What bash is offered for the last word."""
    env = {"_CODI_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    return set(CliRunner().invoke(app, [], prog_name="codi-bench", env=env).output.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("codi-bench think --model ", set(REGISTRY)),
        ("codi-bench run --model llama", {name for name in REGISTRY if name.startswith("llama")}),
        ("codi-bench run -m ", set(MARKERS)),
        ("codi-bench problems gsm", {name for name in NAMES if name.startswith("gsm")}),
        ("codi-bench show probe-b", {name for name in CLAIMS if name.startswith("probe-b")}),
        ("codi-bench run --upd", {"--update-baselines"}),
        ("codi-bench bas", {"baselines"}),
    ],
)
def test_the_shell_completes(words, offered):
    assert completed(words) == offered != set()


def test_the_shell_completes_every_claim_of_which_something_is_recorded():
    offered = completed("codi-bench run --claim ")
    assert offered <= set(CLAIMS) and len(set(CLAIMS) - offered) <= 0.02 * len(CLAIMS) and set(SUITES) < set(MARKERS)


def test_help_and_completion_load_no_torch():
    code = """
import os, sys
from codi_bench.cli import app
for words in (["--help"], ["run", "--help"], ["train", "--help"]):
    app(words, standalone_mode=False)
for words in ("codi-bench run --claim ", "codi-bench show --model ", "codi-bench problems "):
    os.environ |= {"_CODI_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    try:
        app([], prog_name="codi-bench")
    except SystemExit:
        pass
assert not {"torch", "transformers", "datasets"} & sys.modules.keys(), sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "gsm8k" in done.stdout and "probe-best" in done.stdout, done.stderr
