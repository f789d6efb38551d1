"""The commands from outside: every one tells its flags, every mistake is one line, and exit codes mean the same."""

import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl import flags

from glcic_tf import __main__ as module
from glcic_tf import __version__
from glcic_tf.common import cli, config_file
from glcic_tf.common.errors import UsageError, UserError

ROOT = Path(__file__).parents[1]
DOORS = {
    "train.py": "train",
    "infer.py": "complete",
    "evaluate.py": "evaluate",
    "export.py": "export",
    "convert.py": "convert",
    "app.py": "app",
}
NO_REQUIRED_FLAGS = {"app", "demo", "models", "serve"}


def defined(command):
    """The names of a command's flags, found without its help."""
    before = set(flags.FLAGS)
    word = command.split(" ")[-1]
    loaded = importlib.import_module(f"glcic_tf.{module.COMMANDS[command].module}")
    getattr(loaded, f"define_{word}_flags")()
    names = set(flags.FLAGS) - before
    for name in names:
        delattr(flags.FLAGS, name)
    return names


@pytest.mark.parametrize("command", module.COMMANDS)
def test_help_shows_every_flag(glcic, command):
    code, out, err = glcic(*command.split(" "), "--help")
    assert (code, err) == (0, "")
    assert set(re.findall(r"^  --(?:\[no\])?(\w+)", out, re.M)) == defined(command)
    about, _, listed = out.partition("Flags:")
    assert f"glcic {command} --" in about or command == "app"
    for used in re.findall(r" --(\w+)", about):
        assert f"--{used}" in listed or f"--[no]{used}" in listed


@pytest.mark.parametrize("command", [command for command in module.COMMANDS if command not in NO_REQUIRED_FLAGS])
def test_without_flags_there_is_one_line(glcic, command):
    code, out, err = glcic(*command.split(" "))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"glcic {command}: missing: --") and err.endswith(f"; see glcic {command} --help\n")


@pytest.mark.parametrize("command", module.COMMANDS)
def test_a_flag_that_is_not_there_is_one_line(glcic, command):
    code, out, err = glcic(*command.split(" "), "--no_such_flag=3")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"glcic {command}: Unknown command line flag 'no_such_flag'")


