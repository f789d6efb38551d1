"""The notebook from top to bottom at the smallest scale, and its first cell as in Colab."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import numpy as np
import pytest

from glcic_tf.apps import demo
from glcic_tf.imaging import images, photo_folders

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "glcic_colab.ipynb"
STEPS = 2


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def cell(notebook, name):
    return next(cell for cell in notebook.cells if cell["id"] == name)


def printed(notebook, name):
    return "".join(output.get("text", "") for output in cell(notebook, name).outputs)


def pictures_shown(notebook, name):
    return sum("image/png" in output.get("data", {}) for output in cell(notebook, name).outputs)


def like_the_project(folder):
    """Make a folder that the notebook takes for a copy of the project; what it writes does not reach the real one."""
    for name in ("glcic_tf", "configs", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "notebooks").mkdir()
    return folder


def environment(folder):
    """A Jupyter that has this interpreter alone, whatever kernels the user has, and that writes to `folder`."""
    kernel = folder / "kernels" / "this"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "this", "language": "python"}))
    folders = ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    return os.environ | dict.fromkeys(folders, str(folder))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after all its cells, and the folder of the project that it ran in."""
    project = like_the_project(tmp_path_factory.mktemp("project"))
    copy = Path(shutil.copy(NOTEBOOK, project / "notebooks"))
    settings = {
        "GLCIC_NOTEBOOK_STEPS": str(STEPS),
        "GLCIC_NOTEBOOK_SIZE": "32",
        "PIP_NO_INDEX": "1",  # all is installed here; if not, the first cell says what is missing
    }
    # In a process of its own, which closes nbclient's sockets and loops without warnings.
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", "--inplace", "--kernel_name=this"]
    done = subprocess.run(
        [*command, "--timeout=600", copy],
        env=environment(tmp_path_factory.mktemp("jupyter")) | settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return nbformat.read(copy, as_version=4), project


def test_nothing_is_left_of_a_run_in_git(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for one in notebook.cells:
        assert not one.get("outputs") and one.get("execution_count") is None, one["id"]
        assert set(one.metadata) <= {"cellView"}, one["id"]


def test_a_photo_is_completed(executed):
    notebook, project = executed
    original = images.read_photo(demo.sample_path("coffee.png"))
    completed, hole = images.read_photo(project / "done/completed.png"), images.read_mask(project / "done/mask.png")
    assert 0.01 < hole.mean() < 0.2
    np.testing.assert_array_equal(completed[~hole], original[~hole])
    assert (completed[hole] != original[hole]).any()
    assert pictures_shown(notebook, "complete") == 1


def test_the_run_is_resumed_to_its_end(executed):
    notebook, project = executed
    run = project / "runs" / "first"
    assert f"the completion phase is finished: step {STEPS} of {STEPS + 2}" in printed(notebook, "train")
    assert f"resumed runs/first/checkpoints/ckpt-{STEPS} at step {STEPS}" in printed(notebook, "resume")
    assert f"the run is finished: step {STEPS + 2} of {STEPS + 2}" in printed(notebook, "resume")
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    steps = [record["step"] for record in records if "images_per_second" in record]
    assert steps == list(range(1, STEPS + 3))
    assert {path.name for path in run.glob("*.keras")} == {"completion.keras", "discriminator.keras", "joint.keras"}
    assert json.loads((run / "config.json").read_text())["image_size"] == 32


def test_samples_and_curves_are_shown(executed):
    notebook, project = executed
    assert len(list((project / "runs/first/samples").glob("*.png"))) == STEPS + 2
    assert (pictures_shown(notebook, "samples"), pictures_shown(notebook, "curves")) == (2, 1)
    assert "tensorboard --logdir" in printed(notebook, "tensorboard")


def test_the_export_is_called(executed):
    notebook, project = executed
    assert (project / "runs/first/export/1/saved_model.pb").is_file()
    assert pictures_shown(notebook, "call") == 1


def test_no_cell_warns(executed):
    notebook, _ = executed
    for one in notebook.cells:
        for output in one.get("outputs", []):
            assert output.get("name") != "stderr", output["text"]


class ColabShell:
    """Takes the place of subprocess.Popen, for `git` and `pip`: notes the commands and does nothing but clone."""

    def __init__(self, *dependencies):
        self.dependencies, self.commands = dependencies, []

    def __call__(self, command, **_):
        self.commands.append(command)
        if command[0] == "git":
            project = Path(command[-1])
            (project / "glcic_tf").mkdir(parents=True)
            (project / "glcic_tf" / "__init__.py").touch()
            (project / "pyproject.toml").write_text(f"[project]\ndependencies = {list(self.dependencies)}\n")
        return self

    def __enter__(self):
        self.stdout, self.returncode = iter(["done\n"]), 0
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """An empty folder as the working directory, and the modules of Colab."""
    files, drive = types.ModuleType("google.colab.files"), types.ModuleType("google.colab.drive")
    module = types.ModuleType("google.colab")
    module.files, module.drive = files, drive
    for fake in (module, files, drive):
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return module


def test_colab_clones_and_installs_once(notebook, colab, monkeypatch, tmp_path):
    shell = ColabShell("numpy>=2,<3", "no-such-package-of-anybody>=1", "opencv-python>=99")
    monkeypatch.setattr(subprocess, "Popen", shell)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    setup = cell(notebook, "setup").source
    with pytest.raises(RuntimeError, match="give the address of a repository"):
        exec(setup, {})
    setup = setup.replace('REPO = ""', 'REPO = "https://example.org/glcic_tf"')
    exec(setup, names := {})
    clone, uninstall, install = shell.commands
    assert clone == ["git", "clone", "--quiet", "--depth=1", names["REPO"], f"{tmp_path}/glcic_tf"]
    assert {"uninstall", "--yes", "opencv-python", "opencv-contrib-python-headless"} <= set(uninstall)
    assert install[:3] == [sys.executable, "-m", "pip"] and install[-2:] == ["--editable", ".[evaluate]"]
    assert Path.cwd() == tmp_path / "glcic_tf" == Path(sys.path[0])

    (tmp_path / "glcic_tf" / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=2,<3"]\n')
    for folder in (tmp_path, tmp_path / "glcic_tf", tmp_path / "glcic_tf" / "glcic_tf"):
        monkeypatch.chdir(folder)  # as after a restart, and as the cell run again
        exec(setup, {})
        assert Path.cwd() == tmp_path / "glcic_tf"
    assert len(shell.commands) == 3


def test_an_installed_package_is_used_from_any_folder(notebook, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is cloned or installed
    exec(cell(notebook, "setup").source, {})
    assert Path.cwd() == tmp_path and "project: the installed package\n" in capsys.readouterr().out


def test_a_command_that_fails_stops_the_notebook(notebook, colab, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    exec(cell(notebook, "setup").source, names)
    names["run"](sys.executable, "-c", "print('fine')")
    assert capsys.readouterr().out.endswith("$ python -c 'print('\"'\"'fine'\"'\"')'\nfine\n")
    with pytest.raises(RuntimeError, match="exit code 3"):
        names["run"](sys.executable, "-c", "raise SystemExit(3)")


def test_colab_keeps_uploads_and_the_run_on_drive(notebook, colab, monkeypatch, tmp_path):
    def upload(target_dir):
        for name in ("a.png", "b c.png"):
            images.write_image(Path(target_dir) / name, np.zeros((8, 8, 3), np.uint8))
        return {f"{target_dir}/a.png": b"", "b c.png": b""}  # with the folder or without it

    mounted = []
    colab.files.upload, colab.drive.mount = upload, mounted.append
    names = {"IN_COLAB": True, "Path": Path}
    exec(cell(notebook, "helpers").source, names)
    photos = cell(notebook, "photos").source.replace("/content/drive", f"{tmp_path}/drive")
    exec(photos.replace('DATA_DIR = "samples"', 'DATA_DIR = "upload"'), names)
    home = tmp_path / "drive" / "MyDrive" / "glcic_tf"
    assert mounted == [f"{tmp_path}/drive"]
    assert names["WORKDIR"] == home / "first" and names["WORKDIR"].is_dir()
    assert names["data_dir"] == home / "first" / "photos" and len(photo_folders.find_photos(names["data_dir"])) == 2
    assert names["chosen_file"]("upload") == Path("done/a.png")
    assert names["chosen_file"]("some/photo.jpg") == Path("some/photo.jpg")
