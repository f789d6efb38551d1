"""Removals by `--postprocess=auto` beside PatchMatch's, in an order that nobody knows, to be judged by eye.

python -m benchmarks.blind_pairs --images photos/ --output pairs/            # 01.png ...: hole | A | B, and key.json
python -m benchmarks.blind_pairs --output pairs/ --answers=A,B,B,-,A         # opens the key; -: no preference

Half of the holes are rectangles of the preset `places`, half are blobs of 5-20 % of the crop, as objects are.
"""

import json
from pathlib import Path

import numpy as np
from absl import flags

from glcic_tf.apps.study import statistics
from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.data.random_holes import HoleSpec, draw_hole
from glcic_tf.evaluation import baselines, protocols
from glcic_tf.imaging import images, pictures

_IMAGES = flags.DEFINE_string("images", None, "folder of photos")
_MODEL = flags.DEFINE_string("model", None, "model file; by default the one that ships")
_PAIRS = flags.DEFINE_integer("pairs", 40, "how many", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "of photos, blobs and order")
_ANSWERS = flags.DEFINE_list("answers", [], "A, B or - for each picture in order")
_OUTPUT = flags.DEFINE_string("output", None, "folder of the pictures", required=True)
_OBJECT = HoleSpec(kind="blob", area_min=0.05, area_max=0.2)


def run():
    output = Path(_OUTPUT.value)
    if _ANSWERS.value:
        return _count(json.loads((output / "key.json").read_text()), _ANSWERS.value)
    return _draw(output)


def _draw(output):
    from glcic_tf.completion.completer import Completer

    if not _IMAGES.value:
        raise UserError("--images: is missing; name a folder of photos.")
    completer, protocol = Completer.load(_MODEL.value), protocols.PRESETS["places"]
    rng = np.random.default_rng(_SEED.value)
    paths = protocols.find_photos(Path(_IMAGES.value))
    output.mkdir(parents=True)
    key = []
    for path in rng.permutation(np.array(paths, object)):
        photo = protocols.crop(images.read_photo(path), protocol.size)
        if photo is None:
            continue
        rectangle = len(key) % 2 == 0
        hole = (
            protocols.hole(protocol, path.stem) if rectangle else draw_hole(rng, protocol.size, _OBJECT)[0][..., 0] == 1
        )
        pair = {"auto": completer(photo, hole), "patch_match": baselines.patch_match(photo, hole)}
        order = [str(name) for name in rng.permutation(sorted(pair))]
        row = {"hole": pictures.masked(photo, hole), "A": pair[order[0]], "B": pair[order[1]]}
        key.append({"photo": path.name, "hole": "rectangle" if rectangle else "blob", "A": order[0], "B": order[1]})
        images.write_image(output / f"{len(key):02d}.png", pictures.labelled(row))
        if len(key) == _PAIRS.value:
            break
    (output / "key.json").write_text(json.dumps(key, indent=1))


def _count(key, answers):
    if len(answers) != len(key) or set(answers) - set("AB-"):
        raise UserError(
            f"--answers: found {len(answers)} of {', '.join(sorted(set(answers)))}; expected {len(key)} of A, B, -."
        )
    chosen = [pair.get(answer, "-") for pair, answer in zip(key, answers, strict=True)]
    for kind in ("rectangle", "blob", "all"):
        of_kind = [name for name, pair in zip(chosen, key, strict=True) if kind in (pair["hole"], "all")]
        auto = statistics.share(of_kind.count("auto"), len(of_kind))
        print(
            f"{kind}: auto preferred in {auto.count} of {auto.n} ({auto.low:.0%} to {auto.high:.0%}), PatchMatch in "
            f"{of_kind.count('patch_match')}, neither in {of_kind.count('-')}"
        )


if __name__ == "__main__":
    cli.run(run)
