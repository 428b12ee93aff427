"""Every public function, class and method says what it takes and what it gives, by the names it has in the code."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "niriss_eestep"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "docs" not in p.parts)
#: methods that a base class defines, here or in stpipe, stdatamodels, logging, concurrent.futures: it documents them
INHERITED = {"process", "finalize_result", "save_model", "save", "filter", "submit", "hasattr", "on_init", "info"}
INHERITED |= {"check_parameters", "set_primary_input", "remove_suffix", "get_stpipe_loggers"}
INHERITED |= {"get_config_reftype", "to_fits"}


def _sections(text):
    """Lines of each numpydoc section of a docstring, by its title."""
    found, title, lines = {}, "", (text or "").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.strip() and re.fullmatch(r"-{3,}", below.strip()):
            title = line.strip()
            found[title] = []
        elif not re.fullmatch(r"-{3,}", line.strip()):
            found.setdefault(title, []).append(line)
    return found


def _names(lines):
    """Names that a section of parameters has, in order."""
    heads = [line for line in lines if line and not line[0].isspace()]
    return [name.strip().lstrip("*") for head in heads for name in head.partition(" :")[0].split(",")]


def _arguments(function):
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [a.arg for a in (given.vararg, given.kwarg) if a]
    return [name for name in names if name not in ("self", "cls")]


def _gives(function):
    """Whether a function returns or yields anything."""
    inner, gives = list(ast.iter_child_nodes(function)), False
    while inner:
        node = inner.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        gives |= isinstance(node, ast.Yield | ast.YieldFrom)
        gives |= isinstance(node, ast.Return) and node.value is not None
        inner += ast.iter_child_nodes(node)
    return gives


def _is(node, *decorators):
    return any(ast.unparse(d).rpartition(".")[2].partition("(")[0] in decorators for d in node.decorator_list)


def _faults(path):
    """Say what is wrong with the docstrings of a module."""
    tree = ast.parse(path.read_text())
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    for node in public:
        if isinstance(node, ast.ClassDef):
            yield from _of_class(node)
        else:
            yield from _of_function(node, node.name)


def _of_class(node):
    text = ast.get_docstring(node)
    if not text:
        yield f"{node.name}: no docstring"
    elif _is(node, "dataclass") and "stands beside it" not in text:
        fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and not n.target.id.startswith("_")]
        described = [name for title in ("Parameters", "Attributes") for name in _names(_sections(text).get(title, []))]
        if not set(fields) <= set(described) or (not node.bases and set(fields) != set(described)):
            yield f"{node.name}: describes {described}, has {fields}"
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_") and inner.name not in INHERITED:
            yield from _of_function(inner, f"{node.name}.{inner.name}")


def _of_function(node, name):
    text, arguments = ast.get_docstring(node), _arguments(node)
    if not text:
        yield f"{name}: no docstring"
        return
    sections, elsewhere = _sections(text), re.search(r"\b([Ss]ee|[Aa]s) `", text)
    described = _names(sections.get("Parameters", []))
    # a command's module declares what its parser takes
    if described != arguments and (described or not elsewhere) and arguments != ["parser"]:
        yield f"{name}: describes {described}, takes {arguments}"
    given, abstract = {"Returns", "Yields"} & set(sections), len(node.body) == 1
    if _gives(node) and not given and not elsewhere and not _is(node, "property", "cached_property", "contextmanager"):
        yield f"{name}: does not say what it returns"
    if given and not _gives(node) and not abstract:
        yield f"{name}: has {given}, and returns nothing"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_and_signatures_agree(path):
    assert list(_faults(path)) == []
