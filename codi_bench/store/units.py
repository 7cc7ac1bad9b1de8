"""The source of a package as units (statements at the top level of its modules) and the names by which they use each other.

`code.py` beside this makes hashes of it. Only syntax is read: nothing is imported or run, and every Python from 3.11 on reads the
same.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from codi_bench.store.syntax import FUNCTIONS, LEFT_OUT, bound_names, is_docstring, registers, sha256

PACKAGE = __name__.partition(".")[0]
HASHING = __name__.rpartition(".")[0] + ".code"


class Sources:
    """The modules of some packages, read when they are first named.

    folders: where packages lie, by name, that are not read from where Python imports them.
    """

    def __init__(self, folders: Mapping[str, Path] | None = None) -> None:
        self.folders = dict(folders or {})
        self.packages: set[str] = {PACKAGE, *self.folders}
        self.read: dict[str, Module | None] = {}

    def is_own(self, module: str) -> bool:
        return module.partition(".")[0] in self.packages

    def named(self, module: str, name: str) -> list[Unit]:
        """The units that define a name in a module. Raises LookupError where there is no source that does."""
        source = self.module(module, sys.modules.get(module))
        target = source.lookup(name, self) if source else None
        if not isinstance(target, Definition):
            raise LookupError(f"{module}: no source that defines {name}")
        return list(target.units)

    def module(self, name: str, loaded: ModuleType | None = None) -> Module | None:
        """A module of one of our packages, None for any other. loaded: the module itself, where it is known."""
        if name not in self.read:
            file = self._locate(name, loaded) if self.is_own(name) else None
            package = file is not None and file.name == "__init__.py"
            self.read[name] = Module(name, file.read_text(encoding="utf-8"), package) if file else None
        return self.read[name]

    def _locate(self, name: str, loaded: ModuleType | None) -> Path | None:
        """The source file of a module, found without importing it."""
        top, *submodules = name.split(".")
        if top not in self.folders and loaded is not None and loaded.__file__:
            return Path(loaded.__file__)
        spec = None if top in self.folders else importlib.util.find_spec(top)
        origin = spec.origin if spec else None
        folder = self.folders.get(top) or (Path(origin).parent if origin else None)
        if folder is None:
            return None
        place = folder.joinpath(*submodules)
        files = [place.with_suffix(".py")] if submodules else [Path(origin)] if origin else []
        return next((file for file in (*files, place / "__init__.py") if file.is_file()), None)

    def reach(self, first: Iterable[Unit]) -> list[Unit]:
        """Everything that can be reached from some units, they included."""
        reached: dict[Unit, None] = {}
        waiting = list(first)
        while waiting:
            unit = waiting.pop()
            if unit not in reached:
                reached[unit] = None
                waiting += [neighbour for target in unit.form(self).edges for neighbour in target.units]
                waiting += unit.module.effects(unit, self)
        return list(reached)


@dataclass(frozen=True)
class Definition:
    """A name of one of our modules: the units that define it. index: which of the names that they define it is."""

    units: tuple[Unit, ...]
    index: int


@dataclass(frozen=True)
class ModulePlace:
    """A module that a name stands for."""

    name: str


class Module:
    """The units of one file, and what its names stand for."""

    def __init__(self, name: str, source: str, package: bool) -> None:
        self.name, self.package = name, package
        self.units: list[Unit] = []
        self.imports: dict[str, tuple[str, str | None]] = {}  # name → (module, name there or None for the module itself)
        self.defined: dict[str, list[Unit]] = {}
        self._effects: dict[Unit, list[Unit]] | None = None
        body = ast.parse(source).body
        for statement in body:
            for symbol, origin in imports_in(statement, self):
                self.imports[symbol] = origin
            if not isinstance(statement, ast.Import | ast.ImportFrom) and not is_docstring(statement):
                self.units.append(Unit(self, statement, tuple(dict.fromkeys(bound_names([statement])))))
        for unit in self.units:
            for symbol in unit.names:
                self.defined.setdefault(symbol, []).append(unit)

    def lookup(self, name: str, sources: Sources, seen: frozenset = frozenset()) -> Definition | ModulePlace | str | None:
        """What a name of this module stands for: a definition of ours, a module, or in words something of another package."""
        if name in self.defined:
            units = tuple(self.defined[name])
            return Definition(units, units[0].names.index(name))
        if name not in self.imports or (self.name, name) in seen:
            submodule = f"{self.name}.{name}"
            return ModulePlace(submodule) if self.package and sources.module(submodule) else None
        where, inner = self.imports[name]
        return resolve(where, inner, sources, seen | {(self.name, name)})

    def effects(self, unit: Unit, sources: Sources) -> list[Unit]:
        """Statements that define nothing, or a loop's names, and speak of what that unit defines: they may change it."""
        if self._effects is None:
            self._effects = {}
            for statement_unit in self.units:
                if not statement_unit.names or isinstance(statement_unit.statement, ast.For | ast.While | ast.With):
                    for subject in (subject for target in statement_unit.form(sources).edges for subject in target.units):
                        self._effects.setdefault(subject, []).append(statement_unit)
        return self._effects.get(unit, [])


