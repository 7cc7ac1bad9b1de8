"""Assessments as text for a terminal: at most 25 lines of at most 100 columns."""

from __future__ import annotations

import textwrap

from codi_bench.audits.outcome_assessment import ConditionOutcome, Critical, ModelOutcomes, OutcomeAssessment, Pair, listed
from codi_bench.audits.probe_assessment import BLOCKED, OK, InSample, ProbeAssessment
from codi_bench.rules.stats import Estimate
from codi_bench.rules.validity import Validity

LINES, WIDTH = 25, 100
NAME = 22  # letters of a condition
PAIRS = 3  # lines
HARD = "\N{NO-BREAK SPACE}"


def probe_text(assessment: ProbeAssessment) -> str:
    """The whole assessment of probes."""
    a = assessment
    groups = f" in {a.n} groups" if a.n != a.rows else ""
    cells = f"{a.cells} cell{'s' * (a.cells > 1)} of width {a.width}"
    head = f"{a.source}: {a.rows} problems{groups}, {a.ones} with the label 1; {cells}"
    head = f"{head}; {a.probe} probes, {a.permutations} permutations"
    if a.published is None or a.held_out is None:
        return _page([*wrapped(head), *wrapped(f"{BLOCKED.upper()}: {a.reason}")])
    held_out, published, surface = a.held_out, a.published, a.held_out.surface_auc
    null = a.held_out.auc_null
    lines = [
        *wrapped(head),
        _row("", "value", "95 % interval", "permuted labels", "p", "word"),
        "as published: probes fitted to all problems and scored on the same ones",
        _in_sample("mean over cells", published.mean),
        _in_sample(f"best cell ({published.cell})", published.best),
        f"held out: nested {a.folds} folds, the cell chosen inside them",
        _row("accuracy", *_estimate(held_out.accuracy, percent=True)),
        _row("AUC", *_estimate(held_out.auc), f"best {null.value:.2f} [{null.low:.2f}, {null.high:.2f}]", p_text(null.p)),
    ]
    over = "permuted labels" if surface is None else f"surface ({surface:.2f})"
    _, *stricter = held_out.p.values()
    p = p_text(stricter[0]) if stricter else ""
    lines.append(_row(f"AUC over {over}", *_estimate(held_out.added, sign="+"), "", p, str(held_out.verdict.word)))
    if a.confidence is not None:
        gain = _estimate(a.confidence.gain, sign="+")
        lines += [
            "the model’s own confidence",
            _row("AUC", *_estimate(a.confidence.auc)),
            _row("gain of the probes", *gain, "", p_text(a.confidence.p), str(a.confidence.verdict.word)),
        ]
    unit = "problems" if a.n == a.rows else "groups"
    decide = f"at least {a.decide}; here {a.n} {unit}" if a.decide else f"these {a.n} {unit} decide"
    if held_out.verdict.word is Validity.UNDERPOWERED and not a.decide:
        decide = f"unknown; here {a.n} {unit}"
    return _page([*lines, *wrapped(f"{a.word}: {a.sentence}"), f"n that decides: {decide}"])


