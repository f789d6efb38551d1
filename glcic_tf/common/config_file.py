"""The flag --config: a config that ships, by its name, or a file of the user's; what is wrong with it as one line."""

import difflib
import importlib.util
import re
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from glcic_tf import configs
from glcic_tf.common import files
from glcic_tf.common.errors import UsageError, UserError


def define_flag():
    """Define the flag --config, which is required; --config.FIELD=value sets one of its fields."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        f"{', '.join(shipped())}, or a config file of your own; --config.batch_size=8 sets one of its fields.",
    )
    flags.FLAGS["config"].parser = _Parser()
    flags.mark_flag_as_required("config")


def shipped():
    """Return the names of the configs that ship, sorted."""
    return sorted(path.stem for path in configs.FOLDER.glob("*.py") if path.stem != "__init__")


def find(name):
    """Return the path of a config: a file, else one that ships, as places2 or configs/places2.py from any folder.

    Raises:
        UserError: there is neither.
    """
    path = Path(files.with_home(name))
    if path.is_file() and path.suffix == ".py":
        return path
    short = re.fullmatch(r"(?:configs/)?(\w+)(?:\.py)?", str(name))
    if short and short[1] in shipped():
        return configs.FOLDER / f"{short[1]}.py"
    found = "is not a Python file" if path.exists() else "there is no such file"
    raise UserError(f"--config={name}: {found}; expected a file ending in .py, or one of {', '.join(shipped())}.")


def load(name):
    """Run the `get_config()` of a config that `find` finds.

    Raises:
        UserError: there is no such file, it has no `get_config`, or that fails.
    """
    path = find(name)
    try:
        spec = importlib.util.spec_from_file_location("_glcic_config", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # whatever a user's own file may raise
        # ml_collections lists all the other fields behind the first sentence.
        reason = " ".join(str(error).split("Other fields present")[0].split())
        raise UserError(f"--config={name}: {type(error).__name__}: {reason}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={name}: get_config() returned {type(config).__name__}, expected a ConfigDict.")
    return config


class _Parser(flags.ArgumentParser):
    """Loads a config and checks the fields that the command line sets; ml_collections answers with tracebacks."""

    def parse(self, name):
        config = load(name)
        for argument in sys.argv[1:]:
            if found := re.match(r"--?(?:no)?(config\.[^=]*)", argument):
                _check_field(config, name, found[1])
        return config.lock()

    def flag_type(self):
        return "config"


def _check_field(config, name, field):
    node = config
    for part in field.split(".")[1:]:
        if not isinstance(node, ConfigDict) or part not in node:
            known = list(node.keys()) if isinstance(node, ConfigDict) else []
            close = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "configs/default.py lists the fields."
            raise UsageError(f"--{field}: {name} has no field {part!r} there; {hint}")
        node = node[part]
    if isinstance(node, ConfigDict):
        raise UsageError(f"--{field}: is a group of fields ({', '.join(node.keys())}); set one of them.")
