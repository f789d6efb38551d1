"""The bundle: a folder with the program of each stage and all that a machine without TensorFlow needs to run them.

`bundle.json` is the manifest:

    format          FORMAT
    made_with       versions of the packages that made it
    config          the run's resolved config
    mean_pixel      RGB in [0, 1]
    photos          how many there are to train on, and their `fingerprint`
    validation      "held_out" if some photos of the folder are left out to watch the run on, else "folder"
    steps_per_call  how many batches a program takes at once
    state           position of the state in `state/` (see `state_files`), null for a run that starts anew
    stages          one for each stage that is left:
        stage       the fields of stages.Stage
        program     file, and its sha256: an HloModuleProto, serialised
        arguments   names of the program's first parameters: those of steps that are not state
        variables   names, shapes, dtypes and first values of the other parameters, in their order
        results     names of the first results
        replaces    [result, parameter]: which results are the new values of which parameters
        fresh       parts of the state that begin anew with this stage
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from glcic_tf.common import files
from glcic_tf.common.errors import UserError
from glcic_tf.training.stages import GROUPS, Stage

FORMAT = 1
MANIFEST = "bundle.json"
MEMBERS = {MANIFEST, "programs", "state"}
MAX_PROGRAM_BYTES = 2**30
# What must be there, and of which type, in the manifest and in the lists and dicts in it.
_FIELDS = {
    "config": dict,
    "mean_pixel": list,
    "photos": int,
    "fingerprint": str,
    "validation": str,
    "steps_per_call": int,
    "state": dict | None,
    "stages": list,
}
_STAGE_FIELDS = {"stage": dict, "program": dict, "fresh": list}
_STAGE_FIELDS |= {"arguments": list, "variables": list, "results": list, "replaces": list}
_PROGRAM_FIELDS = {"file": str, "sha256": str}
_VARIABLE_FIELDS = {"name": str, "shape": list, "dtype": str, "first": dict}


class Bundle:
    """A bundle on disk.

    Attributes:
        folder: pathlib.Path.
        manifest: dict, as the module describes it.
        stages: list of stages.Stage, those that are left.

    Raises:
        UserError: the folder is missing or no bundle, of another version, or damaged.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"--bundle={folder}: {path.name} cannot be read ({error.strerror}); give the folder that export wrote."
            ) from error
        except (ValueError, RecursionError) as error:
            raise self._damaged(path, "is not JSON") from error
        if not isinstance(manifest, dict) or "format" not in manifest:
            raise self._damaged(path, "is not a manifest")
        if manifest["format"] != FORMAT:
            raise UserError(
                f"{path}: is of format {manifest['format']!r}, but this version reads {FORMAT}; export it anew, or run "
                "it with the version that made it."
            )
        try:
            _check(manifest)
            self.manifest, self.stages = manifest, [_stage(entry["stage"]) for entry in manifest["stages"]]
        except (KeyError, TypeError) as error:
            raise self._damaged(path, f"misses {error}") from error

    def program(self, entry):
        """Read the program of a stage: bytes of an HloModuleProto; `entry` is its part of the manifest."""
        try:
            path, expected = self.folder / "programs" / Path(entry["program"]["file"]).name, entry["program"]["sha256"]
            if path.stat().st_size > MAX_PROGRAM_BYTES:
                raise self._damaged(path, "is larger than any program")
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); copy the whole bundle again.") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise self._damaged(path, "has another checksum than the manifest says")
        return content

    def _damaged(self, path, why):
        return UserError(f"{path}: {why}; the bundle is damaged: copy it again, or export it anew.")


def write_manifest(folder, manifest):
    """Write the manifest of a bundle: its last file."""
    with files.replacing(Path(folder) / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def stage_fields(stage):
    """Turn a stages.Stage into a dict of JSON's types."""
    return dataclasses.asdict(stage)


def _check(manifest):
    """Raise KeyError or TypeError if a part of the manifest is missing or of another type."""

    def check(part, fields):
        for name, kind in fields.items():
            if not isinstance(part[name], kind):
                raise KeyError(name)

    check(manifest, _FIELDS)
    for entry in manifest["stages"]:
        check(entry, _STAGE_FIELDS)
        check(entry["program"], _PROGRAM_FIELDS)
        for variable in entry["variables"]:
            check(variable, _VARIABLE_FIELDS)


def _stage(fields):
    return Stage(**{name: GROUPS[name](**value) if name in GROUPS else value for name, value in fields.items()})
