"""mask_pairs: which mask belongs to which photo, by names alone."""

import unicodedata
from pathlib import Path

import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.completion import mask_pairs

COMPOSED, APART = (unicodedata.normalize(form, "Bäume.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("photos", "masks", "expected"),
    [
        (["a.jpg"], ["a.png"], ["a.png"]),
        (["a.jpg"], ["a.jpg.png"], ["a.jpg.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"], ["a.jpg.png", "a.png.png"]),
        (["a.jpg"], ["a_mask.png"], ["a_mask.png"]),
        (["a.jpg", "b.jpg"], ["b_mask001.png", "a_mask000.png"], ["a_mask000.png", "b_mask001.png"]),
        (["a.jpg"], ["a.jpg_mask.png"], ["a.jpg_mask.png"]),
        (["A.JPG"], ["a.png"], ["a.png"]),
        (["a.jpg", "A.jpg"], ["a.png", "A.png"], ["a.png", "A.png"]),
        ([COMPOSED], [APART.replace("jpg", "png")], [APART.replace("jpg", "png")]),
        (["a.jpg", "a_mask.jpg"], ["a.png", "a_mask.png"], ["a.png", "a_mask.png"]),
        (["sub/a.jpg", "a.jpg"], ["sub/a.png", "a.png"], ["sub/a.png", "a.png"]),
        (["sub/a.jpg", "b.jpg"], ["a.png", "c.png"], ["a.png", None]),
        (["a.v2.jpg"], ["a.png", "a.v2.png"], ["a.v2.png"]),
    ],
)
def test_pairs(photos, masks, expected):
    found = mask_pairs.pair([Path(p) for p in photos], [Path(m) for m in masks])
    assert found == [None if name is None else Path(name) for name in expected]


@pytest.mark.parametrize(
    ("photo", "masks"),
    [
        ("a.jpg", ["a.png", "a.bmp"]),
        ("a.jpg", ["a.png", "a_mask.png"]),
        ("a.jpg", ["a_mask.png", "a_mask001.png"]),
        ("aB.jpg", ["ab.png", "AB.png"]),
    ],
)
def test_two_masks_of_one_photo_are_named(photo, masks):
    with pytest.raises(UserError) as refused:
        mask_pairs.pair([Path(photo)], [Path(m) for m in masks])
    message = str(refused.value)
    assert message.startswith(f"{photo}: ") and all(mask in message for mask in masks)
