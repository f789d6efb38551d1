"""Batches depend on (seed, number of the example) alone: order, crops, mirroring and holes."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from example_helpers import break_photo, stage, write_photos

from glcic_tf.data import examples
from glcic_tf.data.examples import Photos
from glcic_tf.data.random_holes import HoleSpec


def batches_of(photos, stage, seed=0, **options):
    return [examples.batch(photos, stage, seed, step, **options) for step in range(stage.start, stage.end)]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


class Recorder(Photos):
    """Records what is asked of it and reads no file; photo i is i everywhere, but 255 in its first column."""

    def __init__(self, count):
        super().__init__(range(count))
        self.calls = []

    def crop(self, index, short_edge, size, position, short_edge_max):
        with self._lock:
            self.calls.append((int(index), int(short_edge), *np.asarray(position).tolist()))
        photo = np.full([size, size, 3], int(index), np.uint8)
        photo[:, 0] = 255
        return photo


def order_of(batches):
    """Numbers of the photos of a Recorder in their order."""
    return np.concatenate([batch["image"][:, 0, 8, 0] for batch in batches])


@pytest.fixture(scope="module")
def run():
    """The batches of a run over 12 photos: 60 steps, 20 epochs, seed 0; and what it asked for, in its order."""
    photos = Recorder(12)
    return batches_of(photos, stage(steps=60), mirror=True), photos.calls


def test_batches_have_the_documented_shapes(run):
    batches, _ = run
    assert len(batches) == 60
    for batch in batches:
        shapes = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
        assert shapes == {
            "image": ((4, 16, 16, 3), "uint8"),
            "mask": ((4, 16, 16, 1), "uint8"),
            "patch": ((4, 2), "int32"),
            "real_patch": ((4, 2), "int32"),
        }
        for mask, (top, left) in zip(batch["mask"], batch["patch"], strict=True):
            assert mask[top : top + 8, left : left + 8].sum() == mask.sum() > 0
        assert (batch["real_patch"] >= 0).all() and (batch["real_patch"] <= 8).all()
        assert (batch["patch"] != batch["real_patch"]).any()


def test_pool_changes_nothing(tmp_path):
    """With a broken photo, in a stage that does not begin at 0; the examples stand in the order of their numbers."""
    paths = write_photos(tmp_path, 101)
    break_photo(paths[0])
    late = stage(start=10, steps=30, first_example=77, hole=HoleSpec(kind="free_form", brush_min_px=2, brush_max_px=4))
    photos, others = Photos(paths), Photos(paths)
    with ThreadPoolExecutor(3) as pool:
        for step in (10, 17, 39):
            one = examples.batch(photos, late, 3, step, mirror=True)
            assert_equal([examples.batch(others, late, 3, step, mirror=True, pool=pool)], [one])
            for place in range(4):
                single = examples.example(photos, late, 3, 77 + 4 * (step - 10) + place, mirror=True)
                assert_equal([single], [{name: value[place] for name, value in one.items()}])


def test_seeds_give_other_orders_crops_and_holes(run):
    photos = Recorder(12)
    other = batches_of(photos, stage(steps=3), seed=1)
    batches, calls = run
    assert not {mask.tobytes() for b in other for mask in b["mask"]} & {m.tobytes() for m in batches[0]["mask"]}
    assert order_of(other).tolist() != order_of(batches[:3]).tolist()
    assert not {call[2:] for call in photos.calls} & {call[2:] for call in calls}


def test_a_stage_goes_on_where_the_one_before_ended(run):
    """Were the first 55 steps a stage of their own, the others would see the same examples."""
    batches, _ = run
    second = stage(start=55, steps=5, first_example=220)
    assert_equal(batches_of(Recorder(12), second, mirror=True), batches[55:])


def test_every_photo_comes_once_per_epoch(run):
    epochs = order_of(run[0]).reshape(20, 12)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
        assert list(epoch) != sorted(epoch)
    assert len({tuple(epoch) for epoch in epochs}) == 20, "two epochs have the same order"


def test_orders_do_not_come_again():
    """Neither in another epoch nor under another seed, near or far."""
    orders = {
        tuple(examples.photo_index(40, seed, 40 * epoch + place) for place in range(40))
        for seed in (0, 1, 256, 2**31 - 1)
        for epoch in (0, 1, 2, 255, 256, 2**31, 2**32)
    }
    assert len(orders) == 4 * 7


def test_order_of_an_epoch_is_drawn_once_however_many_threads_ask(monkeypatch):
    drawn = []

    def permutation(rng, count):
        drawn.append(count)
        time.sleep(0.02)
        return np.arange(count, dtype=np.uint32)

    monkeypatch.setattr(examples.random_streams, "permutation", permutation)
    examples._photo_order.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: examples.photo_index(50, 0, number), range(100)))
    examples._photo_order.cache_clear()  # the next test draws for itself
    assert found == [*range(50)] * 2
    assert drawn == [50, 50]


def test_one_photo_is_enough_for_a_batch():
    assert order_of(batches_of(Recorder(1), stage())).tolist() == [0] * 8


def test_shorter_edge_and_position_cover_their_ranges(run):
    _, calls = run
    _, short_edges, y, x = np.array(calls).T
    assert set(short_edges) == set(range(16, 25))
    for position in (y, x):
        assert 0 <= position.min() < 0.03 and 0.97 < position.max() < 1
    assert np.abs(np.corrcoef([short_edges, y, x]) - np.eye(3)).max() < 5 / np.sqrt(240)


def test_mirror_turns_half_of_the_crops(run):
    crops = np.concatenate([batch["image"] for batch in run[0]])
    mirrored = crops[:, 0, -1, 0] == 255
    assert (mirrored != (crops[:, 0, 0, 0] == 255)).all()
    assert 90 < mirrored.sum() < 150


def test_mirroring_moves_no_other_draw():
    plain, mirrored = (batches_of(Recorder(12), stage(steps=10), mirror=mirror) for mirror in (False, True))
    for one, other in zip(plain, mirrored, strict=True):
        for name in ("mask", "patch", "real_patch"):
            np.testing.assert_array_equal(one[name], other[name])
        turned = (one["image"] != other["image"]).any((1, 2, 3))
        np.testing.assert_array_equal(
            np.where(turned[:, None, None, None], one["image"][:, :, ::-1], one["image"]), other["image"]
        )


def test_kind_of_hole_moves_no_crop():
    first, second = Recorder(12), Recorder(12)
    batches_of(first, stage())
    batches_of(second, stage(hole=HoleSpec(kind="free_form", count_max=3, brush_min_px=2, brush_max_px=4)))
    assert first.calls == second.calls


def test_numbers_drawn_are_those_of_ever():
    """Frozen: other numbers would make another run of every run that resumes, and part the runtimes from each other."""
    assert [examples.photo_index(100, 0, number) for number in range(10)] == [66, 0, 54, 43, 69, 38, 21, 91, 85, 2]
    photos = Recorder(100)
    for number in range(4):
        examples.example(photos, stage(), 0, number)
    assert photos.calls == [
        (66, 23, 0.7513314251083365, 0.6716490436969984),
        (0, 17, 0.18831832113628233, 0.8562620526031544),
        (54, 24, 0.25172170352721357, 0.7057929596782753),
        (43, 23, 0.6534268809720962, 0.5309630007512666),
    ]
    # Pixels in the hole, patch, real_patch.
    expected = {
        "rectangle": [(719, 5, 32, 0, 20), (760, 9, 0, 32, 32), (153, 7, 8, 8, 30), (715, 32, 0, 0, 32)],
        "blob": [(914, 0, 14, 32, 4), (733, 9, 21, 32, 18), (583, 13, 19, 32, 29), (876, 12, 32, 6, 0)],
        "stroke": [(396, 24, 32, 15, 20), (522, 31, 32, 0, 32), (92, 23, 0, 18, 32), (427, 32, 27, 24, 32)],
        "free_form": [(382, 32, 21, 32, 0), (356, 32, 7, 1, 14), (951, 32, 5, 6, 32), (941, 0, 18, 29, 13)],
    }
    for kind, golden in expected.items():
        hole = HoleSpec(kind=kind, count_max=3, min_px=8, max_px=24, brush_min_px=4, brush_max_px=9)
        larger = stage(image_size=64, patch_size=32, short_edge_min_px=64, short_edge_max_px=64, hole=hole)
        made = [examples.example(photos, larger, 0, number) for number in range(4)]
        found = [(int(one["mask"].sum()), *one["patch"].tolist(), *one["real_patch"].tolist()) for one in made]
        assert found == golden, kind


def test_example_numbers_beyond_32_bits():
    """Far more examples than any run draws; the order still is a permutation, and the draws still differ."""
    far = stage(start=2**33, steps=3, first_example=4 * 2**33)
    found = batches_of(Recorder(12), far, seed=2**31 - 1)
    order = order_of(found)
    first = (12 - 4 * 2**33 % 12) % 12  # where the next epoch begins
    assert len(set(order[:first])) == first and len(set(order[first:])) == 12 - first
    assert len({mask.tobytes() for batch in found for mask in batch["mask"]}) > 8
