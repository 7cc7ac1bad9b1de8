"""Worked solutions in prose: the equations in the text become annotated steps, each of which is evaluated exactly.

"They clean 2 floors a day because 22 / 11 = 2" has the step `<<22/11=2>>`. Units, currency signs and words around the numbers are
left out. No number is added: where the text leaves a calculation out, there is no step.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from codi_bench.errors import ProblemError
from codi_bench.problems.problem import STEP
from codi_bench.problems.readers import OPERATORS

# (what is written, what is read), in this order
SPELLINGS = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"[£€$]", ""),
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"×|(?<=[\s\d)])x(?=[\s\d(])|\btimes\b(?=\s+\d)", "*"),
        (r"÷", " / "),
        (r"\bplus\b", "+"),
        (r"\bminus\b", "-"),
        (r"\bequals\b", "="),
        (r"\bhalf\b(?=\s*\*)", "1/2"),
        (r"\+ ([A-Z]) = ([\d.]+) \+ \1\b", r"= \2;"),  # 3 + 4 + T = 7 + T
        (r"\([A-Za-z ]*\)", ""),
        (r"(?<=\d)\(", " * ("),  # 2(13+8)
        (r"(?<=[A-Za-z\d])/(?=[A-Za-z])", " "),  # $12/share
        (r"(?<=[A-Za-z])-(?=[A-Za-z])", " "),
    )
)
# A tight 3/4 is one number, and so is 20%.
TOKEN = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:/\d+(?![\d.]))?%?)|(?P<word>[A-Za-z’']+)|(?P<sign>[-+*/()])|(?P<other>[^\s])")
REPEATING = re.compile(r"\d+\.\d{12,}")
DENOMINATORS = 100


@dataclass(frozen=True)
class Worked:
    """The steps of a solution, in order, and the numbers that it states outside its equations."""

    steps: tuple[str, ...]
    stated: frozenset[Fraction]


@dataclass(frozen=True)
class Token:
    """kind: number, word, sign or other."""

    kind: str
    text: str


def read_worked(solution: str) -> Worked:
    """The equations of a solution as annotated steps.

    An equation without an operation (`T = 88`) or with an unknown (`131 + T = 219`) is no step. Where the right side is in
    percent, so is the value: `2 / 8 = 25%` is `<<2/8*100=25>>`. Raises ProblemError for a step whose sides differ.
    """
    steps: list[str] = []
    stated: set[Fraction] = set()
    for line in solution.splitlines():
        for pattern, text in SPELLINGS:
            line = pattern.sub(text, line)
        parts = [_tokens(part) for part in line.split("=")]
        for i, part in enumerate(parts):
            end = _value_end(part) if i else 0
            start = _expression_start(part) if i < len(parts) - 1 else len(part)
            stated |= {evaluate(_plain(token.text)) for token in part[end:start] if token.kind == "number"}
            expression = [token.text for token in part[start:] if token.kind != "word"]
            if expression and i < len(parts) - 1 and (value_end := _value_end(parts[i + 1])):
                step = _step(expression, "".join(token.text for token in parts[i + 1][:value_end]))
                steps += [step] * any(sign in step.partition("=")[0] for sign in "+-*/")
    for step in steps:
        step_value(step)
    return Worked(tuple(steps), frozenset(stated))


def step_value(step: str) -> Fraction:
    """The value of an annotated step, evaluated exactly. Raises ProblemError unless both sides are equal."""
    match = STEP.fullmatch(step)
    if match is None:
        raise ProblemError(f"step {step!r}: write it as <<7+5=12>>")
    left, right = map(evaluate, match.groups())
    if left != right:
        raise ProblemError(f"step {step} is wrong: the left side is {left}")
    return right


@lru_cache(maxsize=1 << 16)
def evaluate(expression: str) -> Fraction:
    """The exact value of numbers with + - * / and brackets. Raises ProblemError for anything else."""

    def walk(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return Fraction(str(node.value))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)][1](walk(node.left), walk(node.right))  # type: ignore[arg-type,return-value]
        raise ValueError("only numbers, + - * / and brackets are read")

    try:
        return walk(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError) as error:
        raise ProblemError(f"expression {expression!r}: {error}") from error


def _tokens(text: str) -> list[Token]:
    return [Token(str(match.lastgroup), _ratio(match.group())) for match in TOKEN.finditer(text)]


def _ratio(number: str) -> str:
    """Python's 0.3333333333333333 as the 1/3 that it was printed from; any other number as it is."""
    if REPEATING.fullmatch(number):
        ratio = Fraction(number).limit_denominator(DENOMINATORS)
        return f"{ratio.numerator}/{ratio.denominator}" if float(ratio) == float(number) else number
    return number


def _expression_start(part: list[Token]) -> int:
    """Where the expression begins that the part ends with, `len(part)` if there is none. Words between its tokens are units."""
    start, depth, complete = len(part), 0, False  # complete: what is right of here has its left operand
    for i in range(len(part) - 1, -1, -1):
        token = part[i]
        is_operator = token.text in ("+", "-", "*", "/")
        if token.kind == "word":
            continue
        if token.kind == "other" or complete != (is_operator or token.text == "(") or (token.text == "(" and not depth):
            break
        depth += (token.text == ")") - (token.text == "(")
        complete = not is_operator and token.text != ")"
        if complete and not depth:
            start = i
    return start


def _value_end(part: list[Token]) -> int:
    """Where the number ends that the part begins with, 0 if there is none or if it goes on as an expression."""
    end = 1 + (part[:1] == [Token("sign", "-")])
    if len(part) < end or part[end - 1].kind != "number":
        return 0
    following = next((token for token in part[end:] if token.kind != "word"), None)
    return 0 if following is not None and following.kind == "sign" else end


def _step(expression: list[str], value: str) -> str:
    """The annotated step. A percentage on the right makes both sides percentages."""
    if value.endswith("%"):
        value = value[:-1]
        if expression[-2:] == ["*", "100%"]:
            expression = [*expression[:-1], "100"]
        elif not {"*", "/"} & set(expression) and all(text.endswith("%") for text in expression if text[0].isdigit()):
            expression = [text.rstrip("%") for text in expression]
        elif {"+", "-"} & set(expression):
            expression = ["(", *expression, ")", "*", "100"]
        else:
            expression = [*expression, "*", "100"]
    texts = [_plain(text) for text in expression]
    texts = [f"({text})" if before == "/" and "/" in text[1:] else text for before, text in zip(["", *texts], texts)]
    left = re.sub(r"\((\d+(?:\.\d+)?)\)", r"\1", "".join(texts))  # brackets around one number
    return f"<<{left}={_plain(value)}>>"


def _plain(number: str) -> str:
    """20% as 20/100, and 84.0 as 84."""
    number = re.sub(r"(\d)\.0+(?!\d)", r"\1", number)
    return f"{number[:-1]}/100" if number.endswith("%") else number
