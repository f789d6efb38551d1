"""report: tables and page of hand-made figures, without any model, photo or TensorFlow."""

import csv
import html.parser
import json
import re

import cv2
import numpy as np
import pytest

from glcic_tf import report

NAN = float("nan")
ODD = "a/<i>&\"q'</script>.jpg"  # what file names may hold on Linux
METHODS = ("net", "o'<b>ther", "third")


def row(image, method, l1=10.0, psnr_hole=16.0, psnr=24.0, ssim=0.9, seam=1.0, sharpness=0.5, seconds=0.25):
    return dict(zip(report.COLUMNS, (image, method, l1, psnr_hole, psnr, ssim, seam, sharpness, seconds), strict=True))


def mean(value, n=2, low=NAN, high=NAN):
    return {"mean": value, "low": low, "high": high, "n": n}


def summary_of(**means):
    """Figures of one method: those named, and some for all others."""
    figures = {"l1": 10.0, "psnr_hole": 16.0, "psnr": 24.0, "ssim": 0.9, "seam": 1.0, "sharpness": 0.5, "seconds": 0.25}
    return {metric: mean(value) for metric, value in {**figures, **means}.items()}


def jpeg(value):
    return cv2.imencode(".jpg", np.full((16, 16, 3), value, np.uint8))[1].tobytes()


ROWS = [
    row(ODD, "net", l1=1 / 3, seam=NAN),
    row(ODD, "o'<b>ther", l1=12345.678, psnr_hole=99.0),
    row("b,c.png", "net", l1=0.0, seconds=1e-5),
    row("b,c.png", "third", sharpness=NAN),
]
SUMMARY = {
    "net": summary_of(l1=1 / 6, psnr_hole=20.0, seam=NAN, sharpness=0.1),
    "o'<b>ther": summary_of(l1=11.0, psnr=30.0, seam=0.4, ssim=0.95),
    "third": summary_of(l1=12.0, seam=2.0, sharpness=8.0) | {"ssim": mean(0.8, 2, 0.75, 0.875)},
}
BY_AREA = {"net": {"0-10 %": mean(15.5, 1), "10-20 %": mean(17.25, 1)}, "third": {"10-20 %": mean(14.0, 1)}}
AREAS = {ODD: 0.05, "b,c.png": 0.125}
PICTURES = {
    "b,c.png": {"original": jpeg(0), "masked": jpeg(50), "net": jpeg(100), "third": jpeg(150)},
    ODD: {"original": jpeg(200), "masked": jpeg(250), "net": jpeg(10), "o'<b>ther": jpeg(20)},
}


def write(folder, title="Title <1>", notes=("Note & more.",), rows=ROWS, summary=SUMMARY, pictures=PICTURES):
    folder.mkdir()
    report.write(folder, title, list(notes), rows, summary, BY_AREA, AREAS, pictures)
    return folder


class Page(html.parser.HTMLParser):
    """What a browser makes of a page: start tags with their attributes, and the text that stands in each."""

    def __init__(self, folder):
        super().__init__()
        self.elements = []  # [tag, attributes, text up to the next tag]
        self.feed((folder / "index.html").read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data.strip()

    def texts(self, tag):
        return [text for name, _, text in self.elements if name == tag]

    def with_class(self, name):
        return [element for element in self.elements if name in element[1].get("class", "").split()]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("reports") / "report")


def test_csv_has_six_digits_and_names_as_they_are(written):
    with open(written / "metrics.csv", newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert found == [
        ["image", "method", "l1", "psnr_hole", "psnr", "ssim", "seam", "sharpness", "seconds"],
        [ODD, "net", "0.333333", "16", "24", "0.9", "nan", "0.5", "0.25"],
        [ODD, "o'<b>ther", "12345.7", "99", "24", "0.9", "1", "0.5", "0.25"],
        ["b,c.png", "net", "0", "16", "24", "0.9", "1", "0.5", "1e-05"],
        ["b,c.png", "third", "10", "16", "24", "0.9", "1", "nan", "0.25"],
    ]
    assert b"\r" not in (written / "metrics.csv").read_bytes()  # the same file on every system


def test_json_is_json_with_null_where_there_is_no_figure(written):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((written / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert content["title"] == "Title <1>" and content["notes"] == ["Note & more."]
    assert list(content["methods"]) == list(METHODS)
    assert content["methods"]["net"]["l1"] == {"mean": 1 / 6, "low": None, "high": None, "n": 2}
    assert content["methods"]["net"]["seam"]["mean"] is None
    assert content["methods"]["third"]["ssim"] == {"mean": 0.8, "low": 0.75, "high": 0.875, "n": 2}
    assert content["psnr_hole_by_area"]["third"] == {"10-20 %": {"mean": 14.0, "low": None, "high": None, "n": 1}}


def test_page_shows_names_as_text_and_runs_none_of_them(written):
    page = Page(written)
    tags = [tag for tag, _, _ in page.elements]
    assert tags.count("script") == 1 and tags.count("i") == 0 and tags.count("b") == len(PICTURES)
    assert page.texts("h1") == page.texts("title") == ["Title <1>"] and page.with_class("notes")[0][2] == ""
    assert "Note & more." in page.texts("div")
    assert page.texts("b") == ["b,c.png", ODD]
    assert f"{ODD}: o'<b>ther" in [attributes.get("alt") for _, attributes, _ in page.elements]
    assert page.texts("option").count("o'<b>ther") == 1


def test_page_needs_no_other_file_and_no_network(written):
    text = (written / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(|//[a-z]", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    sources = [a["src"] for _, a, _ in Page(written).elements if "src" in a]
    assert len(sources) == 2 + 8 and all(source.startswith("data:image/") for source in sources)
    assert not any("href" in attributes for _, attributes, _ in Page(written).elements)


def test_best_is_lowest_l1_highest_psnr_and_nearest_to_the_original(written):
    """Seam 0.4 is farther from 1 than 2 is, sharpness 8 as far as 1 / 8: what counts is the ratio."""
    cells = [text for _, _, text in Page(written).with_class("best")]
    assert cells == ["0.17", "20.00", "30.00", "0.950", "0.500", "2.000"]
    assert "–" in Page(written).texts("td")  # net has no seam


def test_gallery_knows_which_methods_a_photo_has(written):
    cards = Page(written).with_class("card")
    values = [json.loads(attributes["data-values"]) for _, attributes, _ in cards]
    assert [set(v) for v in values] == [{"net", "third"}, {"net", "o'<b>ther"}]
    assert values[0]["third"] == {"l1": 10, "psnr_hole": 16, "psnr": 24, "ssim": 0.9, "seam": 1, "sharpness": None}
    assert values[1]["net"]["l1"] == 0.3333 and values[1]["net"]["seam"] is None


def test_without_pictures_and_of_one_photo(tmp_path):
    one = {"net": {name: figure | {"n": 1} for name, figure in SUMMARY["net"].items()}}
    folder = write(tmp_path / "r", rows=ROWS[:1], summary=one, pictures={})
    assert {path.name for path in folder.iterdir()} == report.MEMBERS
    assert Page(folder).with_class("card") == [] and "nan" not in " ".join(Page(folder).texts("td"))


def test_same_bytes_again(written, tmp_path):
    again = write(tmp_path / "again")
    for name in report.MEMBERS:
        assert (again / name).read_bytes() == (written / name).read_bytes(), name
