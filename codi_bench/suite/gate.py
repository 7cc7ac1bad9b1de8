"""The gate: known answers of a checkpoint are decoded again and compared before any of its numbers count.

The same weights may answer differently under other libraries, without any error: CODI-GPT-2 had 43.67 and 37.23 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from codi_bench.models.conditions import MASKED, Edited
from codi_bench.problems import Problem, parse_number, problems_hash, score
from codi_bench.records.gate import Gate, PinnedAnswer
from codi_bench.suite.bench import PUBLISHED_BATCH, ModelBench


def libraries() -> str:
    """The versions on which answers may depend, in words."""
    return ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "peft"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def circumstances(gate: Gate | None) -> str:
    """The versions of this run, and what others measured of the checkpoint under theirs."""
    others = "; ".join(map(str, gate.elsewhere)) if gate else ""
    return f"this is {libraries()}" + (f"; others measured {others}" if others else "")


def note_of(bench: ModelBench, gate: Gate | None) -> str:
    """The note on a model that passed, in words: how much was decoded again, or why nothing was."""
    why = _incomparable(bench, gate)
    if why or gate is None:
        return f"{why}: nothing was decoded again ({circumstances(gate)})"
    but = f", but for at most {gate.may_differ}," if gate.may_differ else ""
    return f"{len(gate.answers)} answers were decoded again and are{but} as recorded ({gate.source}; {circumstances(gate)})"


def answers_otherwise(bench: ModelBench, gate: Gate | None) -> str | None:
    """Why the model differs from its gate: the first problem with another answer, their number, and all versions."""
    if gate is None or _incomparable(bench, gate):
        return None
    differences = differing(gate.answers, decoded(bench, gate))
    if len(differences) <= gate.may_differ:
        return None
    i, how = differences[0]
    weights = "" if gate.weights in (None, bench.model.fingerprint) else ", the weights are others"
    return (
        f"gate: {len(differences)} of {len(gate.answers)} answers are not those of {gate.source}{weights}: the first is problem "
        f"{i + 1}, {how}; they were decoded under {gate.versions or 'unknown versions'}, {circumstances(gate)}"
    )


def pinned(bench: ModelBench, gate: Gate, n: int) -> Gate:
    """The gate with the model's present answers to its first n problems."""
    problems = problems_hash(_problems(bench, n))
    facts = {"weights": bench.model.fingerprint, "problems": problems, "dtype": bench.model.dtype, "versions": libraries()}
    return gate.model_copy(update={**facts, "answers": decoded(bench, gate, n)})


def decoded(bench: ModelBench, gate: Gate, n: int | None = None) -> tuple[PinnedAnswer, ...]:
    """The model's answers, decoded as the gate says; never from the cache."""
    problems = _problems(bench, len(gate.answers) if n is None else n)
    (answers,) = bench.model.answers(
        [problem.question for problem in problems],
        [Edited(padding=gate.padding)],
        num_latents=gate.num_latents,
        batch_size=bench.batch_size if gate.padding == MASKED else PUBLISHED_BATCH,
        max_new_tokens=bench.max_new_tokens,
    )
    return tuple(
        PinnedAnswer(right=score(text, problem.answer, gate.scoring), number=_number(text), tokens=" ".join(map(str, ids)))
        for problem, text, ids in zip(problems, answers.texts, answers.tokens, strict=True)
    )


def differing(before: Sequence[PinnedAnswer], now: Sequence[PinnedAnswer]) -> list[tuple[int, str]]:
    """The problems with another answer, and how it differs: by tokens if known, else by number, else by right and wrong."""
    differences = []
    for i, (old, new) in enumerate(zip(before, now, strict=True)):
        finest = "right" if old.tokens is old.number is None else "number" if old.tokens is None else "tokens"
        if getattr(old, finest) != getattr(new, finest):
            was, here = (each.number or f"a {'right' if each.right else 'wrong'} answer" for each in (old, new))
            differences.append((i, f"{was} then and {here} now" if was != here else f"{was} in other tokens"))
    return differences


def _incomparable(bench: ModelBench, gate: Gate | None) -> str:
    """Why answers cannot be compared, or "" if they can."""
    if gate is None or not gate.answers:
        return "nothing is recorded of what this checkpoint answers"
    if gate.dtype != bench.model.dtype:
        return f"its answers are recorded in {gate.dtype}, and this is {bench.model.dtype}"
    own = _problems(bench, len(gate.answers))
    same = bench.problems.on_gsm8k if gate.problems is None else gate.problems == problems_hash(own)
    return "" if same and len(own) == len(gate.answers) else "its answers are recorded for other problems"


def _problems(bench: ModelBench, n: int) -> list[Problem]:
    """The first n problems, regardless of how many are measured."""
    source = replace(bench.problems, n=None)
    return list(source.given[:n]) or source.first(n)


def _number(text: str) -> str:
    number = parse_number(text)
    return "" if number is None else f"{number:.12g}"
