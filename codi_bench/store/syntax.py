"""Questions about a syntax tree, for the hash of the code."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator

LEFT_OUT = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx", "lineno", "col_offset"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def sha256(texts: Iterable[str]) -> str:
    """Of lines of text, in hexadecimal."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def registers(decorator: ast.AST) -> bool:
    """Does a decorator only register its function, as `@claim(...)` does? Then its arguments are no part of a number."""
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "claim"


def is_docstring(statement: ast.AST) -> bool:
    """Is it a statement that is only a text?"""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def bound_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that nodes bind in their own scope, in order; imports aside."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, COMPREHENSIONS):
            yield from _walrus(node)
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest
        yield from bound_names(ast.iter_child_nodes(node))


def _walrus(node: ast.AST) -> Iterator[str]:
    """Names that a comprehension binds outside of itself."""
    for child in ast.walk(node):
        if isinstance(child, ast.NamedExpr):
            yield child.target.id
