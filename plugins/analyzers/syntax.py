"""What do the functions and classes of a Python file measure? Pure: the source in, numbers out.

One walk over the statements of the syntax tree takes all measures. Expressions are not entered: nothing in them counts.

- **Complexity** is McCabe's as ruff (C901) counts it. A function has 1; one more each for `if`, `elif`, `for`, `while`,
  `except`, the `else` of a `try`, each `case` (but not a last one that fits everything, which is an `else`), and each
  function defined inside, which also adds what it has itself. Boolean operators, comprehensions, `with`, `assert`,
  conditional expressions and the `else` of an `if` or a loop do not count.
- **Arguments** are counted as ruff (PLR0913) does: all that have a name, but not `*args` and `**kwargs`, the first of a
  method (unless it is a static one), or those whose name says that they are not used, such as `_` and `_request`.
  What is marked `@override` or `@overload` has no say in it and is not measured.
- **Nesting** is how many of `if`, `for`, `while`, `with`, `try` and `match` stand one inside another; an `elif` is as
  deep as its `if`, and a function inside another begins at 0 again.
- **Returns** are the `return` statements of the function itself (ruff PLR0911).
- **Lines** are those from `def` or `class` to the last one, without blank lines, lines that hold only a comment (in a
  text of several lines too what looks like either) and, unless asked for, docstrings.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_TRIES = (ast.Try, ast.TryStar)
# Most statements are none of these, and are passed over by one look-up.
_WALKED = frozenset(
    {*_FUNCTIONS, *_LOOPS, *_TRIES, ast.ClassDef, ast.If, ast.Match, ast.Return, ast.With, ast.AsyncWith}
)
_UNUSED = re.compile(r"_|__+|_+[a-zA-Z0-9_]*[a-zA-Z0-9]+?")  # ruff's `dummy-variable-rgx`
_BEFORE_NAME = re.compile(rb"(?:async\b[\s\\]*)?(?:def|class)\b[\s\\]*")
_NAME = re.compile(rb"[^\s\\(:\[#]+")


class NotParsed(ValueError):
    """The source is no Python that this interpreter can read; the message says where and why."""


@dataclass(slots=True)
class Function:
    """A function or method with its measures; `name` says what it is in, such as `Parser.parse`."""

    name: str
    node: Any
    is_method: bool = False
    arguments: int | None = None
    """The first one of a method included. None if others decide about them."""
    complexity: int = 1
    nesting: int = 0
    returns: int = 0


@dataclass(slots=True)
class Class:
    """A class, by its full name."""

    name: str
    node: Any


@dataclass(slots=True)
class Measured:
    """The functions and classes of a file in the order of their ends, and the lines of its docstrings."""

    content: bytes
    functions: list[Function] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)
    docstrings: list[tuple[int, int]] = field(default_factory=list)
    _sums: dict[bool, list[int]] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)

    def count_lines(self, node: Any | None, *, docstrings: bool) -> int:
        """Lines of code of a function or class, or of the whole file."""
        if docstrings not in self._sums:
            self._sums[docstrings] = self._sum_lines(docstrings)
        sums = self._sums[docstrings]
        return sums[-1] if node is None else sums[node.end_lineno] - sums[node.lineno - 1]

    def locate_name(self, node: Any) -> tuple[int, int]:
        """Byte offsets of the start and the end of the name of a function or class."""
        if not self._starts:
            self._starts = [0, *(found.end() for found in re.finditer(rb"\n", self.content))]
        start = self._starts[node.lineno - 1] + node.col_offset
        before = _BEFORE_NAME.match(self.content, start)
        start = before.end() if before else start
        name = _NAME.match(self.content, start)
        return start, name.end() if name else start

    def _sum_lines(self, docstrings: bool) -> list[int]:
        counted = [bool((code := line.strip()) and code[0] != 35) for line in self.content.split(b"\n")]  # 35 is `#`
        for first, last in () if docstrings else self.docstrings:
            counted[first - 1 : last] = [False] * (last - first + 1)
        return [0, *accumulate(counted)]


def measure(content: bytes) -> Measured:
    """The measures of a source, UTF-8 with `\\n` line ends and no byte order mark. Raises `NotParsed`.

    What the source says about its encoding is passed over: the content has been decoded already.
    """
    measured = Measured(content)
    tree = _parse(content)
    _Walk(measured).enter(tree, Function("", tree), "")
    return measured


def _parse(content: bytes) -> ast.AST:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(content.decode(), "<source>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise NotParsed(f"{where}{error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise NotParsed("nested too deeply to be parsed") from error
    except ValueError as error:
        raise NotParsed(str(error)) from error


class _Walk:
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def enter(self, node: Any, scope: Function, prefix: str) -> None:
        """Take the statements of a module, class or function whose blocks count for `scope`."""
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            # A docstring on the line of its `def` does not take that line with it.
            start = first.lineno + (first.lineno == getattr(node, "lineno", 0))
            self._measured.docstrings.append((start, max(first.end_lineno or start, start - 1)))
        self._walk(node.body, scope, 0, prefix, isinstance(node, ast.ClassDef))

    def _walk(self, statements: list[Any], scope: Function, depth: int, prefix: str, in_class: bool) -> None:
        for node in statements:
            kind = type(node)
            if kind not in _WALKED:
                continue
            if kind is ast.Return:
                scope.returns += 1
            elif kind in _FUNCTIONS:
                self._take_function(node, scope, prefix, in_class)
            elif kind is ast.ClassDef:
                name = f"{prefix}{node.name}"
                self.enter(node, scope, f"{name}.")
                self._measured.classes.append(Class(name, node))
            else:
                scope.nesting = max(scope.nesting, depth + 1)
                for block in self._blocks(node, scope):
                    self._walk(block, scope, depth + 1, prefix, in_class)

    def _take_function(self, node: Any, outer: Function, prefix: str, in_class: bool) -> None:
        function = Function(f"{prefix}{node.name}", node)
        marks = {_last_name(decorator) for decorator in node.decorator_list}
        function.is_method = in_class and "staticmethod" not in marks
        if not marks & {"override", "overload"}:
            function.arguments = _count_arguments(node.args)
        self.enter(node, function, f"{function.name}.")
        outer.complexity += function.complexity
        self._measured.functions.append(function)

    def _blocks(self, node: Any, scope: Function) -> list[list[Any]]:
        """The blocks inside a compound statement; its decisions are added to the scope."""
        kind = type(node)
        if kind is ast.If:
            return _branches(node, scope)
        if kind is ast.Match:
            scope.complexity += len(node.cases) - _is_else(node.cases[-1])
            return [case.body for case in node.cases]
        if kind in _LOOPS:
            scope.complexity += 1
            return [node.body, node.orelse]
        if kind in _TRIES:
            scope.complexity += len(node.handlers) + bool(node.orelse)
            return [node.body, node.orelse, node.finalbody, *(handler.body for handler in node.handlers)]
        return [node.body]


def _branches(node: Any, scope: Function) -> list[list[Any]]:
    """The blocks of an `if` and its `elif`s. The tree nests one in the other; a loop takes a chain of any length."""
    blocks = []
    while True:
        scope.complexity += 1
        blocks.append(node.body)
        rest = node.orelse
        # An `elif` stands where its `if` does, an `if` inside `else` further in.
        if len(rest) != 1 or type(rest[0]) is not ast.If or rest[0].col_offset != node.col_offset:
            return [*blocks, rest]
        node = rest[0]


def _is_else(case: Any) -> bool:
    return case.guard is None and _fits_everything(case.pattern)


def _fits_everything(pattern: Any) -> bool:
    if isinstance(pattern, ast.MatchAs):
        return pattern.pattern is None or _fits_everything(pattern.pattern)
    return isinstance(pattern, ast.MatchOr) and any(_fits_everything(each) for each in pattern.patterns)


def _count_arguments(arguments: ast.arguments) -> int:
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return sum(_UNUSED.fullmatch(each.arg) is None for each in named)


def _last_name(decorator: ast.expr) -> str:
    """`override` of `@override`, `@typing.override` and the like."""
    return str(getattr(decorator, "attr", "") or getattr(decorator, "id", ""))