def resolve(
    where: str, inner: str | None, sources: Sources, seen: frozenset = frozenset()
) -> Definition | ModulePlace | str | None:
    """What `from where import inner` gives, or `import where` where inner is None."""
    if where == HASHING:  # how code is hashed makes no number
        return inner
    module = sources.module(where)
    if inner is None:
        return ModulePlace(where)
    if module is None:
        return f"{where}.{inner}"
    target = module.lookup(inner, sources, seen)
    return target if target is not None or not sources.module(f"{where}.{inner}") else ModulePlace(f"{where}.{inner}")


def imports_in(node: ast.AST, module: Module) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Names that import statements bind, in a statement but not inside the functions and classes in it."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, (alias.name, None)) if alias.asname else (top, (top, None))
    elif isinstance(node, ast.ImportFrom):
        where = node.module or ""
        if node.level:
            parts = module.name.split(".")
            where = ".".join([*parts[: len(parts) - node.level + module.package], *filter(None, [node.module])])
        for alias in node.names:
            yield alias.asname or alias.name, (where, alias.name)
    elif not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        for child in ast.iter_child_nodes(node):
            yield from imports_in(child, module)


# One unit


@dataclass(frozen=True)
class UnitForm:
    """A unit with its names taken out. text: what is left; edges: what it names of ours, in the order of its first mention."""

    text: str
    edges: tuple[Definition, ...]


class Unit:
    """A statement at the top level of a module. names: what it defines."""

    def __init__(self, module: Module, statement: ast.stmt, names: tuple[str, ...]) -> None:
        self.module, self.statement, self.names = module, statement, names
        self._form: UnitForm | None = None
        self._digests: dict[int, str] = {}

    def form(self, sources: Sources) -> UnitForm:
        if self._form is None:
            writer = Writer(self, sources)
            writer.write(self.statement, None)
            self._form = UnitForm(" ".join(writer.parts), tuple(writer.edges))
        return self._form

    def digest(self, rounds: int, sources: Sources) -> str:
        """sha256 of this unit with what it leads to in so many steps."""
        if rounds not in self._digests:
            form = self.form(sources)
            if rounds == 0:
                self._digests[0] = sha256([form.text])
            else:
                targets = [f"{target.index} {unit.digest(rounds - 1, sources)}" for target in form.edges for unit in target.units]
                self._digests[rounds] = sha256([self.digest(rounds - 1, sources), *targets])
        return self._digests[rounds]


@dataclass
class Scope:
    """A function's, lambda's, comprehension's or class body's names. imported: what import statements in it bind."""

    outer: Scope | None
    names: set[str]
    imported: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    in_class: bool = False


