"""Imports point one way: a module imports from its own wing or from one earlier in the list, and never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

WINGS = [
    "configs",
    "common",
    "imaging",
    "networks",
    "data",
    "convert",
    "completion",
    "evaluation",
    "export",
    "training",
    "apps",
]
PACKAGE = Path(__file__).parents[1] / "glcic_tf"


def parts_of(path):
    """Its place in the package: ("data", "shards"), ("apps", "page", "layout"); a package's is its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {parts_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE}


def package_imports(source):
    """Modules of glcic_tf that `source` imports anywhere, functions included, as `parts_of` gives them."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports with the whole name, from glcic_tf on"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if tuple(name.split(".")[1:]) in MODULES else node.module for name in names]
        else:
            continue
        found |= {tuple(target.split(".")[1:]) for target in targets if target.startswith("glcic_tf.")}
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import glcic_tf.networks.completion", {("networks", "completion")}),
        ("import keras, glcic_tf.data.dataset as d", {("data", "dataset")}),
        ("from glcic_tf.data import dataset, shards", {("data", "dataset"), ("data", "shards")}),
        ("from glcic_tf.networks import DEFAULT_MODEL", {("networks",)}),
        ("from glcic_tf.networks.completion import STRIDE", {("networks", "completion")}),
        ("def f():\n    from glcic_tf.training.loop import train", {("training", "loop")}),
        ("import numpy\nfrom collections import abc", set()),
        ("from glcic_tf import __doc__", set()),
    ],
)
def test_imports_are_found(source, expected):
    assert package_imports(source) == expected


@pytest.mark.parametrize(("parts", "path"), [pytest.param(*m, id=".".join(m[0])) for m in MODULES.items()])
def test_module_imports_only_from_its_wing_and_earlier_ones(parts, path):
    allowed = WINGS[: WINGS.index(parts[0]) + 1]
    for imported in package_imports(path.read_text(encoding="utf-8")):
        assert imported[0] in allowed, f"{path} imports {'.'.join(imported)}; {parts[0]} has only {', '.join(allowed)}"


def test_no_module_imports_itself_by_way_of_others():
    imports = {parts: package_imports(path.read_text(encoding="utf-8")) - {parts} for parts, path in MODULES.items()}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_no_two_modules_have_one_name():
    names = [parts[-1] for parts, path in MODULES.items() if path.stem not in ("__init__", "__main__")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_itself_imports_nothing(wing):
    """So that a module that needs no TensorFlow can be imported without it."""
    tree = ast.parse((PACKAGE / wing / "__init__.py").read_text(encoding="utf-8"))
    imported = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    assert imported <= {"from pathlib import Path"}
