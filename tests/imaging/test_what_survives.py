"""The table of docs/completion.md, of what survives in which format, against small files that are written and read."""

from pathlib import Path

import numpy as np
import pytest
from image_helpers import by_pillow, jpeg, png, ramp, turned
from PIL import Image, ImageCms

from glcic_tf.imaging import images
from glcic_tf.imaging.image_metadata import Metadata

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "TIFF": ".tif", "AVIF": ".avif", "BMP": ".bmp"}
MORE_THAN_64_KB = 70_000
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOISE = np.random.default_rng(0).integers(0, 2**16, (24, 40, 4), np.uint16)
NOISE_8 = (NOISE >> 8).astype(np.uint8)


def table():
    """{row: {format: what it says}}, as the document prints it."""
    text = (Path(__file__).parents[2] / "docs" / "completion.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    start = next(i for i, line in enumerate(lines) if "JPEG" in line and "BMP" in line)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 14]]
    return {name: dict(zip(rows[0][1:], cells, strict=True)) for name, *cells in rows[2:]}


def written(place, pixels, **metadata):
    """What is read of pixels and metadata that were written to `place`, a path."""
    images.write_image(place, pixels, metadata=Metadata(**metadata))
    return images.open_image(place)


def known_pixels(place):
    return (
        "bit for bit" if np.array_equal(written(place, NOISE_8[..., :3]).pixels, NOISE_8[..., :3]) else "encoded anew"
    )


def chroma_sampling(place):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255, 0, 0
    if place.suffix != ".jpg":
        return "all" if np.array_equal(written(place, stripes).pixels, stripes) else "some"
    factors = []
    for subsampling in (0, 1, 2, None):
        source = place.with_name("in.jpg" if subsampling is not None else "in.png")
        source.write_bytes(png() if subsampling is None else jpeg(subsampling=subsampling))
        opened = images.open_image(source)
        images.write_image(place, opened.pixels, metadata=opened.metadata)
        factors.append(by_pillow(place).layer[0][1:3])
    expected = [(1, 1), (2, 1), (2, 2), (1, 1)]
    return "that of the photo; 4:4:4 if it was not a JPEG" if factors == expected else str(factors)


def sixteen_bit(place):
    found = written(place, NOISE[..., :3]).pixels
    if found.dtype == np.uint8:
        return "becomes 8"
    off = np.abs(found.astype(int) - NOISE[..., :3]).max()
    return "kept" if off == 0 else "becomes 12" if off < 16 else f"{off} off"


def alpha(place):
    found = written(place, NOISE_8).pixels
    if found.shape[2] == 3:
        return "dropped"
    return "kept" if np.array_equal(found[..., 3], NOISE_8[..., 3]) else "changed"


def grey(place):
    found = written(place, ramp(24, 40)[..., :1]).pixels
    return {1: "kept", 3: "becomes RGB"}[found.shape[2]]


def palette_and_cmyk(place):
    modes = set()
    Image.fromarray(ramp(24, 40)).quantize(16).save(place.with_name("in.png"))
    Image.fromarray(ramp(24, 40)).convert("CMYK").save(place.with_name("in.tif"))
    for name in ("in.png", "in.tif"):
        images.write_image(place, images.open_image(place.with_name(name)).pixels)
        modes.add(by_pillow(place).mode)
    return "become RGB" if modes == {"RGB"} else str(modes)


def _blob(place, name, value, long):
    """Whether metadata survive, also such as are long."""
    found = getattr(written(place, NOISE_8[..., :3], **{name: value}).metadata, name)
    if found != value:
        return "dropped" if not found else "changed"
    found = getattr(written(place, NOISE_8[..., :3], **{name: long}).metadata, name)
    return "kept" if found == long else "kept, up to 64 kB" if not found else "changed"


def profile(place):
    padded = (len(ICC) + MORE_THAN_64_KB).to_bytes(4) + ICC[4:] + bytes(MORE_THAN_64_KB)
    return _blob(place, "icc", ICC, padded)


def xmp(place):
    return _blob(place, "xmp", b"<x:xmpmeta/>", b"<x:xmpmeta>" + b"x" * MORE_THAN_64_KB + b"</x:xmpmeta>")


def iptc(place):
    record = b"\x1c\x02\x78\x00\x05Words"
    return _blob(place, "iptc", record, record * (MORE_THAN_64_KB // len(record)))


def texts(place):
    given = (("parameters", "a red house"), ("Titel", "Bäume 木"))
    found = written(place, NOISE_8[..., :3], text=given).metadata.text
    return "kept" if found == given else "dropped" if not found else "changed"


def exif_tags(place, words):
    """Which tags of EXIF survive, as Pillow reads them from the file."""
    given = turned(1)
    given[0x013B], given[0x010E] = "Ann", words
    given[0x8769][0x9286] = b"ASCII\0\0\0note"
    written(place, NOISE_8[..., :3], exif=given.tobytes().removeprefix(b"Exif\0\0"))
    found = by_pillow(place).getexif()
    details, location = found.get_ifd(0x8769), found.get_ifd(0x8825)
    return [
        found.get(0x010F) == "Maker",
        found.get(0x013B) == "Ann",
        found.get(0x010E) == words,
        details.get(0x9003) == "2024:05:06 07:08:09",
        details.get(0x9286) == b"ASCII\0\0\0note",
        location.get(2) == (52.0, 31.0, 12.25),
    ]


def exif(place):
    found = [exif_tags(place, words) for words in ("words", "w" * MORE_THAN_64_KB)]
    if not all(all(kept) or not any(kept) for kept in found):
        return str(found)
    return {(True, True): "kept", (True, False): "kept, up to 64 kB"}.get((found[0][0], found[1][0]), "dropped")


def resolution(place):
    found = written(place, NOISE_8[..., :3], dpi=(300, 150)).metadata.dpi
    if found:
        assert found == pytest.approx((300, 150), rel=1e-4)
        assert by_pillow(place).info["dpi"] == pytest.approx((300, 150), rel=1e-4)
        return "kept"
    tags = Image.Exif()
    tags[0x011A] = 300.0
    written(place, NOISE_8[..., :3], exif=tags.tobytes().removeprefix(b"Exif\0\0"))
    return "in EXIF alone" if by_pillow(place).getexif().get(0x011A) == 300 else "dropped"


ROWS = {
    "known pixels": known_pixels,
    "chroma sampling": chroma_sampling,
    "16 bit": sixteen_bit,
    "alpha (opaque in the hole)": alpha,
    "grey": grey,
    "palette, CMYK": palette_and_cmyk,
    "ICC profile": profile,
    "EXIF": exif,
    "XMP": xmp,
    "IPTC": iptc,
    "texts of a PNG": texts,
    "resolution (dpi)": resolution,
}


def test_the_table_has_these_rows():
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_what_survives_is_what_the_table_says(tmp_path, row):
    assert table()[row] == {name: ROWS[row](tmp_path / f"out{suffix}") for name, suffix in SUFFIXES.items()}
