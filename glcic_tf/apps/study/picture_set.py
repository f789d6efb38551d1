"""Make the set of pictures of a study: half of them real, half completed, in files that do not tell which."""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from glcic_tf.apps.study import manifest
from glcic_tf.apps.study.manifest import COMPLETED, REAL
from glcic_tf.common import cli, files
from glcic_tf.common.errors import UserError, first_line
from glcic_tf.evaluation import baselines, protocols
from glcic_tf.evaluation.methods import check as check_methods
from glcic_tf.evaluation.methods import load as load_methods

_DEFAULT_ITEMS = 60
# Nothing is compressed: how small a file gets would tell that a part of it was made smooth.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 0]
_TAKEN = (REAL, "all")  # in the report, beside the methods
_TIMESTAMP = 946684800  # 2000-01-01, of all files: completed pictures take longer to make


def prepare(
    folder,
    output,
    protocol,
    models=(None,),
    methods=(),
    postprocess=("none",),
    items=None,
    practice=4,
    seed=0,
    overwrite=False,
):
    """Write a study: pictures/<id>.png and study.json.

    No photo is shown twice, be it as it is or completed; photos with equal pixels count as one. The same photos, flags
    and seed give the same study.

    Args:
        folder: photos, at any depth.
        output: folder of the study.
        protocol: a protocols.Protocol.
        models: `.keras` files and SavedModel folders; None is the package's weights.
        methods: names in baselines.METHODS.
        postprocess: names in postprocesses.POSTPROCESSES, for the models.
        items: pictures that count: a multiple of twice the number of methods; None: 60, or what the photos allow.
        practice: pictures to practise on.
        seed: decides about photos and orders.
        overwrite: replace a study that nobody has answered.

    Returns:
        `manifest.Study`.

    Raises:
        UserError: too few usable photos, or a flag that names what is not there or does not fit.
    """
    methods = list(dict.fromkeys(methods))
    _check(folder, output, models, methods, items, practice)
    photos = protocols.find_photos(folder, (protocol.masks, output))
    jobs, _ = protocols.make_jobs(photos, protocol, folder)
    members = {manifest.FILE, manifest.PICTURES}
    with files.replacing_folder(output, overwrite, "a study", manifest.FILE, members) as temporary:
        completers = load_methods(models, postprocess, taken=_TAKEN)
        completers |= {name: baselines.METHODS[name] for name in methods}
        unit = 2 * len(completers)
        if items is not None and items % unit:
            below = items // unit * unit
            raise UserError(
                f"--items={items}: expected a multiple of {unit}, half of them real and the others shared by "
                f"{len(completers)} methods; take {f'{below} or ' if below else ''}{below + unit}."
            )
        wanted = max(unit, _DEFAULT_ITEMS // unit * unit) if items is None else items
        samples = _Samples(sorted(jobs, key=lambda job: manifest.digest(seed, job.name)))
        drawn = samples.draw(wanted + practice)
        count = wanted
        if items is None:  # fewer photos, fewer pictures
            count = min(wanted, max(0, len(drawn) - practice) // unit * unit)
        if not count or len(drawn) < count + practice:
            needed = f"{count or unit} items and {practice} to practise on"
            raise UserError(f"--images={folder}: {samples.describe()}; expected one each for {needed}; add photos.")
        study = _write_pictures(temporary, drawn[: count + practice], samples, completers, practice, seed, protocol)
        manifest.write(study, temporary)
    for problem in samples.problems:
        cli.say(problem)
    print(f"{output}: {count} pictures, {count // 2} of them real, {practice} to practise on; {samples.describe()}")
    return study


def _check(folder, output, models, methods, items, practice):
    check_methods(folder, output, models, methods)
    for flag, value, least in (("items", items, 2), ("practice", practice, 0)):
        if value is not None and not least <= value <= manifest.MAX_ITEMS:
            raise UserError(f"--{flag}={value}: expected {least} to {manifest.MAX_ITEMS}.")
    if (Path(output) / manifest.ANSWERS).exists():
        raise UserError(f"{output}: holds answers of participants; choose another --output, or move it away.")


class _Samples:
    """Usable photos, each once: (job, original, hole), as of `protocols.sample`.

    Attributes:
        problems: list of lines about photos that cannot be used.
    """

    def __init__(self, jobs):
        self.problems = []
        self._jobs, self._left = len(jobs), iter(jobs)
        self._seen, self._small, self._twice = set(), 0, 0

    def draw(self, count):
        """The next `count` samples; fewer if there are no more."""
        drawn = []
        while len(drawn) < count and (job := next(self._left, None)) is not None:
            try:
                sample = protocols.sample(job)
            except UserError as error:
                self.problems.append(str(error))
                continue
            if sample is None:
                self._small += 1
                continue
            pixels = hashlib.sha256(sample[0].tobytes()).digest()
            if pixels in self._seen:
                self._twice += 1
                continue
            self._seen.add(pixels)
            drawn.append((job, *sample))
        return drawn

    def describe(self):
        """What there was, as a line."""
        return (
            f"{len(self._seen)} usable photos found ({self._jobs} in all; {self._small} too small, {self._twice} "
            f"copies, {len(self.problems)} with problems among those looked at)"
        )


def _write_pictures(folder, drawn, samples, completers, practice, seed, protocol):
    names = list(completers)
    half = (len(drawn) - practice) // 2
    plan = [None if i % 2 == 0 else names[i // 2 % len(names)] for i in range(practice)]
    plan += [None] * half + [names[i % len(names)] for i in range(half)]
    made = []
    for sample, method in tqdm(zip(drawn, plan, strict=True), total=len(plan), unit="picture", disable=None):
        picture = sample[1] if method is None else None
        while picture is None:
            job, original, hole = sample
            try:
                masked = np.where(hole[..., None], 0, original).astype(np.uint8)  # no method sees what stood there
                picture = completers[method](masked, hole)
            except (ValueError, RuntimeError) as error:
                samples.problems.append(f"{job.path}: {first_line(error)}; another photo was taken.")
                following = samples.draw(1)
                if not following:
                    raise UserError(f"{job.path}: {first_line(error)}; no photo is left to take instead.") from error
                sample = following[0]
        made.append((sample[0].name, method, picture))

    pictures = folder / manifest.PICTURES
    pictures.mkdir()
    found = []
    for part in (range(practice), range(practice, len(made))):
        shuffled = sorted(part, key=lambda i: manifest.digest(seed, "order", made[i][0]))
        found.append([])
        for place, i in enumerate(shuffled):
            name, method, picture = made[i]
            # Of the place in the shuffled order alone: nothing about the picture can be found out from it.
            id = manifest.digest(seed, "id", len(found), place)[:16]
            kind = REAL if method is None else COMPLETED
            found[-1].append((id, manifest.Item(id, kind, method, name), picture))
    for id, _, picture in sorted((entry for part in found for entry in part), key=lambda entry: entry[0]):
        data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _PNG)[1]
        path = pictures / f"{id}.png"
        path.write_bytes(data.tobytes())
        os.utime(path, (_TIMESTAMP, _TIMESTAMP))
    items = [tuple(item for _, item, _ in part) for part in found]
    return manifest.Study(protocol.describe(), seed, tuple(names), items[1], items[0])
