"""Reading shards gives what the folder that they were made from gives, on this machine and at URLs."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from shard_helpers import COUNT, names

from glcic_tf.common import storage
from glcic_tf.common.errors import UserError
from glcic_tf.data import dataset, examples, mean_pixel, shard_index, shards, sources
from glcic_tf.data.examples import Photos
from glcic_tf.data.shard_index import Table
from glcic_tf.imaging import photo_folders
from glcic_tf.training import stages


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


# As the folder.


@pytest.mark.parametrize("source", ["shards", "url of photos", "url of shards"])
def test_everything_equals_the_folder(folder, prepared, urls, config, source):
    source = {"shards": prepared, "url of photos": urls[0], "url of shards": urls[1]}[source]
    (photos, held_out), (others, others_held_out) = found(config, folder), found(config, source)
    assert names(photos.paths) == names(others.paths) and len(others.paths) == COUNT - 3
    assert names(held_out.paths) == names(others_held_out.paths)
    assert sources.fingerprint(photos.paths) == sources.fingerprint(others.paths)
    for most in (5, 100):
        mean = mean_pixel.measure(photos, most, 1, progress=False)
        assert mean == mean_pixel.measure(others, most, 1, progress=False)
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
