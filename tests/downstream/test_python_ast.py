"""Python AST on this machine's standard library and on small files."""

import ast
import dataclasses
import pickle
import re
import sysconfig
from itertools import chain
from pathlib import Path

import pytest

from raysynth import downstream_tasks
from raysynth.downstream.python_ast import OPTIONAL, PythonAST, library_digest, s_expression, standard_library
from raysynth.downstream.rows import Split
from raysynth.errors import InputError
from raysynth.specs.identity import name

# ---------------------------------------------------------------------------------------------- a reader of the targets

TOKEN = re.compile(r"""\s*([()]|b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"|[^\s()'"]+)""")


def nested(text):
    """The S-expression as nested lists of words, or an AssertionError."""
    stack, position = [[]], 0
    while position < len(text):
        match = TOKEN.match(text, position)
        assert match, f"no token at {position} of {text}"
        position = match.end()
        if match[1] == "(":
            stack.append([])
        elif match[1] == ")":
            stack[-2].append(stack.pop())
        else:
            stack[-1].append(match[1])
    assert len(stack) == 1, f"unbalanced: {text}"
    (tree,) = stack[0]
    return tree


OPERATOR_POSITIONS = {"AugAssign": [1], "BinOp": [1], "BoolOp": [0], "UnaryOp": [0]}
LISTS = {
    "Assign": "targets",
    "BoolOp": "values",
    "Delete": "targets",
    "DictComp": "generators",
    "GeneratorExp": "generators",
    "Global": "names",
    "Import": "names",
    "ImportFrom": "names",
    "JoinedStr": "values",
    "List": "elts",
    "ListComp": "generators",
    "Nonlocal": "names",
    "Set": "elts",
    "SetComp": "generators",
    "Tuple": "elts",
    "comprehension": "ifs",
}
SPECIAL = {"Ellipsis": ..., "inf": float("inf"), "infj": complex("infj")}
ZERO = {"level": 0, "simple": 0, "is_async": 0}


def rebuilt(tree):
    """The syntax tree that a nested list stands for, written from the grammar in `s_expression`'s docstring."""
    if isinstance(tree, str):
        return None if tree == "-" else int(tree) if re.fullmatch(r"-?\d+", tree) else tree
    name, *items = tree
    if name == "Constant":
        (word,) = items
        return ast.Constant(SPECIAL[word] if word in SPECIAL else ast.literal_eval(word))
    if name == "Lambda":
        return ast.Lambda(parameters(items[:-1]), rebuilt(items[-1]))
    places = range(1, len(items), 2) if name == "Compare" else OPERATOR_POSITIONS.get(name, ())
    items = [getattr(ast, item)() if place in places else rebuilt(item) for place, item in enumerate(items)]
    if name == "Compare":
        return ast.Compare(items[0], items[1::2], items[2::2])
    if name == "Dict":
        return ast.Dict(items[0::2], items[1::2])
    if name == "Call":
        keywords = [item for item in items if isinstance(item, ast.keyword)]
        return ast.Call(items[0], [item for item in items[1:] if item not in keywords], keywords)
    kind = getattr(ast, name)
    fields = [field for field in kind._fields if field not in ("ctx", "kind", "type_comment")]
    if name in LISTS:
        before = fields.index(LISTS[name])
        after = len(fields) - before - 1
        if name in ("ImportFrom", "comprehension"):  # a number at the end is left out where it is zero
            after = int(isinstance(items[-1], int))
        end = len(items) - after
        items = [*items[:before], items[before:end], *items[end:]]
    values = dict.fromkeys(fields) | {field: ZERO[field] for field in fields if field in ZERO}
    return kind(**values | dict(zip(fields, items, strict=False)))


def parameters(items):
    arguments = ast.arguments(
        posonlyargs=[], args=[], vararg=None, kwonlyargs=[], kw_defaults=[], kwarg=None, defaults=[]
    )
    keyword_only = False
    for item in items:
        name, default = (item, None) if isinstance(item, str) else (item[1], rebuilt(item[2]))
        if name == "/":
            arguments.posonlyargs, arguments.args = arguments.args, []
        elif name.startswith("**"):
            arguments.kwarg = ast.arg(name[2:])
        elif name.startswith("*"):
            keyword_only = True
            arguments.vararg = ast.arg(name[1:]) if name != "*" else None
        elif keyword_only:
            arguments.kwonlyargs.append(ast.arg(name))
            arguments.kw_defaults.append(default)
        else:
            arguments.args.append(ast.arg(name))
            arguments.defaults += [default] if default else []
    return arguments