def outcome_text(assessment: OutcomeAssessment) -> str:
    """The whole assessment of outcomes; with many conditions, only the clean one and the largest drops."""
    a = assessment
    several, grouped = len(a.models) > 1, any(model.n != model.problems for model in a.models)
    what = "problems" if not grouped else "groups of problems"
    counts = f"{a.models[0].n} {what}, " if not several else f"{len(a.models)} models, "
    first = wrapped(f"{a.source}: {counts}drops against {listed(sorted({model.conditions[0].condition for model in a.models}))}")
    tail = [line for pair in a.pairs[:PAIRS] for line in wrapped(_pair(pair), 4)]
    tail += [f"… {len(a.pairs) - PAIRS} more pairs, see --json"] * (len(a.pairs) > PAIRS)
    tail += _shortened(wrapped(a.sentence if a.status == OK else f"{BLOCKED.upper()}: {a.sentence}"), 6)
    if a.status == OK:
        decide = (
            f"at least {a.decide}, to decide every undecided result"
            if a.decide
            else f"these {a.models[0].n} {what} decide; nothing is undecided"
            if not several
            else "these decide; nothing is undecided"
        )
        tail.append(f"n that decides: {decide}")
    head = f"  {'':<{NAME}}{'right, % [95 %]':>20}{'drop, points [95 %]':>23}{'p (Holm)':>9}  word"
    room = LINES - len(first) - len(tail) - 1
    sections = [_model_lines(model, several, what, max(2, room // len(a.models))) for model in a.models]
    body = [line for section in sections for line in section]
    if len(body) > room:
        body = [*body[: room - 1], f"… {len(body) - room + 1} more lines, see --json"]
    return _page([*first, head, *body, *tail])


def _model_lines(model: ModelOutcomes, several: bool, what: str, room: int) -> list[str]:
    """Heading, conditions and critical conditions, in at most that many lines."""
    heading = [f"{model.model}, {model.n} {what}"] if several else []
    ending = [f"{BLOCKED.upper()}: see below"] if model.reason and several else []
    ending += wrapped(_critical(model.critical), 4) if model.critical else []
    left, rows = room - len(heading) - len(ending), list(model.conditions)
    if len(rows) > left:
        largest = sorted(rows[1:], key=lambda row: -row.drop.value if row.drop else 0.0)[: max(0, left - 2)]
        omitted = len(rows) - 1 - len(largest)
        lines = [_condition(row) for row in [rows[0], *(row for row in rows if row in largest)]]
        return [*heading, *lines, f"  … {omitted} more conditions with smaller drops, see --json", *ending]
    return [*heading, *map(_condition, rows), *ending]


def _condition(row: ConditionOutcome) -> str:
    name = row.condition if len(row.condition) < NAME else f"{row.condition[: NAME // 2]}…{row.condition[2 - NAME // 2 :]}"
    accuracy, drop = (row.accuracy, row.drop)
    text = f"  {name:<{NAME}}{_points(accuracy):>20}"
    if drop is None or row.p is None:
        return text
    word = "" if row.verdict is None else str(row.verdict.word)
    decide = f" n ≥ {row.verdict.decide}" if row.verdict and row.verdict.decide else ""
    return f"{text}{_points(drop, '+'):>23}{p_text(row.p):>9}  {word}{decide}"


def _critical(critical: Critical) -> str:
    low, high = (100 * end for end in (critical.contrast.low, critical.contrast.high))
    evidence = f"{critical.top} costs {100 * critical.contrast.value:+.1f} [{low:+.1f}, {high:+.1f}] points more than the others"
    q = f"Cochran’s Q p = {p_text(critical.q_p)}".replace(" ", HARD)
    if critical.conditions:
        return f"critical: {', '.join(critical.conditions)} ({evidence}; {q})"
    if critical.none:
        return f"critical: none, all below 5 points by their intervals ({evidence}; {q})"
    enough = f", n ≥ {critical.decide}" if critical.decide else ""
    return f"critical: undecided{enough} ({evidence}; {q})"


def _pair(pair: Pair) -> str:
    enough = f" (5 points: n ≥ {pair.decide})" if pair.decide else ""
    word = f"winner {pair.winner}" if pair.winner else f"no winner{enough}"
    return f"{pair.a} − {pair.b}: {_points(pair.difference, '+')} points, n = {pair.n}, p = {p_text(pair.p)}: {word}"


def _points(estimate: Estimate, sign: str = "") -> str:
    value, low, high = (100 * end for end in (estimate.value, estimate.low or 0.0, estimate.high or 0.0))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _shortened(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][: WIDTH - 2]} …"]


def wrapped(text: str, indent: int = 2) -> list[str]:
    """The lines of a paragraph; all but the first are indented."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def p_text(p: float) -> str:
    """A p value with two digits."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def _page(lines: list[str]) -> str:
    return "\n".join(line.rstrip().replace(HARD, " ") for line in lines)


def _row(name: str, value: str = "", interval: str = "", null: str = "", p: str = "", word: str = "") -> str:
    return f"  {name:<25}{value:>8}  {interval:<15} {null:<22} {p:>7}  {word}"


def _in_sample(name: str, number: InSample) -> str:
    null = number.null
    band = f"{100 * null.value:.1f} % [{100 * null.low:.1f}, {100 * null.high:.1f}]"
    return _row(name, f"{100 * number.value:.1f} %", "", band, p_text(null.p), str(number.verdict.word))


def _estimate(estimate: Estimate, *, percent: bool = False, sign: str = "") -> tuple[str, str]:
    """Value and interval."""
    form, scale = (f"{sign}.1f", 100) if percent else (f"{sign}.2f", 1)
    value = f"{scale * estimate.value:{form}}" + " %" * percent
    if estimate.low is None or estimate.high is None:
        return value, "none"
    return value, f"[{scale * estimate.low:{form}}, {scale * estimate.high:{form}}]"