@pytest.mark.parametrize("script", DOORS)
def test_scripts_are_doors_to_commands(glcic, script):
    code, out, _ = glcic("--help", name=f"some/where/{script}", command=DOORS[script])
    assert code == 0 and f"  {script}" in out and f"glcic {DOORS[script]}" not in out
    code_lines = (ROOT / script).read_text(encoding="utf-8").partition('"""\n')[2].split("\n")
    assert [line for line in code_lines if line] == [
        "from glcic_tf.__main__ import main",
        'if __name__ == "__main__":',
        f'    main("{DOORS[script]}")',
    ]
    if DOORS[script] not in NO_REQUIRED_FLAGS:
        code, _, err = glcic(name=script, command=DOORS[script])
        assert code == 2 and err.startswith(f"{script}: missing: --") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        ([], 2, "", "glcic: a command is missing; expected one of complete, train, .*, demo. See glcic --help."),
        (["trian"], 2, "", "glcic: there is no command 'trian'; did you mean train[?] See glcic --help."),
        (["--image=a"], 2, "", "glcic: there is no command '--image=a'; expected one of .*"),
        (["study"], 2, "", "glcic study: a command is missing; expected one of prepare, serve, report. .*"),
        (["portable", "train"], 2, "", "glcic portable: there is no command 'train'; .*"),
        (["--version"], 0, f"glcic {__version__}", ""),
        (["--help"], 0, "(?s)glcic .*  complete +fill .*  demo +complete .*", ""),
        (["-h"], 0, "(?s)glcic .*", ""),
        (["portable", "--help"], 0, "(?s)glcic .*  portable export  .*  portable import  .*", ""),
    ],
)
def test_which_command(glcic, arguments, code, out, err):
    done = glcic(*arguments)
    assert done[0] == code
    assert re.fullmatch(out, done[1].strip()) and re.fullmatch(err, done[2].strip()), done


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["complete", "--image=no.png", "--output=a.png"], 1, "--image=no.png: there is no such file"),
        (["complete", "--image=no.png", "--output=a.png", "--scale=2"], 2, "--scale=2: expected auto or a number"),
        (["complete", "--image=no.png", "--output=a.png", "b"], 2, "found 'b', which belongs to no flag"),
        (["train", "--config=no.py", "--data_dir=a", "--workdir=b"], 1, "--config=no.py: there is no such file"),
        (["train", "--config=tiny", "--config.x=1", "--data_dir=a", "--workdir=b"], 2, "has no field 'x' there"),
        (["train", "--config=tiny", "--noconfig.x", "--data_dir=a", "--workdir=b"], 2, "has no field 'x' there"),
        (["export", "--output=a", "--size=3x3"], 2, "--format=savedmodel takes photos of any size"),
        (["export", "--output=a", "--dtype=bfloat16"], 2, "--format=savedmodel only has float32"),
        (["export", "--output=a", "--format=onnx"], 2, "a: expected a name that ends in .onnx"),
        (
            ["export", "--output=a.onnx", "--format=onnx", "--dtype=bfloat16"],
            2,
            "--format=onnx has float32",
        ),
        (["convert", "--input=no", "--output=a"], 2, "--output=a: expected a name that ends in .keras"),
        (["evaluate", "--images=no", "--output=a", "--holes=files"], 2, "--holes=files: found no --masks"),
        (["evaluate", "--images=no", "--output=a", "--masks=b"], 2, "--masks=b: is not used with --holes=rectangle"),
        (["evaluate", "--images=no", "--output=a", "--hole_min=300"], 2, "give all three"),
        (["evaluate", "--images=no", "--output=a", "--methods=blur"], 2, "--methods=blur: expected some of telea"),
        (["evaluate", "--images=no", "--output=a", "--models=", "--methods="], 2, "both are empty"),
        (["evaluate", "--images=no", "--output=a"], 1, "--images=no: "),
        (["train", "--config=tiny", "--data_dir=a", "--workdir=gs://b/c"], 2, "--workdir=gs://b/c: is a URL"),
        (["prepare", "--input=.", "--output=a"], 2, "--output=a: lies in --input=."),
        (["prepare", "--input=no", "--output=s3://b/c"], 2, "--output=s3://b/c: is a URL; expected a path of this"),
        (["prepare", "--input=no://me:secret@b/c", "--output=a"], 1, "no://b/c: no:// is not known"),
        (["complete", "--image=a", "--output=https://b/c"], 1, "https://b/c: web servers are read from alone"),
        (["prepare", "--output=a"], 2, "--input: is missing"),
        (["prepare", "--output=a", "--merge", "--verify"], 2, "--merge and --verify"),
        (["prepare", "--output=a", "--input=no"], 1, "no: "),
        (["curves", "--runs=no", "--output=a.png"], 1, "--runs=no: "),
    ],
)
def test_exit_codes(glcic, arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = glcic(*arguments)
    assert (done[0], done[1], done[2].count("\n")) == (code, "", 1), done
    assert message in done[2] and done[2].startswith(f"glcic {arguments[0]}: ")
    assert os.listdir(tmp_path) == []


def test_home_is_where_it_is_or_nothing_is_done(glcic, tmp_path, monkeypatch):
    """Shells leave ~ alone behind a "=", and a folder called ~ is not what anybody means."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nowhere")
    code, _, err = glcic("complete", "--image=~/a.png", "--output=~/done")
    assert code == 1 and err.startswith("glcic complete: --image=/nowhere/a.png: there is no such file")
    code, _, err = glcic(
        "evaluate", f"--images={ROOT / 'docs'}", "--output=b", "--models=package,~/a.keras", "--methods="
    )
    assert code == 1 and "--models=/nowhere/a.keras: there is no such file" in err
    code, _, err = glcic("train", "--config=~/no.py", "--data_dir=a", "--workdir=b")
    assert code == 1 and "--config=~/no.py: there is no such file" in err
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nobody knows of a home
    for flag in ("--image=~/a.png", "--report=~/a.jsonl"):
        code, _, err = glcic("complete", "--image=a.png", "--output=b.png", flag)
        assert code == 1 and f"{flag.split('=')[1]}: there is no home folder for ~ to stand for" in err
    assert os.listdir(tmp_path) == []


def test_a_clock_on_a_terminal_alone(capfd, monkeypatch):
    with cli.clock("photo.jpg"), cli.quiet_start():
        pass
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = ""
    with cli.clock("photo.jpg"), cli.quiet_start():
        while "photo.jpg: 00:" not in shown:
            time.sleep(0.1)
            shown += capfd.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "err"),
    [
        (None, 0, ""),
        (UserError("the file is\nbroken"), 1, "x: the file is broken\n"),
        (UsageError("a and b"), 2, "x: a and b\n"),
        (KeyboardInterrupt(), 130, "x: stopped by Ctrl-C\n"),
        (ModuleNotFoundError(name="gradio.blocks"), 1, "x: the package gradio is not installed; run: pip install "),
    ],
)
def test_what_a_command_raises(capsys, monkeypatch, raised, code, err):
    def main():
        if raised:
            raise raised

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        cli.run(main, lambda: None, "glcic x", "app")
    assert (ended.value.code or 0) == code
    assert capsys.readouterr().err.startswith(err)


def test_a_bug_keeps_its_traceback(monkeypatch):
    def main():
        raise ModuleNotFoundError(name="glcic_tf.gone")

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(ModuleNotFoundError):
        cli.run(main, lambda: None)


# Runs a command where some packages cannot be imported.
WITHOUT = """
import runpy, sys
missing = sys.argv.pop(1).split(",")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
runpy.run_module("glcic_tf", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("missing", "arguments", "code", "err"),
    [
        ("gradio", ["app", "--port=0"], 1, "glcic app: the package gradio is not installed; .* 'glcic-tf.app.'"),
        (
            "uvicorn",
            ["study", "serve", "--study=."],
            1,
            "glcic study serve: the package uvicorn .* 'glcic-tf.evaluate.'",
        ),
        ("matplotlib", ["evaluate", "--images=.", "--output=a"], 1, ".* matplotlib .* 'glcic-tf.evaluate.'"),
        ("pebble", ["prepare", "--input=.", "--output=a"], 1, ".* pebble .* 'glcic-tf.prepare.'"),
        (
            "cv2",
            ["portable", "run", "--bundle=a", "--data_dir=b", "--output=c"],
            1,
            ".* cv2 is not installed; install it",
        ),
        ("absl", ["complete", "--image=a", "--output=b"], 1, "glcic complete: No module named 'absl'"),
        ("tensorflow,keras,absl", ["--version"], 0, ""),
        ("tensorflow,keras,ml_collections,tqdm", ["portable", "run", "--help"], 0, ""),
    ],
)
def test_a_missing_package_is_one_line(tmp_path, missing, arguments, code, err):
    command = [sys.executable, "-c", WITHOUT, missing, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    assert re.fullmatch(err, done.stderr.strip()), done.stderr
    assert os.listdir(tmp_path) == []


def test_another_backend_is_one_line_where_keras_takes_part(glcic, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    code, _, err = glcic("complete", "--image=a", "--output=b")
    assert code == 1 and err.startswith("glcic complete: KERAS_BACKEND is 'jax'") and err.count("\n") == 1
    code, _, err = glcic("portable", "run")
    assert code == 2 and err.startswith("glcic portable run: missing: ")


@pytest.mark.parametrize("name", ["places2", "places2.py", "configs/places2.py"])
def test_a_config_is_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file.find(name) == ROOT / "configs" / "places2.py"
    assert config_file.load(name).batch_size == 96
    (tmp_path / "configs").mkdir()
    for own in ("places2", "places2.py", "configs/places2.py"):
        (tmp_path / own).write_text("from glcic_tf.configs import tiny\n\nget_config = tiny.get_config\n")
    assert config_file.load(name).batch_size == (96 if name == "places2" else 4)  # a Python file of the user's is first


def test_configs_that_cannot_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("places3", "../configs/places2.py", "configs", "__init__", ""):
        with pytest.raises(UserError, match="expected a file ending in .py, or one of ablation, .*, tiny"):
            config_file.find(name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
@pytest.mark.parametrize("arguments", [["--help"], ["curves", "--help"], ["--version"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_device_behind_the_output_is_one_line(arguments, unbuffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "glcic_tf", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "glcic: the standard output cannot be written (No space left on device)\n"


def test_nobody_who_reads_the_output_is_no_error_to_tell():
    command = [sys.executable, "-m", "glcic_tf", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


STARTED = """
import os, signal, sys
from importlib import abc
import glcic_tf.__main__ as commands

class Finder(abc.MetaPathFinder):  # Ctrl-C comes while a library is imported
    def find_spec(self, name, path, target=None):
        if name == "absl":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it from its start
sys.meta_path.insert(0, Finder())
sys.argv = ["glcic", "curves", "--runs=none", "--output=out.png"]
commands.main()
"""


def test_ctrl_c_while_a_command_starts_is_one_line():
    done = subprocess.run([sys.executable, "-c", STARTED], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "glcic: stopped by Ctrl-C\n")
