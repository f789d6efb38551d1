"""Damaged shards and indices are refused in one line, or the next photo takes the place of a broken one."""

import hashlib
import json
import shutil
import zlib

import cv2
import numpy as np
import pytest
from shard_helpers import names

from glcic_tf.common.errors import UserError
from glcic_tf.data import shards, sources
from glcic_tf.data.examples import Photos
from glcic_tf.data.shard_index import Table


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "shards", ignore=shutil.ignore_patterns("parts"))


def damage(shard, place, content):
    with open(shard, "r+b") as file:
        file.seek(place)
        file.write(content)


def test_a_damaged_photo_is_named_and_the_next_takes_its_place(copy, caplog):
    opened = shards.Shards(copy)
    file, offset, length = opened.place(9)
    damage(file, offset + length - 5, b"\0\0\0")
    message = (
        f"{file}: is damaged at byte {offset}, in photo {opened.label(9)} ({length} bytes; their checksum differs)"
    )
    with pytest.raises(UserError) as error:
        opened.photo(9)
    assert str(error.value).startswith(message)
    photos = Photos(opened.photos(), max_failures=0.1)
    np.testing.assert_array_equal(photos.crop(9, 20, 20, (0, 0)), photos.crop(10, 20, 20, (0, 0)))
    assert list(photos.failures) == [opened.photos()[9]] and message in caplog.text
    strict = Photos(opened.photos())
    with pytest.raises(UserError, match="1 of 30 photos cannot be decoded, more than 1%: .*is damaged at byte"):
        strict.read(9)


def change_index(folder, **fields):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | fields))


def change_table(folder, **columns):
    """Change values of index.bin, with checksums as they should be."""
    opened = shards.Shards(folder)
    table = Table({name: column.copy() for name, column in opened.table.columns.items()}, opened.table.names.copy())
    for name, (number, value) in columns.items():
        if name == "names":
            table.names[:] = np.frombuffer(value.ljust(len(table.names), b"."), np.uint8)
        else:
            table.columns[name][number] = value
    content = b"".join(map(bytes, table.buffers()))
    (folder / "index.bin").write_bytes(content)
    change_index(folder, table={"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": 2}, "index.json: is of version 2; this release reads 1; use the release that made"),
        ({"format": "other"}, "holds shards|is damaged"),
        ({"photos": 29}, "is damaged, or not an index of shards; get a whole copy"),
        ({"photos": -1}, "is damaged"),
        ({"photos": 2**60}, "is damaged"),
        ({"photos": True}, "is damaged"),
        ({"shards": []}, "is damaged"),
        ({"shards": None}, "is damaged"),
        ({"shards": [{"file": "../../secret", "photos": 30, "bytes": 9, "sha256": "0" * 64}]}, "is damaged"),
        ({"shards": [{"file": "/etc/passwd", "photos": 30, "bytes": 9, "sha256": "0" * 64}]}, "is damaged"),
        ({"table": {"bytes": 9, "sha256": "0" * 64}}, "is damaged"),
        ({"table": {"bytes": 2000, "sha256": "0" * 64}}, "index.bin: has [0-9]+ bytes; expected 2000"),
    ],
)
def test_index_json_that_is_wrong(copy, fields, message):
    change_index(copy, **fields)
    with pytest.raises(UserError, match=message):
        sources.find_photos(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'"glcic_tf shards"', b"[1, 2]", b"null"])
def test_index_json_that_is_none(copy, content):
    (copy / "index.json").write_bytes(content)
    with pytest.raises(UserError, match="index.json: is damaged, or not an index of shards; get a whole copy"):
        sources.find_photos(copy)


@pytest.mark.parametrize(
    "columns",
    [
        {"offset": (0, 2**63)},
        {"offset": (29, 10**6)},
        {"length": (0, 2**32 - 1)},
        {"name_end": (3, 2**40)},
        {"name_end": (29, 5)},
        {"height": (4, 0)},
        {"width": (4, 0)},
        {"mean": (5, np.nan)},
        {"mean": (5, 300)},
    ],
)
def test_values_out_of_range(copy, columns):
    change_table(copy, **columns)
    with pytest.raises(UserError, match="index.bin: holds values that no shards have; get a whole copy"):
        shards.Shards(copy)


def test_photos_of_more_pixels_than_are_read(copy):
    change_table(copy, height=(2, 65535), width=(2, 65535))
    with pytest.raises(UserError, match="index.bin: holds values that no shards have"):
        shards.Shards(copy)


def test_a_flipped_bit_in_the_table(copy):
    damage(copy / "index.bin", 100, b"\x55")
    with pytest.raises(UserError, match="index.bin: is damaged, or not of the index.json beside it .its SHA-256"):
        shards.Shards(copy)


@pytest.mark.parametrize("name", ["index.bin", "shard-0001-00002.tfrecord"])
def test_files_that_are_missing_or_short(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    with pytest.raises(UserError, match=f"{name}: has {len(content) - 1} bytes; expected {len(content)}; get a whole"):
        shards.Shards(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: is missing, and index.json beside it names it"):
        sources.find_photos(copy)
    (copy / "index.json").unlink()
    with pytest.raises(UserError, match="holds shards and no index.json: glcic prepare has not finished"):
        sources.find_photos(copy)


def test_names_are_labels(copy):
    """Whatever they hold, nothing but the shards is read."""
    change_table(copy, names=(None, b"../../../etc/passwd\n\x1b[31m\xff"))
    opened = shards.Shards(copy)
    assert opened.photo(0).dtype == np.uint8
    assert "\n" not in str(opened.photos()[1]) and "\x1b" not in str(opened.photos()[1])
    assert "passwd" in "".join(opened.label(i) for i in range(5))
    assert len(sources.fingerprint(opened.photos())) == 16
    assert names(opened.photos())


@pytest.mark.parametrize("kind", ["larger", "png", "cut"])
def test_contents_that_are_not_as_the_index_says(copy, kind):
    """With the right checksum: still no decoder sees another size than the index has, nor anything but a JPEG."""
    opened = shards.Shards(copy)
    file, offset, length = opened.place(0)
    height, width = opened.photos()[0].size
    if kind == "cut":
        content = opened.jpeg(0)[: length // 2]
    else:
        size = (height, width) if kind == "png" else (height + 1, width)
        done, content = cv2.imencode(".png" if kind == "png" else ".jpg", np.zeros([*size, 3], np.uint8))
        content = content.tobytes()
    assert len(content) <= length
    content = content.ljust(length, b"\0")
    damage(file, offset, content)
    change_table(copy, crc32=(0, zlib.crc32(content)))
    with pytest.raises(UserError, match=f"00001.tfrecord: holds at byte {offset} no JPEG of {width} x {height} px"):
        shards.Shards(copy).photo(0)
