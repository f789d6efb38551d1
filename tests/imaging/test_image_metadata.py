"""image_metadata and exif: what Pillow or plain `struct` wrote; what comes out is read by Pillow."""

import io
import random
import struct
from xml.etree import ElementTree

import pytest
from PIL import ExifTags, Image, ImageCms

from glcic_tf.imaging import image_metadata, png_chunks
from glcic_tf.imaging.image_metadata import Metadata

IFD1 = ExifTags.IFD.IFD1  # the directory of the thumbnail
THUMBNAIL = b"\xff\xd8\xff\xdb what the user removed \xff\xd9"


def profile(space=b"RGB ", length=None):
    """A colour profile of `length` bytes, by default as short as Pillow makes it."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = made[:16] + space + made[20:] + bytes(max(length or 0, len(made)) - len(made))
    return struct.pack(">I", len(made)) + made[4:]


def camera_exif(orientation=6):
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0132] = "Maker", "Camera with a long name", "2024:05:06 07:08:09"
    tags[0x0100], tags[0x0101], tags[0x011A] = 80, 60, 72.5
    if orientation is not None:
        tags[0x0112] = orientation
    details = {0x829A: 0.004, 0x9003: "2024:05:06 07:08:09", 0xA002: 80, 0xA003: 60, 0x9286: b"ASCII\0\0\0words"}
    tags[0x8769] = {**details, 0xA434: "Lens", 0x927C: b"maker note", 0xA005: {1: "R98", 2: b"0100"}}
    tags[0x8825] = {1: "N", 2: (52.0, 31.0, 12.25), 3: "E", 4: (13.0, 24.0, 36.5)}
    return tags


def tiff_bytes(tags):
    return tags.tobytes().removeprefix(b"Exif\0\0")


def parsed(exif):
    """{directory: {tag: value}} as Pillow reads it, and the types of the main directory."""
    tags = Image.Exif()
    tags.load(exif)
    types = dict(tags._info.tagtype)
    found = {number: dict(tags.get_ifd(number)) for number in (0x8769, 0x8825, IFD1)}
    if found[0x8769].pop(0xA005, None):  # a place
        found[0xA005] = dict(tags.get_ifd(0xA005))
    found[0] = {tag: value for tag, value in tags.items() if tag not in (0x8769, 0x8825)}
    return found, types


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_exif_survives_upright(endian, orientation):
    tags = camera_exif(orientation)
    tags.endian = endian
    before = tiff_bytes(tags)
    found, metadata = image_metadata.clean(exif=before)
    assert found == orientation and metadata.exif[:2] == {"<": b"II", ">": b"MM"}[endian]
    (expected, expected_types), (result, types) = parsed(before), parsed(metadata.exif)
    expected[0][0x0112] = 1
    del expected[0x8769][0x927C]
    if orientation == 6:  # the sides change places
        expected[0].update({0x0100: 60, 0x0101: 80})
        expected[0x8769].update({0xA002: 60, 0xA003: 80})
    assert result == expected and types == expected_types
    assert image_metadata.clean(exif=b"Exif\0\0" + before)[1] == metadata
    assert image_metadata.clean(exif=metadata.exif) == (1, metadata)


@pytest.mark.parametrize(
    ("orientation", "expected"), [*((o, o) for o in range(1, 9)), (0, 1), (9, 1), (65535, 1), (None, 1)]
)
def test_orientation(orientation, expected):
    found, metadata = image_metadata.clean(exif=tiff_bytes(camera_exif(orientation)))
    assert found == expected
    assert parsed(metadata.exif)[0][0].get(0x0112) == (None if orientation is None else 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_of_both_byte_orders_and_two_types(order):
    mark = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    for kind, packed in ((3, struct.pack(order + "HH", 8, 0)), (4, struct.pack(order + "I", 8))):
        entries = struct.pack(order + "HHIHH", 0x0101, 3, 1, 7, 0) + struct.pack(order + "HHI", 0x0112, kind, 1)
        tags = mark + struct.pack(order + "H", 2) + entries + packed
        assert image_metadata.clean(exif=tags)[0] == 8
        for length in range(len(tags) - 4):
            assert image_metadata.clean(exif=tags[:length])[0] == 1


def test_thumbnail_and_other_pictures_are_gone():
    main = struct.pack("<HHII", 0x010E, 2, 6, 8 + 2 + 36 + 4) + struct.pack("<HHIHH", 0x0112, 3, 1, 3, 0)
    hidden = 8 + 2 + 36 + 4 + 6
    main += struct.pack("<HHII", 0xC000, 7, len(THUMBNAIL), hidden)  # of some maker's own
    second = hidden + len(THUMBNAIL)
    entries = struct.pack("<HHII", 0x0201, 4, 1, second + 30) + struct.pack("<HHII", 0x0202, 4, 1, len(THUMBNAIL))
    exif = b"II*\0" + struct.pack("<IH", 8, 3) + main + struct.pack("<I", second) + b"words\0" + THUMBNAIL
    exif += struct.pack("<H", 2) + entries + bytes(4) + THUMBNAIL
    assert set(parsed(exif)[0][IFD1]) == {0x0201, 0x0202}  # as Pillow sees it
    assert exif.count(THUMBNAIL) == 2

    orientation, metadata = image_metadata.clean(exif=exif)
    assert orientation == 3 and b"removed" not in metadata.exif
    found = parsed(metadata.exif)[0]
    assert found[IFD1] == {} and found[0] == {0x010E: "words", 0x0112: 1}


def test_damaged_exif_is_read_as_far_as_it_goes():
    rng = random.Random(0)
    whole = tiff_bytes(camera_exif())
    for number in range(4000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        damaged = bytes(damaged)[: rng.randrange(len(whole)) if number % 2 else None]
        orientation, metadata = image_metadata.clean(damaged, damaged, damaged)
        assert orientation in range(1, 9)
        assert metadata.exif is None or len(metadata.exif) <= 4 * len(whole)
        if metadata.exif:
            assert image_metadata.clean(metadata.exif) == (1, Metadata(metadata.exif))
        image_metadata.clean(whole[:8] + rng.randbytes(80))


def test_exif_cannot_grow():
    """Thousands of entries that all point at the same megabyte would be gigabytes, if each were written."""
    count = 20_000
    entries = b"".join(struct.pack("<HHII", 1 + tag, 7, 1_000_000, 8) for tag in range(count))
    exif = (b"II*\0" + struct.pack("<IH", 8, count) + entries).ljust(2_000_000, b"\0")
    assert len(image_metadata.clean(exif=exif)[1].exif) <= len(exif) + 100
    loops = b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in [0x8769, 0x8825, 0xA005] * 6000)
    assert image_metadata.clean(exif=b"II*\0" + struct.pack("<IH", 8, 18_000) + loops)[1].exif is None


def test_orientation_in_xmp_follows_that_in_exif():
    for text in (
        '<x tiff:Orientation="%d"/>',
        "<x tiff:Orientation = '%d'/>",
        "<tiff:Orientation>%d</tiff:Orientation>",
    ):
        metadata = image_metadata.clean(exif=tiff_bytes(camera_exif(6)), xmp=(text % 6).encode())[1]
        assert metadata.xmp == (text % 1).encode()
        alone = image_metadata.clean(xmp=(text % 6).encode())  # no turn is made, so nothing was changed
        assert alone == (1, Metadata(xmp=(text % 6).encode()))


def test_xmp_is_text_without_pictures():
    text = "<x:xmpmeta>Grüße</x:xmpmeta>".encode()
    assert image_metadata.clean(xmp=text + b"\0")[1].xmp == text
    assert image_metadata.clean(xmp=b"http://ns.adobe.com/xap/1.0/\0" + text)[1].xmp == text
    for bad in (b"\xff\xfe", text + b"\0" + text, b"<xmpGImg:image>/9j/4AAQSkZJRg</xmpGImg:image>", b"\0", b""):
        assert image_metadata.clean(xmp=bad)[1] == Metadata()


def test_broken_and_huge_metadata_is_dropped():
    good = profile()
    assert image_metadata.clean(icc=good + bytes(9))[1].icc == good
    for bad in (good[:-1], good[:100], good[:36] + b"none" + good[40:], b"", b"x" * 500, profile(length=8_000_001)):
        assert image_metadata.clean(icc=bad)[1] == Metadata()
    assert image_metadata.clean(exif=tiff_bytes(camera_exif()).ljust(8_000_001))[1] == Metadata()
    assert image_metadata.clean(xmp=b"x" * 8_000_001)[1] == Metadata()
    assert image_metadata.clean() == (1, Metadata())


def test_profile_must_fit_the_channels():
    for space, fitting in ((b"RGB ", (3, 4)), (b"GRAY", (1,)), (b"CMYK", ()), (b"Lab ", ())):
        metadata = Metadata(exif=b"e", icc=profile(space), xmp=b"x")
        for channels in (1, 3, 4):
            expected = metadata if channels in fitting else Metadata(exif=b"e", xmp=b"x")
            assert metadata.fitting(channels) == expected
    assert Metadata(xmp=b"x").fitting(3) == Metadata(xmp=b"x")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("icc_length", [None, 65519, 65520, 300_001])
def test_inserted_metadata_is_what_pillow_reads(file_format, icc_length):
    file = io.BytesIO()
    Image.new("RGB", (9, 5), (200, 100, 0)).save(file, file_format)
    metadata = Metadata(tiff_bytes(camera_exif()), profile(length=icc_length), b"<x:xmpmeta/>", dpi=(300, 200))
    picture = Image.open(io.BytesIO(inserted(file.getvalue(), metadata)))
    picture.load()
    assert picture.info["icc_profile"] == metadata.icc
    assert picture.info["exif"].removeprefix(b"Exif\0\0") == metadata.exif
    assert picture.getexif()[0x010F] == "Maker"
    assert picture.info["xmp"] == metadata.xmp
    assert picture.info["dpi"] == pytest.approx((300, 200), rel=1e-4)
    assert picture.tobytes() == Image.open(file).tobytes()
    if file_format == "JPEG":
        assert picture.info["jfif"]
    assert inserted(file.getvalue(), Metadata()) == file.getvalue()


def inserted(data, metadata):
    if data.startswith(b"\xff\xd8"):
        head, rest = image_metadata.jpeg_start(data, metadata.dpi)
        return b"".join([*head, *image_metadata.jpeg_segments(metadata), rest])
    return b"".join([data[:33], *png_chunks.write(metadata), data[33:]])


def test_what_a_jpeg_has_no_room_for_is_left_out():
    file = io.BytesIO()
    Image.new("RGB", (9, 5)).save(file, "JPEG")
    too_long = Metadata(exif=b"II*\0".ljust(65528), icc=b"x" * (255 * 65519 + 1), xmp=b"x" * 65505, iptc=bytes(65508))
    assert inserted(file.getvalue(), too_long) == file.getvalue()
    longest = Metadata(exif=b"II*\0\x08".ljust(65527, b"\0"), icc=b"x" * (255 * 65519), xmp=b"x" * 65504)
    data = inserted(file.getvalue(), longest)
    assert len(data) > len(file.getvalue()) + 65527 + 255 * 65519 + 65504
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == longest.icc


PROMISING = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" GCamera:BurstID="kept"
 xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"
 xmpNote:HasExtendedXMP="0123"><dc:title>Bäume</dc:title><Container:Directory><rdf:Seq><rdf:li
 rdf:parseType="Resource"><Container:Item Item:Semantic="MotionPhoto" Item:Length="3012"/></rdf:li></rdf:Seq>
</Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_xmp_loses_what_it_promises_of_the_file_and_keeps_the_rest():
    found = image_metadata.clean(xmp=PROMISING.encode())[1].xmp.decode()
    root = ElementTree.fromstring(found)
    names = {name for element in root.iter() for name in (element.tag, *element.attrib)}
    gone = ("hdr-gain-map", "MotionPhoto", "/container/", "HasExtendedXMP")
    assert not [name for name in names if any(part in name for part in gone)] and "3012" not in found
    assert 'GCamera:BurstID="kept"' in found and "<dc:title>Bäume</dc:title>" in found
    wrapped = f'<?xpacket begin="" id="x"?>{PROMISING}<?xpacket end="w"?>'.encode()
    assert image_metadata.clean(xmp=wrapped)[1].xmp.startswith(b'<?xpacket begin="" id="x"?><x:xmpmeta')
    for bad in (
        PROMISING[:-9],
        "<!DOCTYPE x>" + PROMISING,
        PROMISING.replace("Bäume", "<b>" * 50_000 + "</b>" * 50_000),
    ):
        assert image_metadata.clean(xmp=bad.encode())[1].xmp is None


def test_iptc_stays_and_photoshops_thumbnail_goes():
    records = b"\x1c\x02\x78\x00\x05Words"
    name = b"\x03abc"  # a name of three letters
    thumbnail = b"8BIM\x04\x0c" + name + struct.pack(">I", len(THUMBNAIL)) + THUMBNAIL + bytes(len(THUMBNAIL) % 2)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
    for iptc in (records, resource, b"Photoshop 3.0\0" + thumbnail + resource + thumbnail):
        assert image_metadata.clean(iptc=iptc)[1].iptc == records
    for iptc in (thumbnail, b"8BIM", b"8BIM" + bytes(200), b"", records + THUMBNAIL, resource[:6]):
        assert image_metadata.clean(iptc=iptc)[1].iptc is None
