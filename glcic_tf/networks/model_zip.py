"""The outside of a model file: the zip, checked before anything is built from it. Nothing here needs Keras."""

import json
import zipfile
from pathlib import Path

from glcic_tf.common import files, storage
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.networks.model_config import MAX_BYTES, RefusedModel, check_config

MAX_JSON_BYTES = 2**22
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
NOTES = "glcic.json"


def read_metadata(path):
    """Return the dict that was given to `save` ({} in files without one), without loading the network.

    Raises:
        UserError: as for `load`, as far as the zip shows it.
    """
    try:
        with opened(path) as archive:
            if NOTES not in archive.namelist():
                return {}
            notes = read_json(archive, NOTES)
    except RefusedModel as refused:
        raise user_error(path, refused) from refused
    return notes


def check(path):
    """Return the file's config.json, a dict; raises RefusedModel unless Keras may build what it describes."""
    with opened(path) as archive:
        config = read_json(archive, "config.json")
    check_config(config)
    return config


def opened(path):
    """Open a model file after checking its table of contents: a zipfile.ZipFile; raises RefusedModel."""
    here = Path(path)  # never a URL
    if storage.is_folder(here) or not storage.exists(here):
        raise RefusedModel("it is a folder" if storage.is_folder(here) else "there is no such file")
    files.check_regular(path, "a model file (.keras)")
    if here.suffix != ".keras":  # Keras goes by the name as well
        raise RefusedModel("its name does not end in .keras")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise RefusedModel(f"it is not a zip file ({first_line(error)})") from error
    members = archive.infolist()
    names = sorted(member.filename for member in members)
    size = sum(member.file_size for member in members)
    problem = None
    if set(names) | {NOTES} != _MEMBERS | {NOTES} or len(set(names)) != len(names):
        problem = f"the zip holds {', '.join(names[:6])} instead of {', '.join(sorted(_MEMBERS))}"
    elif size > MAX_BYTES:
        problem = f"it unpacks to {size / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB"
    elif any(member.flag_bits & 1 for member in members):
        problem = "it is encrypted"
    if problem:
        archive.close()
        raise RefusedModel(problem)
    return archive


def read_json(archive, name):
    """Read a member that holds a JSON object: a dict; raises RefusedModel."""
    if archive.getinfo(name).file_size > MAX_JSON_BYTES:
        raise RefusedModel(f"its {name} is larger than {MAX_JSON_BYTES / 1e6:.0f} MB")
    try:
        value = json.loads(archive.read(name))
    except (ValueError, RecursionError, zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
        raise RefusedModel(f"its {name} cannot be read ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise RefusedModel(f"its {name} does not hold a JSON object")
    return value


def user_error(path, refused):
    """Return the UserError for a RefusedModel."""
    return UserError(
        f"{path}: is not a model file: {refused}; give a .keras file that `glcic train` or `glcic convert` wrote."
    )
