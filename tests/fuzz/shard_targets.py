"""Shards, whole and in parts that are to be merged."""

import contextlib
import hashlib
import json
import shutil

import numpy as np
from mutators import spoil, spoil_json


def make_shards(folder):
    from PIL import Image

    from glcic_tf.data.prepare import prepare_folder

    (folder / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize(
            (40 + i, 36), Image.Resampling.BICUBIC
        )
        small.save(folder / "photos" / f"{i}.jpg", quality=90)
    prepare_folder.prepare(folder / "photos", folder / "shards", shard_mb=0.003, processes=1)
    return folder


def spoil_shards(made, folder, rng):
    """Spoil one of the files; half of the time, what the index says of it is made true again."""
    output = folder / "shards"
    shutil.copytree(made / "shards", output)
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    path = rng.choice(
        [path for path in paths if path.name != "index.json"] if rng.random() < 0.7 else [output / "index.json"]
    )
    content = path.read_bytes()
    path.write_bytes((spoil_json if path.suffix == ".json" else spoil)(content, rng))
    index = output / "index.json"
    if path != index and path.parent == output and rng.random() < 0.7:
        told = json.loads(index.read_text())
        entry = next((e for e in [*told["shards"], told["table"]] if e.get("file", "index.bin") == path.name), {})
        entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        index.write_text(json.dumps(told))
    return made / "photos", output


def read_shards(given):
    from glcic_tf.common.errors import UserError
    from glcic_tf.data import shards
    from glcic_tf.data.prepare import merge

    _, output = given
    with contextlib.suppress(UserError):
        merge.verify(output)
    opened, failure = shards.Shards(output), None
    for number in range(min(len(opened.table), 50)):
        opened.label(number)
        try:
            opened.photo(number)
        except UserError as error:
            failure = error
    list(opened.photos().file_names())
    if failure:
        raise failure


def spoil_parts(made, folder, rng):
    output = folder / "shards"
    shutil.copytree(made / "shards", output)
    (output / "index.json").unlink()
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    path = rng.choice(paths)
    path.write_bytes((spoil_json if path.suffix == ".json" else spoil)(path.read_bytes(), rng))
    return output


def read_parts(output):
    from glcic_tf.data import shards
    from glcic_tf.data.prepare import merge

    merge.merge(output)
    shards.Shards(output)
