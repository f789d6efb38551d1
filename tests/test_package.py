"""What is installed: the wheel's contents, and the wheel at work from another folder, beside this environment."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement

from glcic_tf import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, made of the sdist, which is made of this folder."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        f"glcic_tf-{__version__}-py3-none-any.whl",
        f"glcic_tf-{__version__}.tar.gz",
    ]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel and nothing that it depends on: those are in this environment."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "--target", folder, wheel], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def run(*command, cwd, installed):
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_with_its_data_and_configs_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        notes = {name.partition(".dist-info/")[2] for name in archive.namelist()} - {""}
    tracked = subprocess.run(["git", "ls-files", "glcic_tf", "configs"], cwd=ROOT, capture_output=True, text=True)
    expected = {f"glcic_tf/{name}" if name.startswith("configs/") else name for name in tracked.stdout.split()}
    assert names == expected if tracked.returncode == 0 else names
    assert {"glcic_tf/networks/weights/scenes.keras", "glcic_tf/configs/tiny.py", "glcic_tf/py.typed"} <= names
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE", "licenses/MODEL_CARD.md"} <= notes


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("glcic-tf", __version__, "MIT")
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    needed = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    core = {requirement.name for requirement in needed if requirement.marker is None}
    assert {"tensorflow", "keras"} <= core
    assert core.isdisjoint({"gradio", "matplotlib", "pebble", "PyPatchMatch", "jax", "torch", "onnx"})
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


# The configs that start from the weights of the package find them.
FROM_PYTHON = """
import glcic_tf
from glcic_tf import Completer, configs
from glcic_tf.common import config_file
from glcic_tf.convert import model_names
from glcic_tf.networks import model_file
print(glcic_tf.__file__, configs.FOLDER)
for name in ("facade", "faces", "ablation"):
    print(model_file.load(model_names.path_of(config_file.load(name).init_from)).count_params())
"""


def test_from_another_folder(installed, tmp_path):
    """Import it, complete a photo, and train for some steps with a config that ships, which ends with a SavedModel."""
    rng = np.random.default_rng(0)
    for i in range(6):
        small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), cv2.resize(small, (60, 50)))
    mask = np.zeros((50, 60), np.uint8)
    mask[10:20, 20:40] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)

    def python(*arguments):
        return run(sys.executable, *arguments, cwd=tmp_path, installed=installed)

    places, *counts = python("-c", FROM_PYTHON).splitlines()
    assert places.split() == [str(installed / "glcic_tf" / "__init__.py"), str(installed / "glcic_tf" / "configs")]
    assert len(counts) == 3 and len(set(counts)) == 1
    assert run(installed / "bin" / "glcic", "--version", cwd=tmp_path, installed=installed) == f"glcic {__version__}\n"

    python("-m", "glcic_tf", "complete", "--image=photos/0.png", "--mask=mask.png", "--output=done.png")
    before, after = cv2.imread(str(tmp_path / "photos" / "0.png")), cv2.imread(str(tmp_path / "done.png"))
    np.testing.assert_array_equal(after[mask == 0], before[mask == 0])
    assert (after != before).any()
    steps = [f"--config.stages.{phase}.steps=1" for phase in ("completion", "discriminator", "joint")]
    python("-m", "glcic_tf", "train", "--config=tiny", *steps, "--data_dir=photos", "--workdir=run")
    assert (tmp_path / "run" / "savedmodel" / "saved_model.pb").is_file()
