"""Which mask of a folder belongs to which photo of another, by their names."""

import re
import unicodedata
from pathlib import Path

from glcic_tf.common.errors import UserError
from glcic_tf.imaging.image_formats import PHOTO_SUFFIXES

_MASK_NAME = re.compile(r"(.+)[_-]mask\d*$", re.IGNORECASE)


def is_named_as_mask(path):
    """Whether a file is named photo_mask.png, photo_mask001.png or so."""
    return _MASK_NAME.match(Path(path).stem) is not None


def pair(photos, masks):
    """Find the mask of each photo.

    A mask of photo.jpg is named photo.jpg.png, photo.png, photo_mask.png or photo_mask001.png, with any suffix of an
    image; upper and lower case are the same, and so are the two ways to write an accent. It stands at the same place
    below its folder as the photo below its own, or right in its folder.

    Args:
        photos, masks: relative pathlib.Path, from the folder of photos and from that of masks on.

    Returns:
        List with a path of `masks`, or None, for each photo.

    Raises:
        UserError: two masks would do for one photo; their names are in the message.
    """
    known = {}  # name without regard to spelling -> [(rank, name as it is spelt, mask)]
    for mask in masks:
        for rank, name in _photos_of(mask):
            known.setdefault(_folded(name), []).append((rank, name, mask))
    found = [_candidates(photo, known) for photo in photos]
    # What is named exactly as one photo is not the mask of another that is named similarly.
    best = {}
    for candidates in found:
        for mask, rank in candidates.items():
            best[mask] = min(rank, best.get(mask, rank))
    return [_chosen(photo, candidates, best) for photo, candidates in zip(photos, found, strict=True)]


def _photos_of(mask):
    """Yield (rank, name of a photo that it may be of); the lower the rank, the nearer the names."""
    yield 1, mask.with_suffix("")
    if mask.with_suffix("").suffix.lower() in PHOTO_SUFFIXES:
        yield 0, mask.with_suffix("")
    named = _MASK_NAME.match(mask.stem)
    if named:
        yield 2, mask.with_name(named[1])


def _candidates(photo, known):
    """Return {mask: rank}, of the masks at the photo's place, or else of those right in the folder."""
    for place in (photo, Path(photo.name)):
        near = []
        for name, ranks in ((place, (0, 2)), (place.with_suffix(""), (1, 2))):
            near += [(rank, spelt != name, mask) for rank, spelt, mask in known.get(_folded(name), ()) if rank in ranks]
        # Where two names differ in spelling alone, the one that is spelt as the photo is meant.
        exact = [entry for entry in near if not entry[1]] or near
        if exact:
            return {mask: min(r for r, _, m in exact if m == mask) for _, _, mask in exact}
    return {}


def _chosen(photo, candidates, best):
    own = [mask for mask, rank in candidates.items() if rank == best[mask]]
    if len(own) > 1:
        first, second = sorted(own)[:2]
        raise UserError(f"{photo}: {first} and {second} may both be its mask; remove one, or rename it.")
    return own[0] if own else None


def _folded(path):
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in path.parts)
