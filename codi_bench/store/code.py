"""The hash of what some functions do. It does not depend on where they stand or what they are called.

A *unit* is a statement at the top level of a module, a class or function whole. Its edges are the names in it that its syntax
resolves to other units of the same package. A hash covers the units that can be reached from some roots. Comments, layout,
docstrings, annotations, imports, asserts and what an error says are no part of it; own names count by the order in which they
occur.

So a module that moves, a local that is renamed and a function that nobody calls change no hash; a constant that a reached
function reads changes it. What only shows while the program runs (methods, attributes of values, names in strings) is not
followed: the classes whose methods are called have to be among the roots, or be named in a unit that is reached.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

from codi_bench.store.syntax import sha256
from codi_bench.store.units import PACKAGE, Sources, Unit

READING = threading.RLock()  # sources are read as they are needed, and half of one has another hash: threads take turns
ROUNDS = 3  # how far a unit's digest looks along its edges, so that of two units of one shape the other one is other code
SHORT = 6  # hexadecimal digits that tell a module's code in a record
Root = Any  # a function, class, module, partial, or "module:name"


@dataclass(frozen=True)
class Code:
    """digest: sha256 over all reached code, in hexadecimal. modules: by name, the digest of what is reached in each."""

    digest: str
    modules: dict[str, str]

    @property
    def text(self) -> str:
        """The text in a record: the digest, then the beginnings of the modules' digests, in order and without names."""
        return " ".join([self.digest, *sorted(digest[:SHORT] for digest in self.modules.values())])

    def differs(self, text: str) -> bool:
        """Did other code make the record with that text?"""
        return text.partition(" ")[0] != self.digest

    def changed(self, text: str) -> list[str]:
        """The names of modules whose code is not in that text; [] for an older record without modules."""
        prefixes = set(text.split()[1:])
        return [name for name, digest in sorted(self.modules.items()) if prefixes and digest[:SHORT] not in prefixes]


def code_of(*roots: Root, sources: Sources | None = None) -> Code:
    """The code of functions, classes, modules, or `module:name` strings, with everything of their packages that they reach.

    Values in closures and partials count as well. sources: where to read files, by default where Python imports them.
    Raises LookupError for a root without source code.
    """
    with READING:
        return _code_of(roots, sources)


def _code_of(roots: Sequence[Root], sources: Sources | None) -> Code:
    packages = {name.partition(".")[0] for root in roots for name in _modules_of(root)}
    if sources is None:
        sources = _installed() if packages <= {PACKAGE} else Sources()
    sources.packages |= packages
    root_units: list[Unit] = []
    values: list[str] = []
    for root in roots:
        if isinstance(root, str):
            root_units += sources.named(*root.split(":"))
        else:
            for part in _parts(root):
                if isinstance(part, str):
                    values.append(part)
                else:
                    root_units += _units_of(part, sources, values)
    reached = sources.reach(root_units)
    digests = {unit: unit.digest(ROUNDS, sources) for unit in reached}
    modules: dict[str, list[str]] = {}
    for unit in reached:
        modules.setdefault(unit.module.name, []).append(unit.digest(0, sources))
    text = [*sorted(digests.values()), "roots", *(digests[unit] for unit in root_units), *values]
    return Code(sha256(text), {name: sha256(sorted(digests)) for name, digests in modules.items()})


@functools.lru_cache(maxsize=1024)
def code_hash(*roots: Root) -> str:
    """The digest of `code_of`, cached: a program's code does not change while it runs."""
    return code_of(*roots).digest


@functools.cache
def _installed() -> Sources:
    """This package's own code, which does not change while it runs."""
    return Sources()


def _modules_of(root: Root) -> Iterator[str]:
    """The module that a root stands in, where it is written in Python."""
    if isinstance(root, str):
        yield root.partition(":")[0]
    elif isinstance(root, ModuleType):
        yield root.__name__
    elif isinstance(root, functools.partial):
        yield from _modules_of(root.func)
    elif isinstance(root, type | FunctionType | MethodType):
        yield root.__module__


def _is_code(value: Root) -> bool:
    return isinstance(value, type | FunctionType | MethodType | ModuleType) or hasattr(value, "__wrapped__")


def _parts(value: Root) -> Iterator[Root]:
    """Functions, classes and modules in a root, and in words the plain values beside them."""
    if _is_code(value):
        yield value
        for cell in getattr(_plain(value), "__closure__", None) or ():
            yield from _parts(cell.cell_contents)
    elif isinstance(value, functools.partial):
        yield from _parts((value.func, value.args, value.keywords))
    elif isinstance(value, dict):
        yield from _parts([part for pair in value.items() for part in pair])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield str(len(value))
        for element in value:
            yield from _parts(element)
    elif is_dataclass(value):
        yield type(value)
        yield from _parts([getattr(value, field.name) for field in fields(value)])
    else:
        yield repr(value)


def _plain(value: Root) -> Root:
    """A function without what decorates it or binds it to an object."""
    if isinstance(value, type | ModuleType):
        return value
    return inspect.unwrap(value.__func__ if isinstance(value, MethodType) else value)


def _units_of(value: Root, sources: Sources, values: list[str]) -> list[Unit]:
    """The units of a function, class or module of ours; of another package's its name goes to the values."""
    if isinstance(value, ModuleType):
        module = sources.module(value.__name__, value) if sources.is_own(value.__name__) else None
        values += [] if module else [value.__name__]
        return module.units if module else []
    code = _plain(value)
    if not sources.is_own(code.__module__):
        values.append(f"{code.__module__}.{code.__qualname__}")
        return []
    return sources.named(code.__module__, code.__qualname__.partition(".")[0])