def plain(node):
    """A tree as nested tuples of the fields that the targets describe."""
    if isinstance(node, ast.AST):
        fields = [field for field in node._fields if field not in ("ctx", "kind", "type_comment")]
        return (type(node).__name__, *(plain(getattr(node, field, None)) for field in fields))
    if isinstance(node, list):
        return [plain(item) for item in node]
    return repr(node)


# ----------------------------------------------------------------------------------------------------------- python_ast


@pytest.fixture(scope="module")
def library():
    return PythonAST(max_source_chars=60).read(None)


def pairs(splits):
    return [(pair.source, pair.target) for pair in chain.from_iterable(splits.values())]


def test_the_library_gives_tens_of_thousands_of_short_ascii_pairs(library):
    assert tuple(library) == tuple(Split)
    everything = pairs(library)
    assert len(everything) > 30_000
    for source, target in everything:
        assert 0 < len(source) <= 60
        assert source.isascii()
        assert target.isascii()
        assert (source + target).isprintable()
        assert source == source.strip()


def test_sources_are_distinct_and_the_splits_have_their_sizes(library):
    everything = pairs(library)
    assert len({source for source, _ in everything}) == len(everything)
    for split in ("validation", "test"):
        assert 0.05 < len(library[split]) / len(everything) < 0.075


def test_the_tree_of_a_source_can_be_rebuilt_from_its_target(library):
    everything = pairs(library)
    kinds = set()
    for source, target in everything:
        tree = ast.parse(source).body[0]
        kinds.update(type(node) for node in ast.walk(tree))
        assert plain(rebuilt(nested(target))) == plain(tree), source
    assert kinds >= {ast.Lambda, ast.Slice, ast.Dict, ast.JoinedStr, ast.comprehension, ast.AnnAssign, ast.Starred}


def test_shorter_limits_drop_the_longer_pairs_and_keep_the_order(library):
    fewer = PythonAST(max_source_chars=30, max_target_chars=50).read(None)
    for split in Split:
        short = [pair for pair in library[split] if len(pair[0]) <= 30 and len(pair[1]) <= 50]
        assert fewer[split] == short


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (
            "name = self._convert(name, 3)",
            "(Assign (Name name) (Call (Attribute (Name self) _convert) (Name name) (Constant 3)))",
        ),
        ("a = b = c", "(Assign (Name a) (Name b) (Name c))"),
        ("x[:1]", "(Expr (Subscript (Name x) (Slice - (Constant 1))))"),
        ("x[1:]", "(Expr (Subscript (Name x) (Slice (Constant 1))))"),
        ("a < b <= c", "(Expr (Compare (Name a) Lt (Name b) LtE (Name c)))"),
        ("{a: b, **c}", "(Expr (Dict (Name a) (Name b) - (Name c)))"),
        ("f(*a, k=1, **d)", "(Expr (Call (Name f) (Starred (Name a)) (keyword k (Constant 1)) (keyword - (Name d))))"),
        ("lambda x, /, y=1, *a, k, **d: x", "(Expr (Lambda x / (default y (Constant 1)) *a k **d (Name x)))"),
        ("lambda *, k=1: k", "(Expr (Lambda * (default k (Constant 1)) (Name k)))"),
        ("lambda: 0", "(Expr (Lambda (Constant 0)))"),
        ("from .. import x as y", "(ImportFrom - (alias x y) 2)"),
        ("import os.path", "(Import (alias os.path))"),
        ("x: int", "(AnnAssign (Name x) (Name int) - 1)"),
        ("x.y: int = 1", "(AnnAssign (Attribute (Name x) y) (Name int) (Constant 1))"),
        ("x = 'é('", "(Assign (Name x) (Constant '\\xe9('))"),
        ("return", "(Return)"),
        ("x = not -y", "(Assign (Name x) (UnaryOp Not (UnaryOp USub (Name y))))"),
        ("Add = Name.Is", "(Assign (Name Add) (Attribute (Name Name) Is))"),
        ("pass", "(Pass)"),
    ],
)
def test_the_grammar(source, target):
    tree = ast.parse(source).body[0]
    assert s_expression(tree) == target
    assert plain(rebuilt(nested(target))) == plain(tree)


