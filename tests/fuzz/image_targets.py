"""Images and masks: sound files of every format, and what reads them."""

import io

import numpy as np

MAX_PIXELS = 4 * 10**6


def make_images(folder):
    from PIL import Image
    from test_image_files import HEIC

    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((90, 70), Image.Resampling.BICUBIC)
    grey, alpha = smooth.convert("L"), smooth.copy()
    alpha.putalpha(grey)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    wide = Image.fromarray(rng.integers(0, 2**16, (40, 50), np.uint16))
    made = [
        ("a.jpg", smooth, {"exif": exif, "dpi": (300, 300), "comment": b"text"}),
        ("b.jpg", smooth, {"progressive": True, "icc_profile": _profile()}),
        ("c.jpg", grey, {"quality": 30}),
        ("d.jpg", smooth.convert("CMYK"), {}),
        (
            "e.jpg",
            smooth,
            {"subsampling": 0, "restart_marker_rows": 1, "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"},
        ),
        ("f.png", smooth, {"exif": exif, "icc_profile": _profile(), "dpi": (72, 72)}),
        ("g.png", alpha, {}),
        ("h.png", wide, {}),
        ("i.png", smooth.quantize(16), {"transparency": 3}),
        ("j.png", smooth, {"save_all": True, "append_images": [smooth.rotate(9), smooth.rotate(90)]}),
        ("k.png", grey.convert("1"), {}),
        ("l.webp", smooth, {"exif": exif}),
        ("m.webp", alpha, {"lossless": True, "icc_profile": _profile()}),
        ("n.webp", smooth, {"save_all": True, "append_images": [smooth.rotate(9)]}),
        ("o.tif", smooth, {"compression": "tiff_lzw"}),
        ("p.tif", wide, {"save_all": True, "append_images": [wide]}),
        ("q.tif", smooth, {"compression": "jpeg"}),
        ("r.tif", smooth.convert("CMYK"), {"compression": "packbits"}),
        ("s.tif", grey.convert("1"), {"compression": "group4"}),
        ("t.gif", smooth.quantize(32), {"save_all": True, "append_images": [smooth.rotate(9).quantize(32)]}),
        ("u.bmp", smooth, {}),
        ("v.bmp", smooth.quantize(16), {}),
        ("w.mpo", smooth, {"save_all": True, "append_images": [smooth.rotate(9)]}),
        ("x.avif", smooth, {"quality": 60}),
        ("y.avif", smooth, {"save_all": True, "append_images": [smooth.rotate(9)]}),
    ]
    files = []
    for name, picture, options in made:
        file = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper())
        picture.save(file, kind, **options)
        files.append((name, file.getvalue()))
    return [*files, ("z.heic", HEIC)]


def _profile():
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read_image(path):
    """As completing and training do: with metadata, and written again."""
    from glcic_tf.common.errors import UserError
    from glcic_tf.imaging import images

    number = path.stat().st_size % 4
    if number == 0:
        images.read_photo(path, MAX_PIXELS, shorter_edge_px=16)
    elif number == 1:
        images.read_mask(path, MAX_PIXELS)
    else:
        opened = images.open_image(path, MAX_PIXELS)
        output = path.with_name(f"out{opened.suffix}")
        images.write_image(output, opened.pixels, metadata=opened.metadata)
        try:
            again = images.read_image(output, MAX_PIXELS)
        except UserError as error:
            raise AssertionError(f"what was written cannot be read: {error}") from error
        assert again.shape[:2] == opened.pixels.shape[:2]
