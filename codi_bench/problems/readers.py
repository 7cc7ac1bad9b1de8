"""The public formats of problems: one reader per format turns a row of a file or of the hub into a `Problem`.

Sources: GSM8K https://github.com/openai/grade-school-math, SVAMP https://github.com/arkilpatel/SVAMP, GSM-Hard
https://huggingface.co/datasets/reasoning-machines/gsm-hard, MultiArith https://huggingface.co/datasets/ChilleD/MultiArith,
GSM8K-Aug (question, chain, answer) https://github.com/da03/Internalize_CoT_Step_by_Step, Coconut's JSON (question, steps, answer:
GSM8K-Aug, ProsQA, ProntoQA) https://github.com/facebookresearch/coconut.

A row without a group gets one: a hash of its story with the numbers masked. So problems that differ only in their numbers (225
of MultiArith's 600, 20 of them exact copies) or only in the question after the same story (SVAMP) always stay on one side of a
split.
"""

from __future__ import annotations

import ast
import hashlib
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from codi_bench.errors import ProblemError, arguments
from codi_bench.problems.answers import in_words, is_choice, plain, read_gold
from codi_bench.problems.problem import STEP, Problem

Row = dict[str, Any]
Chain = tuple[tuple[str, ...], tuple[float, ...]]  # annotated steps and their values
NOTHING: Chain = ((), ())
ANNOTATION = re.compile(r"<<(.*?)>>")
IN_QUESTION = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")
DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
OPERATORS: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}


# The forms


class RowError(ProblemError):
    """What is wrong with a row; `Form.problem` adds its place in the file."""


def read_own(row: Row) -> Problem:
    """The format that `codi-bench problems` writes, and Coconut's JSON. Only the question is required; most uses need the answer.

    Missing fields are filled from the others: operands from the question, values from the steps. The steps to an answer in words
    are sentences, as they were written, without values.
    """
    answer = _answer(row)
    chain = (_sentences(row), ()) if in_words([answer]) else _steps(row.get("steps"))
    read = _problem("gsm8k", _text(row, "question"), answer, chain, template=str(row.get("template") or ""))
    return replace(read, operands=_numbers(row, "operands", read.operands), values=_numbers(row, "values", read.values))


def read_gsm8k(row: Row) -> Problem:
    """`answer`: sentences with `<<expression=value>>` annotations, then `#### N`; 113 of the 8,792 have no annotation."""
    chain, _, answer = _text(row, "answer").rpartition("####")
    return _problem("gsm8k", _text(row, "question"), _gold({"answer": answer.strip()}, "answer"), _annotated(chain))


def read_gsm8k_aug(row: Row) -> Problem:
    """`cot`: annotated steps, separated by blanks; a chain in words (GSM8K-Aug-NL) has no steps."""
    return _problem("gsm8k", _text(row, "question"), _answer(row), _annotated(row["cot"]))


def read_svamp(row: Row) -> Problem:
    """Body and question joined by one blank, as the hub's `question_concat` is ("... into 93 groups How big is ...").

    `chal-680` is wrong in the source: its equation gives 5, its answer is 1. The answer counts.
    """
    body, ending = _text(row, "Body").strip(), _text(row, "Question").strip()
    question = _text(row, "question_concat").strip() if "question_concat" in row else f"{body} {ending}"
    kind = str(row.get("Type", "")).replace("Divison", "Division")  # spelt so in one row
    answer = _gold(row, "Answer")
    return _problem("svamp", question, answer, _solved(row.get("Equation", ""), "Equation"), story=body, template=kind)


def read_gsm_hard(row: Row) -> Problem:
    """GSM8K's test set with other numbers, in another order: the original is in the docstring of `code` (all rows but one).

    So a problem shares its group with its original (1,316 of 1,319). Steps are left empty. CODI's test.py evaluates a copy,
    juyoung-trl/gsm-hard, with the fields `instruction` and `response` and no code.
    """
    if not row.keys() >= {"input", "target"}:
        return _problem("gsm8k", _text(row, "instruction").strip(), _gold(row, "response"))
    question, code = _text(row, "input").strip(), row.get("code")
    original = DOCSTRING.search(code) if isinstance(code, str) else None
    return _problem("gsm8k", question, _gold(row, "target"), story=original.group(1) if original else question)


