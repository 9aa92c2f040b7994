"""Python AST, a downstream task that needs no download: statements of the standard library to their syntax trees."""

import ast
import contextlib
import gc
import hashlib
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from raysynth.downstream.files import read_bytes
from raysynth.downstream.rows import BadRow, Pair, Split, refuse
from raysynth.errors import InputError
from raysynth.fields import spec, whole


@spec
class PythonAST:
    """Statements of this machine's Python standard library, each with its syntax tree as an S-expression.

    The source of a pair is a simple statement (one without a body of its own) that stands on one line, as written; the
    target is its `s_expression`. Both are printable ASCII. Docstrings and other statements that are just a constant are
    left out, and so is every repetition of a source. The SHA-256 of a source decides the pair's position and split: a
    first hex digit of 0 means test, 1 means validation, and the other fourteen mean train. No split shares a source
    with another.

    Reads the modules and packages in `sys.stdlib_module_names`, without their tests and without `OPTIONAL`, which some
    distributions of Python leave out. Releases of Python differ slightly, 3.11.2 and 3.11.7 for example, and so do
    distributions that patch the library. `revision` tells them apart. Files are parsed but never imported.
    """

    max_source_chars: int = 60
    max_target_chars: int | None = None
    """Statements with a longer S-expression are left out; None keeps all."""

    @cached_property
    def revision(self) -> str:
        """The digest of the standard library, a part of the description: another library is another data set.

        A copy of this value on another machine keeps the digest of the first.
        """
        return library_digest()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "revision": self.revision}

    def __post_init__(self) -> None:
        whole(self, "max_source_chars")
        if self.max_target_chars is not None:
            whole(self, "max_target_chars")

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split from the standard library, or from the Python files under `location`.

        Files that Python cannot parse are skipped, so `bad_row` is never called. Raises `InputError` if there is no
        statement.
        """
        root = _library_root() if location is None else Path(location)
        if not root.is_dir():
            raise InputError(f"python_ast reads Python files: {root} is not a directory")
        if self.revision != library_digest():
            raise InputError(f"python_ast was described with another standard library than that of {sys.executable}")
        statements: dict[str, ast.stmt] = {}
        with _no_collection():
            for file in standard_library(root) if location is None else _python_files(root):
                for source, statement in _statements(file):
                    if len(source) <= self.max_source_chars:
                        statements.setdefault(source, statement)
        splits: dict[str, list[Pair]] = {split: [] for split in Split}
        hashes = {hashlib.sha256(source.encode()).hexdigest(): source for source in statements}
        for digest in sorted(hashes):
            target = s_expression(statements[hashes[digest]])
            if self.max_target_chars is None or len(target) <= self.max_target_chars:
                splits[_SPLIT_OF.get(digest[0], Split.TRAIN)].append(Pair(hashes[digest], target))
        if not any(splits.values()):
            raise InputError(f"python_ast: no Python statement under {root}")
        return splits


_SPLIT_OF = {"0": Split.TEST, "1": Split.VALIDATION}

OPTIONAL = frozenset({"distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo", "venv"})
"""Parts of the standard library that some Linux distributions package separately or omit."""

_TESTS = frozenset({"test", "tests", "site-packages", "dist-packages", "__pycache__"})


def standard_library(root: Path) -> Iterator[Path]:
    """The files of the standard library at `root` that `PythonAST` reads."""
    for name in sorted(sys.stdlib_module_names - OPTIONAL):
        if (root / f"{name}.py").is_file():
            yield root / f"{name}.py"
        if (root / name / "__init__.py").is_file():
            yield from _python_files(root / name)


@cache
def library_digest() -> str:
    """The first 16 hex digits of a SHA-256 over all that decides what `PythonAST` reads on this machine.

    That is the kind of Python, the version of its grammar, and the files of its standard library. Takes 30 ms.
    """
    root = _library_root()
    digest = hashlib.sha256(f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}".encode())
    for file in standard_library(root):
        content = read_bytes(file)
        digest.update(f"\n{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _library_root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _python_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _TESTS)
        yield from (
            Path(folder, file) for file in sorted(files) if file.endswith(".py") and not file.startswith("test_")
        )


_SIMPLE = (
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Expr,
    ast.Return,
    ast.Raise,
    ast.Assert,
    ast.Delete,
    ast.Import,
    ast.ImportFrom,
    ast.Global,
    ast.Nonlocal,
    ast.Pass,
    ast.Break,
    ast.Continue,
)


def _statements(file: Path) -> Iterator[tuple[str, ast.stmt]]:
    """The one-line simple statements of a file, each with its text, in the order of the file."""
    code = read_bytes(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about invalid escapes in the files
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError):
            return
    lines = code.splitlines()  # bytes split at the same line ends as Python's parser; str would split at more
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, _SIMPLE):
            line = lines[node.lineno - 1]
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            # The parser counts columns in UTF-8 bytes; only in ASCII lines are they positions in the file's bytes.
            if node.lineno == node.end_lineno and not docstring and line.isascii():
                source = line[node.col_offset : node.end_col_offset].decode()
                if source.isprintable():
                    yield source, node
            continue
        children: list[ast.AST] = []
        for name in ("body", "handlers", "cases", "orelse", "finalbody"):
            children += getattr(node, name, ())
        stack += reversed(children)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage in syntax trees: they have no cycles, and it takes as long as the parser."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def s_expression(node: ast.AST) -> str:
    """The tree as an S-expression such as `(Return (Name x))`, from which the tree can be rebuilt.

    A node is `(Class field ...)` with the fields in the order of the `ast` module, without `ctx`, `kind` and
    `type_comment`. Fields are written as follows:

    - an identifier or a number as it is, an operator as its class name, a node in parentheses;
    - a list as its items, without brackets;
    - a missing field as `-`; missing and zero fields at the end of a node are left out;
    - `Compare` alternates operators and right sides, `Dict` alternates keys (`-` before an unpacked mapping) and
      values;
    - `Lambda` has its parameters as written, before its body: `x`, `(default x value)`, `/`, `*`, `*x`, `**x`;
    - `Constant` has the `ascii` of its value, the only field that may contain quotation marks and, between them, spaces
      and parentheses.
    """
    return f"({' '.join([type(node).__name__, *_fields(node)])})"


def _fields(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant():
            return [ascii(node.value)]
        case ast.Compare():
            pairs = zip(node.ops, node.comparators, strict=True)
            return [_item(node.left), *(_item(item) for pair in pairs for item in pair)]
        case ast.Dict():
            return [_item(item) for pair in zip(node.keys, node.values, strict=True) for item in pair]
        case ast.Lambda():
            return [*_parameters(node.args), _item(node.body)]
    values = [getattr(node, name, None) for name in node._fields if name not in ("ctx", "kind", "type_comment")]
    while values and (values[-1] is None or values[-1] == 0):
        values.pop()
    items: list[str] = []
    for value in values:
        items += map(_item, value) if isinstance(value, list) else [_item(value)]
    return items


def _item(value: object) -> str:
    if isinstance(value, ast.operator | ast.unaryop | ast.boolop | ast.cmpop):
        return type(value).__name__
    if isinstance(value, ast.AST):
        return s_expression(value)
    return "-" if value is None else str(value)


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    positional = arguments.posonlyargs + arguments.args
    num_required = len(positional) - len(arguments.defaults)
    for index, argument in enumerate(positional):
        yield _parameter(argument, arguments.defaults[index - num_required] if index >= num_required else None)
        if index + 1 == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield f"*{arguments.vararg.arg}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default)
    if arguments.kwarg:
        yield f"**{arguments.kwarg.arg}"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    return argument.arg if default is None else f"(default {argument.arg} {s_expression(default)})"
