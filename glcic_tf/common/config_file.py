"""One clear line for what is wrong with a config file or with an override; ml_collections answers with tracebacks."""

import difflib
import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from glcic_tf.common.errors import UserError


def load(path):
    """Run a config file's `get_config()`.

    Raises:
        UserError: there is no such file, it has no `get_config`, or that fails.
    """
    if not Path(path).is_file():
        raise UserError(f"--config={path}: there is no such file; expected a Python file such as configs/places2.py.")
    try:
        spec = importlib.util.spec_from_file_location("_glcic_config", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # whatever a user's own file may raise
        # ml_collections lists all the other fields behind the first sentence.
        reason = " ".join(str(error).split("Other fields present")[0].split())
        raise UserError(f"--config={path}: {type(error).__name__}: {reason}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={path}: get_config() returned {type(config).__name__}, expected a ConfigDict.")
    return config


def check(argv):
    """Check the flags `--config` and `--config.FIELD` of a command line before ml_collections reads them.

    Raises:
        UserError: as `load`; or a field is overridden that the config does not have.
    """
    path, overrides = None, []
    for argument, following in zip(argv[1:], [*argv[2:], None], strict=True):
        name, _, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            continue
        if name == "config":
            path = value or following
        elif name.startswith("config."):
            overrides.append(name)
    if path is None:
        return
    config = load(path)
    for name in overrides:
        node = config
        for part in name.split(".")[1:]:
            if not isinstance(node, ConfigDict) or part not in node:
                known = list(node.keys()) if isinstance(node, ConfigDict) else []
                close = difflib.get_close_matches(part, known, n=1)
                hint = f"did you mean {close[0]}?" if close else "configs/default.py lists the fields."
                raise UserError(f"--{name}: {path} has no field {part!r} there; {hint}")
            node = node[part]
        if isinstance(node, ConfigDict):
            raise UserError(f"--{name}: is a group of fields ({', '.join(node.keys())}); set one of them.")
