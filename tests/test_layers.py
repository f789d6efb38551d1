"""Imports point down only: a module may import from lower layers of the package, never from its own or a higher one."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "glcic_tf"

LAYERS = {
    0: {
        "batch_norm",
        "geometry",
        "holes",
        "pixels",
        "images",
        "specs",
        "random_streams",
        "cluster",
        "config_file",
        "pictures",
        "summary",
        "signals",
        "listening",
        "shard_index",
        "torch7",
        "torch_pickle",
    },
    1: {
        "networks",
        "losses",
        "precision",
        "schedule",
        "training_holes",
        "initial_weights",
        "metrics",
        "model_file",
        "folding",
        "blending",
        "baselines",
        "report",
        "fid",
        "torch_checkpoint",
        "process_pool",
        "devices",
        "shards",
    },
    2: {
        "steps",
        "train_state",
        "checkpoints",
        "examples",
        "monitor",
        "windows",
        "export",
        "protocols",
        "published",
        "discriminator_file",
    },
    3: {"data", "photo_folder", "completer", "scripts", "runtimes"},
    4: {"run", "model_methods", "measurements", "demo"},
    # Commands, like the scripts at the top.
    5: {"trainer", "inference", "portable", "evaluation", "curves", "conversion", "study", "prepare", "app"},
}
BASE = {"errors": -8, "files": -7, "storage": -6}  # may be imported from every layer
BASE |= {"exif": -5, "icc_profile": -5, "image_formats": -5, "jpeg_files": -5, "image_metadata": -4, "png_chunks": -4}
BASE |= {"mask_pairs": -4, "image_decoding": -3, "image_encoding": -3, "image_process": -2}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names} | BASE


def modules():
    """Name and path of each module; a subpackage counts as one, named by its folder."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if name != "__init__":
            yield name, path


def package_imports(source, name, depth=1):
    """Modules of glcic_tf that `source` imports anywhere, functions included, by their first name in the package.

    `depth` is the number of folders from the repository's root to the file: 1 for glcic_tf/name.py.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom):
            parents = ["glcic_tf", name][: depth - node.level + 1]
            base = ".".join([*parents, *([node.module] if node.module else [])])
            targets = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {t.split(".")[1] for t in targets if t.startswith("glcic_tf.")}
    return {
        f for f in found if f != name and (f in LAYER_OF or (PACKAGE / f).exists() or (PACKAGE / f"{f}.py").exists())
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import glcic_tf.networks", {"networks"}),
        ("import keras, glcic_tf.data as d", {"data"}),
        ("from glcic_tf import data, networks", {"data", "networks"}),
        ("from glcic_tf.networks import STRIDE", {"networks"}),
        ("from . import losses", {"losses"}),
        ("from .losses import completion_loss", {"losses"}),
        ("def f():\n    from glcic_tf.trainer import train", {"trainer"}),
        ("import numpy\nfrom collections import abc", set()),
        ("from glcic_tf import __doc__", set()),
    ],
)
def test_imports_are_found(source, expected):
    assert package_imports(source, "completer") == expected


@pytest.mark.parametrize(("name", "path"), [pytest.param(*m, id=m[0]) for m in modules()])
def test_module_imports_only_from_lower_layers(name, path):
    assert name in LAYER_OF, (
        f"glcic_tf/{name} stands in no layer: add it to LAYERS in {Path(__file__).name}, in the lowest one that is "
        f"above everything it imports"
    )
    depth = len(path.relative_to(PACKAGE).parts)
    for imported in package_imports(path.read_text(encoding="utf-8"), name, depth):
        layer = LAYER_OF.get(imported)
        assert layer is not None, f"glcic_tf/{name} imports {imported}, which stands in no layer: add it to LAYERS"
        assert layer < LAYER_OF[name], (
            f"glcic_tf/{name} (layer {LAYER_OF[name]}) imports {imported} (layer {layer}): imports point down only"
        )
