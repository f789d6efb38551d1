"""Reading shards: as the folder that they were made of, on this machine and behind URLs; damaged and hostile ones."""

import dataclasses
import hashlib
import json
import shutil
import sys
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.data import dataset, examples, shard_index, shards, sources
from glcic_tf.data.examples import Photos
from glcic_tf.data.prepare import prepare_folder
from glcic_tf.data.shard_index import Table
from glcic_tf.imaging import photo_folders
from glcic_tf.training import stages

COUNT = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty small JPEGs of several sizes, in folders whose names sort otherwise as strings."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        path = folder / ("a", "a-b", "ü")[i % 3] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8))
        small.resize((20 + i, 40 - i // 2), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "shards"
    assert prepare_folder.prepare(folder, output, shard_mb=0.008, processes=1)["copied"] == COUNT
    return output


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "shards", ignore=shutil.ignore_patterns("parts"))


@pytest.fixture(scope="module")
def urls(folder, prepared):
    """TensorFlow's file system in memory stands for a bucket: the code is the same for every URL."""
    for source, url in ((folder, "ram://bucket/photos"), (prepared, "ram://bucket/shards")):
        for path in sorted(source.rglob("*")):
            target = f"{url}/{path.relative_to(source)}"
            if path.is_dir():
                tf.io.gfile.makedirs(target)
            elif "parts" not in path.parts and not path.name.startswith("."):
                tf.io.gfile.makedirs(target.rpartition("/")[0])
                tf.io.gfile.copy(str(path), target)
    return "ram://bucket/photos", "ram://bucket/shards"


@pytest.fixture
def config(small_config):
    config = small_config(4)
    config.data.validation_photos = 3
    return config


def found(config, source, val=None):
    photos, val_photos = sources.find(config, source, val, 4)
    return photos, val_photos


def names(paths):
    return [path.name for path in paths]


# As the folder.


@pytest.mark.parametrize("source", ["shards", "url of photos", "url of shards"])
def test_everything_equals_the_folder(folder, prepared, urls, config, source):
    source = {"shards": prepared, "url of photos": urls[0], "url of shards": urls[1]}[source]
    (photos, held_out), (others, others_held_out) = found(config, folder), found(config, source)
    assert names(photos.paths) == names(others.paths) and len(others.paths) == COUNT - 3
    assert names(held_out.paths) == names(others_held_out.paths)
    assert sources.fingerprint(photos.paths) == sources.fingerprint(others.paths)
    for most in (5, 100):
        mean = sources.mean_pixel(photos, most, 1, progress=False)
        assert mean == sources.mean_pixel(others, most, 1, progress=False)
    stage = dataclasses.replace(stages.resolve(config)[0], start=10, steps=8, first_example=77)
    for step in (10, 16):
        one, other = (examples.batch(p, stage, 3, step, mirror=True) for p in (photos, others))
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    last = list(dataset.batches(others, stage, 3, 16).as_numpy_iterator())
    assert len(last) == 2
    np.testing.assert_array_equal(last[0]["image"], examples.batch(photos, stage, 3, 16)["image"])
    for photo, other in zip(held_out.paths, others_held_out.paths, strict=True):
        np.testing.assert_array_equal(photo.read(), other.read())


def test_photos_to_watch_training_on_may_be_shards_too(folder, prepared, config):
    _, one = found(config, folder, folder)
    _, other = found(config, prepared, prepared)
    assert names(one.paths) == names(other.paths) and len(one.paths) == 3
    with pytest.raises(UserError, match="--data_dir=.*shards: 30 photos to train on, fewer than one batch of 31"):
        sources.find(config, prepared, prepared, 31)


def test_small_photos_are_left_out_without_reading_them(prepared, monkeypatch):
    photos = Photos(shards.Shards(prepared).photos(), enlarge=False)
    small = [i for i, path in enumerate(photos.paths) if min(path.size) < 30]
    assert small and len(small) < COUNT
    read = []
    photo = shards.Shards.photo
    monkeypatch.setattr(shards.Shards, "photo", lambda self, number: read.append(number) or photo(self, number))
    for index in range(COUNT):
        assert photos.crop(index, 30, 30, (0.5, 0.5)).shape == (30, 30, 3)
    assert not set(read) & set(small)
    assert {path.number for path in photos.too_small} == set(small)


def test_a_sequence_of_photos(prepared):
    photos = shards.Shards(prepared).photos()
    assert len(photos) == COUNT and photos[-1] == photos[COUNT - 1] != photos[0]
    assert [path.number for path in photos[3:9:2]] == [3, 5, 7]
    assert len({*photos, *photos}) == COUNT
    assert photos[1].parent == prepared
    assert str(photos[0]) == f"{prepared}/shard-0001-00001.tfrecord: a/00.jpg"
    turned = photos.select(np.arange(COUNT)[::-1])
    assert [name.decode() for part in turned.file_names() for name in part] == names(turned) == names(photos)[::-1]


def test_file_names_in_pieces(prepared, monkeypatch):
    photos = shards.Shards(prepared).photos()
    whole = sources.fingerprint(photos)
    monkeypatch.setattr(shards, "_AT_ONCE", 7)
    assert len(list(photos.file_names())) == 5 and sources.fingerprint(photos) == whole


def test_folders_of_photos_that_are_none_of_shards(folder, tmp_path, config):
    mixed = shutil.copytree(folder, tmp_path / "photos")
    (mixed / "index.json").write_text('{"format": "of somebody else"}')
    assert names(found(config, mixed)[0].paths) == names(found(config, folder)[0].paths)


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_photo_names_are_those_of_find_photos(folder, urls, kind):
    expected = [path.relative_to(folder).as_posix() for path in photo_folders.find_photos(folder)]
    assert sources.photo_names(folder if kind == "local" else urls[0]) == expected


# URLs.


def test_urls_that_cannot_be_read(urls, config, tmp_path):
    with pytest.raises(UserError, match="ram://bucket/none: expected a folder of photos, found nothing"):
        found(config, "ram://bucket/none")
    tf.io.gfile.makedirs("ram://bucket/empty")
    with pytest.raises(UserError, match="ram://bucket/empty: holds no photo; expected files that end in .jpg"):
        found(config, "ram://bucket/empty")
    with pytest.raises(UserError, match="^nothing://bucket/photos.*: nothing:// is not known; expected gs://, s3://"):
        found(config, "nothing://bucket/photos")
    with tf.io.gfile.GFile("ram://bucket/empty/broken.jpg", "wb") as file:
        file.write(b"\xff\xd8\xff")
    broken = sources.find_photos("ram://bucket/empty")[0]
    with pytest.raises(UserError, match="^ram://bucket/empty/broken.jpg: is broken or incomplete"):
        broken.read()
    assert (str(broken), broken.parent) == ("ram://bucket/empty/broken.jpg", "ram://bucket/empty")


def test_photos_behind_urls_are_bounded(urls, monkeypatch):
    monkeypatch.setattr("glcic_tf.common.storage._MAX_FILE_BYTES", 100)
    with pytest.raises(UserError, match="ram://.*.jpg: has [0-9]+ bytes; expected a file of at most 100"):
        sources.find_photos(urls[0])[0].read()


def test_urls_without_tensorflow(monkeypatch, config):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match="gs://bucket/photos.*: reading a URL needs TensorFlow; install it, or copy"):
        found(config, "gs://bucket/photos")