def read_multiarith(row: Row) -> Problem:
    """The original file has `sQuestion`, `lEquations`, `lSolutions`; the hub `question` and `final_ans`, and no equation."""
    if row.keys() >= {"question", "final_ans"}:
        return _problem("multiarith", _text(row, "question").strip(), _gold(row, "final_ans"))
    question, answer = _text(row, "sQuestion").strip(), _gold({"lSolutions": _only(row, "lSolutions")}, "lSolutions")
    return _problem("multiarith", question, answer, _solved(_only(row, "lEquations"), "lEquations"))


@dataclass(frozen=True)
class Form:
    """How rows of one format are recognised and read. name: the set that they belong to, empty if any set may use the format."""

    name: str
    fits: Callable[[Row], bool]
    read: Callable[[Row], Problem]

    def problem(self, row: Row, where: str) -> Problem:
        """The problem of a row, in the group that the row names, if any. Raises ProblemError with `where` and the field."""
        try:
            problem = self.read(row)
            group = _group(row)
        except RowError as error:
            raise ProblemError(f"{where}: {error}") from error
        return replace(problem, group=group) if group else problem


def _has_chain(row: Row) -> bool:
    return isinstance(row.get("cot"), str) and not isinstance(row.get("steps"), list)


def _is_multiarith(row: Row) -> bool:
    fields = row.keys()
    return not fields >= {"question", "answer"} and (fields >= {"question", "final_ans"} or fields >= {"sQuestion", "lSolutions"})


# The first that fits counts: a column more does not make another form of a row that has the fields of one.
OWN = Form("", lambda row: "question" in row, read_own)
FORMS = (
    Form("gsm8k", lambda row: "question" in row and "####" in str(row.get("answer")), read_gsm8k),
    Form("svamp", lambda row: {"Body", "Question"} <= row.keys() and ("Answer" in row or "answer" not in row), read_svamp),
    Form("multiarith", _is_multiarith, read_multiarith),
    Form("", lambda row: "question" in row and _has_chain(row), read_gsm8k_aug),
    replace(OWN, fits=lambda row: {"question", "answer"} <= row.keys()),
    Form("gsm-hard", lambda row: {"input", "target"} <= row.keys() or {"instruction", "response"} <= row.keys(), read_gsm_hard),
    OWN,
)
SETS = {form.name: form for form in FORMS if form.name}


# Steps


def solve(equation: str) -> Chain:
    """The annotated steps of an arithmetic expression, one per operation in the order of evaluation, and their values.

    Raises ValueError for anything but numbers, + - * / and brackets, and for a value that is not finite.
    """
    steps, values = [], []

    def walk(node: ast.expr) -> int | float:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and math.isfinite(cast("float", node.value)):
            return cast("float", node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        if not isinstance(node, ast.BinOp) or type(node.op) not in OPERATORS:
            raise ValueError("only finite numbers, + - * / and brackets are read")
        left, right = walk(node.left), walk(node.right)
        sign, operate = OPERATORS[type(node.op)]
        value = operate(left, right)
        if not math.isfinite(value):
            raise ValueError("a value is not finite")
        steps.append(f"<<{_short(left)}{sign}{_short(right)}={_short(value)}>>")
        values.append(_whole(value))
        return value

    try:
        walk(ast.parse(equation.strip(), mode="eval").body)
    except (SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(getattr(error, "msg", None) or str(error) or type(error).__name__) from error
    return tuple(steps), tuple(values)


def _whole(value: int | float) -> int | float:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short(value: int | float) -> str:
    """How a step shows a number: whole ones in full, others to ten digits."""
    value = _whole(value)
    return plain(value) if isinstance(value, int) else plain(float(f"{value:.10g}"))


def _annotated(text: str) -> Chain:
    """The `<<expression=value>>` steps of a text, blanks, $ and commas removed; values empty unless every one is a number."""
    annotations = (re.sub(r"[\s$,]", "", inner) for inner in ANNOTATION.findall(text))
    matches = [STEP.fullmatch(f"<<{inner}>>") for inner in annotations]
    steps = [step for step in matches if step]  # an annotation without a result is no step
    values = [_result(step.group(2)) for step in steps]
    return tuple(step.group() for step in steps), () if None in values else tuple(cast("list[float]", values))


def _result(text: str) -> int | float | None:
    """The number after the `=` of a step, None if there is none. One step of GSM8K gives a fraction, 3/4."""
    try:
        return _whole(float(text)) if math.isfinite(float(text)) else None
    except ValueError:
        pass
    try:
        return solve(text)[1][-1]
    except (ValueError, IndexError):
        return None


def _steps(field: Any) -> Chain:
    """The steps from a list, or from a text as CSV has it. A chain in words, or an empty one, has no steps."""
    parts = [] if field is None else [field] if isinstance(field, str) else field
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise RowError("field 'steps' must be a list of annotated steps such as \"<<7+5=12>>\"")
    text = " ".join(parts)
    chain = _annotated(text)
    if "<<" not in text and any(sign.isdigit() for sign in text) and not any(sign.isalpha() for sign in text):
        raise RowError(f"field 'steps' is {field!r}; annotate each step, such as \"<<7+5=12>>\"")
    return chain


def _sentences(row: Row) -> tuple[str, ...]:
    """The steps to an answer in words, such as ProsQA's "Tom is a terpus."; () where there are none."""
    steps = row.get("steps") or []
    sentences = [steps] if isinstance(steps, str) else steps
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) and sentence.strip() for sentence in sentences):
        raise RowError("field 'steps' must be a list of sentences such as \"Tom is a terpus.\", or be left out")
    return tuple(sentences)


