"""The commands: `glcic COMMAND --flag=value ...`, the same as `python -m glcic_tf COMMAND --flag=value ...`.

Nothing is imported before it is known which command is asked for: `portable run` does without TensorFlow and Keras.
"""

import contextlib
import difflib
import errno
import importlib
import os
import signal
import sys
import threading
import typing

import glcic_tf


class Command(typing.NamedTuple):
    """A command.

    Attributes:
        module: the one with `define_<last word>_flags()` and `run_<last word>()`, whose docstring --help shows.
        summary: for the list of commands.
        extra: what `pip install 'glcic-tf[...]'` takes for the packages that the core install lacks; None: it is not
            installed with what it depends on.
        keras: whether Keras takes part.
    """

    module: str
    summary: str
    extra: str | None = ""
    keras: bool = True


COMMANDS = {
    "complete": Command("completion.complete_command", "fill the holes of a photo, or of all photos in a folder"),
    "train": Command("training.train_command", "train on a folder of photos"),
    "evaluate": Command("evaluation.evaluate_command", "measure models and other methods, write a report", "evaluate"),
    "export": Command("export.export_command", "write a SavedModel, ONNX, OpenVINO or LiteRT", "export"),
    "convert": Command("convert.convert_command", "turn published weights into model files"),
    "models": Command("convert.models_command", "list the networks that have a name, download them"),
    "prepare": Command("data.prepare.prepare_command", "write a folder of photos as shards", "prepare", keras=False),
    "study prepare": Command("apps.study.study_commands", "choose the pictures of a user study", "evaluate"),
    "study serve": Command("apps.study.study_commands", "show them to participants", "evaluate", keras=False),
    "study report": Command("apps.study.study_commands", "say what came out", "evaluate", keras=False),
    "app": Command("apps.page.app_command", "open a page to remove things from photos", "app"),
    "serve": Command("apps.api.serve_command", "answer completions over HTTP, for programs", "serve"),
    "portable export": Command("apps.portable.portable_commands", "write a training run for devices that JAX reaches"),
    "portable run": Command("apps.portable.portable_commands", "train there, without TensorFlow", None, keras=False),
    "portable compile": Command(
        "apps.portable.portable_commands",
        "say what a step would take on a TPU, without one",
        None,
        keras=False,
    ),
    "portable import": Command("apps.portable.portable_commands", "take the result back into the run"),
    "curves": Command("apps.curves", "plot losses and validation figures of runs", "evaluate", keras=False),
    "demo": Command("apps.demo", "complete holes in sample photos"),
}
_STOPPED = "glcic: stopped by Ctrl-C"
HELP_FLAGS = ("--help", "-help", "-h", "-?")


def main(command=None):
    """Do the command that the command line names, and exit.

    Args:
        command: does without its name on the command line, for a script that is there for one command.
    """
    _end_at_once_by_ctrl_c()
    try:
        name, *arguments = sys.argv
        if command is None:
            command, arguments = _chosen(arguments)
            name = f"glcic {command}"
        _run(name, command, arguments)
    except KeyboardInterrupt:  # while modules are imported; later, the command itself says so
        _fail(_STOPPED, 130)
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EPIPE, errno.EDQUOT, errno.EIO):
            raise
        _end_without_output(error)
    finally:
        _restore_ctrl_c()
        with contextlib.suppress(AttributeError, ValueError):  # there is none, or it is closed
            try:
                sys.stdout.flush()
            except OSError as error:
                _end_without_output(error)


def _end_without_output(error):
    """Exit with one line where nobody takes what is printed: on a full disk, and behind `| head` without a line."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would complain again at its end
    if error.errno != errno.EPIPE:
        print(f"glcic: the standard output cannot be written ({error.strerror})", file=sys.stderr)
    sys.exit(1)


def _end_at_once_by_ctrl_c():
    """Until a command begins, there is nothing to leave in order, and libraries that are half imported make a mess."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    if on_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number, frame):
    print(_STOPPED, file=sys.stderr, flush=True)
    os._exit(130)


def _restore_ctrl_c():
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _chosen(arguments):
    """Find the command at the beginning of a command line: its name and the rest; exits if there is none."""
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in COMMANDS:
            return name, arguments[words:]
    first, *rest = arguments or [None]
    if first in HELP_FLAGS:
        sys.exit(print(_list(COMMANDS)))
    if first == "--version":
        sys.exit(print(f"glcic {glcic_tf.__version__}"))
    group = {name: command for name, command in COMMANDS.items() if name.split(" ")[0] == first}
    if group and rest[:1] and rest[0] in HELP_FLAGS:
        sys.exit(print(_list(group)))
    asked, found, known = (first, rest[:1], group) if group else ("", [first] if first else [], COMMANDS)
    words = list(dict.fromkeys(name.removeprefix(asked).split()[0] for name in known))
    close = difflib.get_close_matches(found[0], words, n=1) if found else []
    problem = f"there is no command {found[0]!r}" if found else "a command is missing"
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(words)}."
    _fail(f"{f'glcic {asked}'.strip()}: {problem}; {hint} See glcic --help.", 2)


def _list(commands):
    lines = [f"  {name:<16} {command.summary}" for name, command in commands.items()]
    return "\n".join(
        [
            f"glcic {glcic_tf.__version__}: {glcic_tf.__doc__.rstrip('.')}.",
            "",
            *lines,
            "",
            "glcic COMMAND --help shows the flags of a command, glcic --version the version.",
        ]
    )


def _run(name, command, arguments):
    sys.argv = [name, *arguments]  # for messages, and for the fields of a config, which look there
    module, _, extra, keras = COMMANDS[command]
    try:
        if keras:
            glcic_tf.check_backend()
        from glcic_tf.common import cli
    except ImportError as error:  # another Keras backend is asked for, or the package that reads flags is missing
        _fail(f"{name.rsplit('/', 1)[-1]}: {error}", 1)
    word = command.split(" ")[-1]
    with cli.missing_package(extra):
        module = importlib.import_module(f"glcic_tf.{module}")
    _restore_ctrl_c()
    cli.run(getattr(module, f"run_{word}"), getattr(module, f"define_{word}_flags"), f"glcic {command}", extra)


def _fail(message, code):
    print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