def test_joining_paths_and_urls(tmp_path):
    assert storage.join("gs://bucket/photos/", "a").url == "gs://bucket/photos/a"
    assert storage.join(tmp_path, "a") == tmp_path / "a"


# Damaged, hostile.


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


# Tables.


def table_of(*rows):
    """Names and what else there is about some photos."""
    columns = {
        name: np.arange(len(rows) * int(np.prod(shape))).reshape(len(rows), *shape).astype(dtype)
        for name, (dtype, shape) in shard_index.COLUMNS.items()
    }
    columns["name_end"] = np.cumsum([len(name) for name in rows], dtype=np.uint64)
    return Table(columns, np.frombuffer(b"".join(rows), np.uint8))


def test_tables_go_to_bytes_and_back_together_and_apart():
    lists = [[b"a", b"", b"some/name"], [], [b"\xff\n", b"x"]]
    table = Table.concatenate([table_of(*names) for names in lists])
    every = sum(lists, [])
    assert [table.name(i) for i in range(len(table))] == every
    assert table.width.tolist() == [0, 1, 2, 0, 1] and table.mean.shape == (5, 3)
    chosen = np.array([True, False, True, False, True])
    assert [table.select(chosen).name(i) for i in range(3)] == [every[0], every[2], every[4]]
    assert table.select(chosen).mean.tolist() == table.mean[chosen].tolist()
    content = np.frombuffer(b"".join(map(bytes, table.buffers())), np.uint8)
    assert len(content) == 5 * shard_index.ROW_BYTES + sum(map(len, every))
    again = Table.from_bytes(content, 5)
    assert [again.name(i) for i in range(5)] == every
    for name in shard_index.COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    assert len(Table.concatenate([])) == len(table.select(np.zeros(5, bool))) == 0
    with pytest.raises(AttributeError, match="nothing"):
        table.nothing  # noqa: B018
