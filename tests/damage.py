"""How files get damaged: by hand, by a merge, by a bug, by a disk. What the fuzzing draws from, and how a refusal must read."""

import copy
import json
import os

from hypothesis import settings
from hypothesis import strategies as st

from codi_bench.errors import CodiBenchError

NESTED = json.loads("[" * 190 + "]" * 190)
TWICE, DEEP, DIGITS = "\0twice", "\0deep", "\0digits"  # what no Python object can hold: `text_of` writes it
WRITTEN = {json.dumps(DEEP): "[" * 5000 + "]" * 5000, json.dumps(DIGITS): "9" * 5000, json.dumps(TWICE)[1:-1]: ""}
NUMBERS = (0, -1, 1, 2, 101, 0.5, 1e-320, 1e308, -1e308, 10**18, 10**400, float("nan"), float("inf"), float("-inf"), DIGITS)
WORDS = ("ok", "SAME", "SUPPORTED", "gpt2", "sound", "value", "fraction")
TEXTS = ("", " ", "x", "0.5", "\ud800", "7\ud800", "\x00", "\x1b[31m", "a\nb", "\u2028", "[red]{{x}}$</b>&|", "é" * 300, *WORDS)
ODD = (None, True, False, [], {}, [None], [[]], [[0.5], [None]], {"value": 1}, {"value": "1"}, DEEP, NESTED, *NUMBERS, *TEXTS)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(ODD)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ALIKE = {bool: st.booleans(), int: st.integers(-3, 500), float: st.floats(-2, 2) | st.floats(), str: st.text(max_size=8)}
LAWFUL = ("alike", "alike", "alike", "nudge", "drop", "drop whole")
UNLAWFUL = (*["odd"] * 6, "alike", "alike", "replace", "nudge", "drop", "rename", "double", "swap", "wrap")


def text_of(held) -> bytes:
    """As JSON, with the things that Python could not hold."""
    text = json.dumps(held)
    for sign, written in WRITTEN.items():
        text = text.replace(sign, written)
    return text.encode()


def places(held, at=()) -> list[tuple]:
    """The path of everything in a document, the whole first."""
    inner = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
    return [at, *(place for key, each in inner for place in places(each, (*at, key)))]


def at_place(held, place: tuple):
    for key in place:
        held = held[key]
    return held


@st.composite
def changed(draw, held, kinds=UNLAWFUL):
    """A document with one thing of it gone, renamed, doubled, swapped, of another value or of another kind."""
    held = copy.deepcopy(held)
    *where, key = draw(st.sampled_from(places(held)[1:]))
    parent = at_place(held, where)
    match draw(st.sampled_from(kinds)):
        case "alike":
            kind, found = type(parent[key]), [at_place(held, place) for place in places(held)]
            others = [each for each in found if type(each) is kind and each != parent[key]]
            drawn = ([st.sampled_from(others)] if others else []) + ([ALIKE[kind]] if kind in ALIKE else [])
            parent[key] = copy.deepcopy(draw(st.one_of(drawn or [scalars])))
        case "nudge" if isinstance(parent[key], int | float) and abs(parent[key]) < 1e300:
            parent[key] += draw(st.sampled_from((1, -1, 1e-3, 1e-5)))
        case "drop":
            del parent[key]
        case "drop whole":
            parent.clear()
        case "rename" if isinstance(parent, dict):
            parent[draw(st.sampled_from(("x", "value", "schema", "\ud800", "a\nb", "")))] = parent.pop(key)
        case "double":
            again = draw(st.just(parent[key]) | scalars)
            if isinstance(parent, list):
                parent.append(copy.deepcopy(again))
            else:
                parent[key + TWICE] = copy.deepcopy(again)
        case "swap":
            parent[key] = copy.deepcopy(at_place(held, draw(st.sampled_from(places(held)))))
        case "wrap":
            parent[key] = [parent[key]]
        case "odd":
            parent[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        case _:
            parent[key] = draw(scalars)
    return held


@st.composite
def cut_or_flipped(draw, data: bytes):
    """Bytes as a disk, an editor or a broken download leaves them."""
    at = draw(st.integers(0, max(0, len(data) - 1)))
    match draw(st.sampled_from(("cut", "flip", "insert", "delete", "mark", "wide"))):
        case "cut":
            return data[:at]
        case "flip":
            return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :] if data else data
        case "insert":
            return data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at:]
        case "delete":
            return data[:at] + data[at + draw(st.integers(1, 20)) :]
        case "mark":
            return b"\xef\xbb\xbf" + data
    return data.decode(errors="replace").encode("utf-16")


@st.composite
def changed_often(draw, document, most: int = 3, kinds=UNLAWFUL):
    """A document after one to `most` changes."""
    for _ in range(draw(st.integers(1, most))):
        document = draw(changed(document, kinds)) if len(places(document)) > 1 else document
    return document


def damaged(document):
    """Text of a document after a few changes (mostly), its bytes after one, or nothing of it at all."""
    unlawful, lawful = changed_often(document).map(text_of), changed_often(document, kinds=LAWFUL).map(text_of)
    rest = cut_or_flipped(text_of(document)), st.binary(max_size=40), anything.map(text_of)
    return st.one_of(*[unlawful] * 5, *[lawful] * 2, *rest)


def cases(count):
    """The same cases in every run; CODI_BENCH_FUZZ=N draws N times as many, and others each time."""
    times = int(os.environ.get("CODI_BENCH_FUZZ", "1"))
    return settings(max_examples=count * times, derandomize=times == 1, database=None, deadline=None if times > 1 else 2000)


def read(reader, *names):
    """What a reader gives, or None where it refuses, in one line that has these names."""
    try:
        return reader()
    except CodiBenchError as error:
        said = str(error)
        assert len(said.splitlines()) == 1 and all(str(name) in said for name in names), said
        return None
