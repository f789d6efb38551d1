"""The formats of image files: which are read, which are written, and what each can hold.

A file's format is told by its content when it is read, and by its suffix when it is written.
"""

import dataclasses

MAX_PIXELS = 2**28  # 268 megapixels: above any camera's photo, and 0.8 GB as 8-bit RGB
JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of image files.

    Attributes:
        name: as people call it.
        suffixes: those of its files; the first is that of files written here.
        written: whether it is written too.
        bits: the most that it holds for a channel, as it is written here.
        alpha, grey: whether it holds them, as it is written.
    """

    name: str
    suffixes: tuple
    written: bool = True
    bits: int = 8
    alpha: bool = True
    grey: bool = True


FORMATS = (
    JPEG := Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), alpha=False),
    PNG := Format("PNG", (".png",), bits=16),
    WEBP := Format("WebP", (".webp",), grey=False),
    TIFF := Format("TIFF", (".tif", ".tiff"), bits=16),
    AVIF := Format("AVIF", (".avif",), bits=12, grey=False),
    BMP := Format("BMP", (".bmp",)),
    GIF := Format("GIF", (".gif",), written=False),
    HEIC := Format("HEIC", (".heic", ".heif", ".hif"), written=False),
    # JPEGs in which more pictures follow the first, and PNGs that move: read, but written as their kin.
    Format("MPO", (".mpo",), written=False),
    Format("APNG", (".apng",), written=False),
)
PHOTO_SUFFIXES = tuple(suffix for f in FORMATS for suffix in f.suffixes)
WRITTEN_SUFFIXES = tuple(suffix for f in FORMATS if f.written for suffix in f.suffixes)
# Image files that are not read. A folder may hold them among its photos, where people would miss them.
OTHER_SUFFIXES = (
    *(".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jxr", ".svg", ".psd", ".psb", ".xcf", ".tga", ".pcx", ".exr", ".hdr"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".dds", ".ico", ".eps", ".fits"),
    *(".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq"),
)
READ = "JPEG, PNG, WebP, TIFF, AVIF, HEIC, GIF or BMP"

# What cameras' and other lossy formats are written as, where they are not written themselves.
_WRITTEN_AS = {"HEIC": JPEG, "MPO": JPEG, "GIF": PNG, "APNG": PNG}
_BY_SUFFIX = {suffix: f for f in FORMATS for suffix in f.suffixes}


def of(path_suffix):
    """Return the Format of a suffix, in upper or lower case, or None."""
    return _BY_SUFFIX.get(path_suffix.lower())


def written_as(found):
    """Return the Format in which to write something like a photo of Format `found`: the same, or the nearest one."""
    return found if found.written else _WRITTEN_AS[found.name]