class Writer:
    """Writes the syntax of a unit without docstrings, annotations, imports and own names."""

    def __init__(self, unit: Unit, sources: Sources) -> None:
        self.unit, self.sources = unit, sources
        self.parts: list[str] = []
        self.edges: dict[Definition, int] = {}
        self.locals: dict[tuple[int, str], int] = {}
        self.scopes: list[Scope] = []  # kept alive: their ids are names here

    def write(self, node, scope: Scope | None) -> None:
        if isinstance(node, list):
            self.parts.append("[")
            for child in node:
                self.write(child, scope)
            self.parts.append("]")
        elif not isinstance(node, ast.AST):
            self.parts.append(repr(node))
        elif isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.Assert) or is_docstring(node):
            pass
        else:
            special = getattr(self, f"_{type(node).__name__}", None)
            special(node, scope) if special else self._plain(node, scope)

    def _plain(self, node: ast.AST, scope: Scope | None, leave: str = "") -> None:
        self.parts.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            if name not in LEFT_OUT and name != leave and value is not None and value != []:
                self.parts.append(f"{name}=")
                self.write(value, scope)
        self.parts.append(")")

    def _scope(self, outer: Scope | None, names: Iterable[str], body: Iterable[ast.AST] = (), in_class: bool = False) -> Scope:
        imported = {symbol: origin for node in body for symbol, origin in imports_in(node, self.unit.module)}
        scope = Scope(outer, set(names), imported, in_class)
        self.scopes.append(scope)
        return scope

    # Names

    def _Name(self, node: ast.Name, scope: Scope | None) -> None:
        self._name(node.id, scope)

    def _name(self, name: str, scope: Scope | None) -> None:
        target = self._target(name, scope)
        self.parts.append(target if isinstance(target, str) else self._reference(target))

    def _target(self, name: str, scope: Scope | None) -> str | Definition | ModulePlace:
        """What a name stands for here; a local, a builtin and what belongs to another package in words."""
        innermost, level = scope, scope
        while level is not None:
            if level.in_class and level is not innermost:  # names of a class body are not seen from its functions
                level = level.outer
                continue
            if name in level.imported:
                origin = level.imported[name]
                return resolve(*origin, self.sources) or f"{origin[0]}.{origin[1]}"
            if name in level.names:
                if level.in_class:
                    return f"own.{name}"
                return f"n{self.locals.setdefault((id(level), name), len(self.locals))}"
            level = level.outer
        target = self.unit.module.lookup(name, self.sources)
        return target if target is not None else f"builtins.{name}" if hasattr(builtins, name) else f"?{name}"

    def _reference(self, target: Definition | ModulePlace) -> str:
        if isinstance(target, Definition):
            if self.unit in target.units:
                return f"self{target.index}"
            return f"g{self.edges.setdefault(target, len(self.edges))}"
        module = self.sources.module(target.name)
        if module is None:
            return target.name
        for unit in module.units:  # a module as a value: anything in it may be used
            self.edges.setdefault(Definition((unit,), 0), len(self.edges))
        return "module"

    def _Attribute(self, node: ast.Attribute, scope: Scope | None) -> None:
        chain, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        target = self._target(inner.id, scope) if isinstance(inner, ast.Name) else None
        if not isinstance(target, ModulePlace):
            self._plain(node, scope)
            return
        while chain and isinstance(target, ModulePlace):
            name = chain.pop()
            target = resolve(target.name, name, self.sources) or f"?{name}"  # made while the program runs
        self.parts.append(target if isinstance(target, str) else self._reference(target))
        self.parts += [f".{name}" for name in reversed(chain)]

    # Scopes

    def _function(self, node, scope: Scope | None) -> None:
        if scope is not None and hasattr(node, "name"):  # a unit's own name is no part of it; a method's is
            self._name(node.name, scope)
        arguments = node.args
        groups = {
            "posonly": arguments.posonlyargs,
            "args": arguments.args,
            "vararg": [arguments.vararg] if arguments.vararg else [],
            "kwonly": arguments.kwonlyargs,
            "kwarg": [arguments.kwarg] if arguments.kwarg else [],
        }
        body = node.body if isinstance(node.body, list) else [node.body]
        declarations = [child for part in body for child in ast.walk(part) if isinstance(child, ast.Global | ast.Nonlocal)]
        outer_names = {name for declaration in declarations for name in declaration.names}
        parameters = {parameter.arg for group in groups.values() for parameter in group}
        local_names = (parameters | set(bound_names(body))) - outer_names
        inner = self._scope(scope, local_names, body)
        self.parts.append(f"({type(node).__name__}")
        self.write([each for each in getattr(node, "decorator_list", []) if not registers(each)], scope)
        for kind, group in groups.items():
            if group:
                self.parts.append(kind)
                for parameter in group:
                    self._name(parameter.arg, inner)
        self.write(arguments.defaults, scope)
        self.parts += ["default" if default else "none" for default in arguments.kw_defaults]
        self.write([default for default in arguments.kw_defaults if default], scope)
        self.write(node.body, inner)
        self.parts.append(")")

    _FunctionDef = _AsyncFunctionDef = _Lambda = _function

    def _ClassDef(self, node: ast.ClassDef, scope: Scope | None) -> None:
        if scope is not None:
            self._name(node.name, scope)
        self.parts.append("(ClassDef")
        for part in (node.decorator_list, node.bases, node.keywords):
            self.write(part, scope)
        self.write(node.body, self._scope(scope, bound_names(node.body), node.body, in_class=True))
        self.parts.append(")")

    def _comprehension(self, node, scope: Scope | None) -> None:
        targets = {name for generator in node.generators for name in bound_names([generator.target])}
        inner = self._scope(scope, targets)
        self.parts.append(f"({type(node).__name__}")
        for i, generator in enumerate(node.generators):
            self.parts.append("async for" if generator.is_async else "for")
            self.write(generator.iter, inner if i else scope)
            self.write(generator.target, inner)
            self.write(generator.ifs, inner)
        for part in ("elt", "key", "value"):
            if hasattr(node, part):
                self.write(getattr(node, part), inner)
        self.parts.append(")")

    _ListComp = _SetComp = _DictComp = _GeneratorExp = _comprehension

    # What binds by a plain string, and what Python versions write otherwise

    def _AnnAssign(self, node: ast.AnnAssign, scope: Scope | None) -> None:
        """In a class an annotation makes a field; elsewhere it says nothing to the program."""
        if scope is not None and scope.in_class:
            self._plain(node, scope)
        elif node.value is not None:
            self._plain(ast.Assign(targets=[node.target], value=node.value), scope)

    def _Raise(self, node: ast.Raise, scope: Scope | None) -> None:
        """What an error says makes no number."""
        self.parts.append("(Raise)")

    def _Call(self, node: ast.Call, scope: Scope | None) -> None:
        function = node.func
        if isinstance(function, ast.Name) and self._target(function.id, scope) == "typing.cast" and len(node.args) == 2:
            self.write(node.args[1], scope)  # an annotation too
        else:
            self._plain(node, scope)

    def _named(self, node, scope: Scope | None) -> None:
        field_name = "rest" if isinstance(node, ast.MatchMapping) else "name"
        if name := getattr(node, field_name):
            self._name(name, scope)
        self._plain(node, scope, leave=field_name)

    _ExceptHandler = _MatchAs = _MatchStar = _MatchMapping = _named

    def _JoinedStr(self, node: ast.JoinedStr, scope: Scope | None) -> None:
        """Neighbouring texts as one and none that is empty: versions of Python cut them differently."""
        self.parts.append("(JoinedStr")
        text = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += str(part.value)
                continue
            self.parts += [repr(text)] if text else []
            text = ""
            self.write(part, scope)
        self.parts += [repr(text), ")"] if text else [")"]