def _solved(equation: Any, field: str) -> Chain:
    try:
        return solve(re.sub(r"^\s*[A-Za-z]\s*=", "", equation)) if equation else NOTHING
    except (TypeError, ValueError) as error:
        raise RowError(f"field '{field}' is {equation!r}, which cannot be computed ({error})") from error


# Fields


def _problem(
    name: str, question: str, answer: str, chain: Chain = NOTHING, *, story: str | None = None, template: str = ""
) -> Problem:
    """Make a problem. story: the text that the group is made from, by default the question."""
    masked = IN_QUESTION.sub("#", " ".join((question if story is None else story).split()).lower())
    group = f"{name}-{hashlib.sha256(masked.encode(errors='surrogatepass')).hexdigest()[:16]}"
    numbers = (float(number.replace(",", "")) for number in IN_QUESTION.findall(question))
    operands = (_whole(number) for number in numbers if math.isfinite(number))
    return Problem(question, chain[0], answer, group, template, tuple(operands), chain[1])


def _text(row: Row, field: str) -> str:
    """A text as it was written, blanks at its ends included: Coconut's training kept them. Lines end in one way alone."""
    text = row.get(field)
    if not isinstance(text, str) or not text.strip():
        raise RowError(f"field '{field}' is missing or empty")
    return arguments.text(f"field '{field}'", text, error=RowError).replace("\r\n", "\n").replace("\r", "\n")


def _only(row: Row, field: str) -> Any:
    values = row.get(field)
    if not isinstance(values, list) or len(values) != 1:
        raise RowError(f"field '{field}' must be a list with one entry, not {values!r}")
    return values[0]


def _group(row: Row) -> str:
    """The group that a row names, "" if it names none. The number 3 is the same group however a table wrote it."""
    group = row.get("group")
    if group is None:
        return ""
    if isinstance(group, bool) or not isinstance(group, str | int | float):
        raise RowError(f"field 'group' is {group!r}; give a name or a number")
    name = str(group)
    return re.sub(r"\.0+$", "", name) if re.fullmatch(r"-?[0-9]+\.0+", name) else name if name.strip() else ""


def _numbers(row: Row, field: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Finite numbers, also as floats, which all arithmetic here is done in; the default where there is no such field."""
    numbers = row.get(field)
    if numbers is None:
        return default
    try:
        if isinstance(numbers, list) and all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
            return tuple(numbers)
    except OverflowError:
        pass
    raise RowError(f"field '{field}' must be a list of finite numbers")


def _answer(row: Row) -> str:
    """The gold answer of a row: a number, words that the question offers, or "" where there is none."""
    answer = cast("object", row.get("answer"))
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        return ""
    if isinstance(answer, str) and is_choice(answer, _text(row, "question")):
        return answer.strip()
    if isinstance(answer, str) and not any(sign.isdigit() for sign in answer):
        raise RowError(
            f"field 'answer' is {answer!r}, which is not a number, nor words of the question, nor true or false, yes or no; "
            "give one of these alone"
        )
    return _gold(row, "answer")


def _gold(row: Row, field: str) -> str:
    try:
        return read_gold(row.get(field))
    except ValueError as error:
        why = f" ({error})" if str(error) != "no number" else ""
        raise RowError(f"field '{field}' is {row.get(field)!r}, which is not a number{why}; give the number alone") from error
