"""Answers: read the gold answer, read the answer at the end of a model's text, and decide whether the two agree."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from numbers import Integral, Real

from codi_bench.errors import ProblemError, arguments

NUMBER = re.compile(r"-?\d+\.?\d*")
CODI_CUE, COCONUT_CUE = "The answer is:", "###"  # what stands before the answer in the training texts of each
MINUS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d", "-")
)  # hyphens, dashes, minus signs
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_AMOUNT = re.compile(rf"([+-]?)\s*\$?\s*([+-]?)((?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*%?")
_FRACTION = re.compile(rf"([+-]?)\s*({_DIGITS})\s*[/\u2044]\s*({_DIGITS})")
_CHOICES = {"true", "false", "yes", "no"}


def plain(number: int | float) -> str:
    """A number in plain decimals: no exponent, no trailing zeros; `parse_number` reads the same float back."""
    text = format(Decimal(repr(number)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def read_gold(value: object) -> str:
    """Write a gold answer in plain decimals: 51.0, "51." and "$51" all give "51", and 2.5e-3 gives "0.0025".

    value: a number, or a text that is only a number: any minus sign, `.5`, `1e6`, `1,234.50`, `$5`, `5%` (read as 5,
    as GSM8K means it), `1/2`. Raises ValueError for anything else, for infinities and NaN, and for a number that underflows to 0.
    """
    number: int | Fraction
    if isinstance(value, str):
        number = _read_text(value)
    elif isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
    elif isinstance(value, Real | Decimal) and not isinstance(value, bool) and math.isfinite(value):
        number = Fraction(str(value)) if isinstance(value, Decimal) else Fraction(repr(float(value)))
    else:
        raise ValueError("no number")
    try:
        rounded = float(number)
    except OverflowError as error:
        raise ValueError("too large") from error
    if number and not rounded:
        raise ValueError("too small")
    return plain(int(number) if number.denominator == 1 else rounded)


def _read_text(text: str) -> Fraction:
    text = text.translate(MINUS).strip()
    if match := _FRACTION.fullmatch(text):
        sign, above, below = match.group(1), *(int(match.group(i).replace(",", "")) for i in (2, 3))
        if not below:
            raise ValueError("division by zero")
        number = Fraction(above, below)
    elif (match := _AMOUNT.fullmatch(text)) and not (match.group(1) and match.group(2)):
        digits = match.group(3).replace(",", "")
        if abs(Decimal(digits).adjusted()) > 400:  # of 1e999999999 nobody wants the digits
            raise ValueError("out of range")
        sign, number = match.group(1) + match.group(2), Fraction(digits)
    else:
        raise ValueError("no number")
    return -number if sign == "-" else number


def is_choice(answer: object, question: str) -> bool:
    """Is this answer in words: true or false, yes or no, or a sentence made of words from the question?

    ProsQA asks "Is Alex a gorpus or bompus?", and the answer is "Alex is a gorpus."; ProntoQA's is True or False. A text with a
    digit in it is never an answer in words.
    """
    if not isinstance(answer, str) or any(sign.isdigit() for sign in answer):
        return False
    words = re.findall(r"\w+", answer.lower())
    return bool(words) and ((len(words) == 1 and words[0] in _CHOICES) or set(words) <= set(re.findall(r"\w+", question.lower())))


def parse_number(text: str) -> float | None:
    r"""The last number in a text, with commas between thousands removed; None if the text has no number.

    The published scoring: `float` of the last match of `-?\d+\.?\d*`. Raises ProblemError unless it gets a text.
    """
    numbers = NUMBER.findall(arguments.instance("text", text, str, what="text", error=ProblemError).replace(",", ""))
    return float(numbers[-1]) if numbers else None


def parse_words(text: str) -> str:
    """The answer in words: the text behind the last cue (`#`, or CODI's), without commas and without blanks around it.

    "" without a cue: Coconut's evaluation then compares question and answer with the gold answer, which never agree.
    Source: `run.py` of github.com/facebookresearch/coconut, which compares the text behind the last `#`, with commas removed.
    """
    behind = max((text.rfind(cue) + len(cue) for cue in (CODI_CUE, "#") if cue in text), default=len(text))
    return _bare(text[behind:])


def _bare(answer: str) -> str:
    return answer.replace(",", "").strip()


def score(prediction: str, gold: str, scoring: str = "published") -> bool:
    """Is the predicted text right? Scoring `published` compares floats, `study` compares integer parts.

    gold: a number as `read_gold` reads it is compared with the last number of the text. An answer in words must equal the words
    behind the cue, capitals, full stop and inner blanks included, under either scoring. With an empty gold, no text is right.
    Raises ProblemError for a gold with digits that is not a number, for an unknown scoring, and unless the prediction is a text.
    """
    scoring = arguments.choice("scoring", scoring, ("published", "study"), error=ProblemError)
    prediction = arguments.instance("prediction", prediction, str, what="text", error=ProblemError)
    gold = arguments.instance("gold", gold, str, what="text", error=ProblemError)
    target = gold_number(gold)
    if target is None:
        words = _bare(gold)
        return bool(words) and parse_words(prediction) == words
    value = parse_number(prediction)
    if value is None:
        return False
    return value == target or (scoring == "study" and math.isfinite(value) and int(value) == int(target))


def in_words(golds: Iterable[str]) -> bool:
    """Are some of these gold answers words? Raises what `gold_number` raises."""
    return any(gold and gold_number(gold) is None for gold in golds)


@lru_cache(maxsize=1 << 14)
def gold_number(gold: str) -> float | None:
    """A gold answer as a number; None for words. Raises ProblemError for an answer that has digits and is not a number."""
    try:
        return float(read_gold(gold))
    except ValueError as error:
        if any(sign.isdigit() for sign in gold):
            raise ProblemError(f"gold answer {gold!r} is not a number; give the number alone") from error
        return None