def test_which_statements_of_a_file_are_taken(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "one.py").write_bytes(
        b'"""A docstring."""\r\n'
        b"if a: b = 1; c = 2  # trailing\r\n"
        b"try:\r\n    d = (1,\r\n         2)\r\nexcept E:\r\n    e = 3\r\n"
        b"else:\r\n    f = 4\r\nfinally:\r\n    g = 5\r\n"
        b"match m:\r\n    case 1:\r\n        h = 6\r\n"
        b"def fun():\r\n    'inner'\r\n    return i\r\n"
        b"x =\t1\r\n"
        b"b = 1\r\n"
        b"j = '\\d'\r\n" + "k = 'é'; l = 8\r\n".encode()
    )
    (tmp_path / "sub" / "latin.py").write_bytes(b"# coding: latin-1\nn = '\xe9'; o = 1\np = 2\n")
    (tmp_path / "sub" / "python2.py").write_text("print 'no'\n")
    (tmp_path / "tests" / "here.py").write_text("q = 1\n")
    (tmp_path / "test_it.py").write_text("r = 1\n")
    (tmp_path / "note.txt").write_text("s = 1\n")
    sources = {source for source, _ in pairs(PythonAST().read(str(tmp_path)))}
    assert sources == {"b = 1", "c = 2", "e = 3", "f = 4", "g = 5", "h = 6", "return i", "j = '\\d'", "p = 2"}


def test_tests_and_optional_parts_of_the_library_are_left_out():
    root = Path(sysconfig.get_path("stdlib"))
    files = [file.relative_to(root).parts for file in standard_library(root)]
    assert ("ast.py",) in files
    assert ("json", "decoder.py") in files
    assert not {parts[0].removesuffix(".py") for parts in files} & {*OPTIONAL, "test", "site-packages"}
    assert not [parts for parts in files if "tests" in parts]


def test_the_library_is_parsed_without_warnings(tmp_path, recwarn):
    (tmp_path / "one.py").write_text("x = '\\d' is 1\n")
    PythonAST().read(str(tmp_path))
    assert not recwarn.list


def test_a_folder_without_python_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^python_ast: no Python statement under ") as error:
        PythonAST().read(str(tmp_path))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="is not a directory"):
        PythonAST().read(str(tmp_path / "missing"))


@pytest.mark.parametrize("field", ["max_source_chars", "max_target_chars"])
def test_limits_must_be_positive(field):
    with pytest.raises(InputError, match=field):
        PythonAST(**{field: 0})


# ---------------------------------------------------------------------------------------------- identity


@pytest.fixture
def small_library(tmp_path, monkeypatch):
    """A standard library of two modules, which this Python seems to have."""
    (tmp_path / "abc.py").write_text("x = 1\nreturn_value = x\n")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text("import abc\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    library_digest.cache_clear()
    yield tmp_path
    library_digest.cache_clear()


def name_now():
    """The data set's name as a new process would give it."""
    library_digest.cache_clear()
    return name(dataclasses.replace(downstream_tasks["python_ast"].data, texts=PythonAST()))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "abc.py").write_text("x = 2\nreturn_value = x\n"),
        lambda root: (root / "json" / "decoder.py").write_text(""),
        lambda root: (root / "json" / "__init__.py").unlink(),
        lambda root: (root / "abc.py").rename(root / "ast.py"),
    ],
)
def test_another_standard_library_is_another_data_set(small_library, change):
    before = name_now()
    assert before == name_now()
    (small_library / "json" / "test_more.py").write_text("y = 1\n")
    assert before == name_now(), "tests are not read"
    change(small_library)
    assert before != name_now()


def test_a_description_from_elsewhere_keeps_its_name_and_is_not_read_here(small_library):
    library_digest.cache_clear()
    texts = pickle.loads(pickle.dumps(PythonAST()))
    before = texts.revision
    (small_library / "abc.py").write_text("x = 3\n")
    library_digest.cache_clear()
    assert texts.revision == before != PythonAST().revision
    with pytest.raises(InputError, match="python_ast was described with another standard library than that of"):
        texts.read(None)
