"""report: tables and page of hand-made figures, without any model, photo or TensorFlow."""

import csv
import html.parser
import json
import re

from report_helpers import (
    AREAS,
    DEAD,
    EXTREMES,
    ODD,
    PICTURES,
    ROWS,
    SUMMARY,
    jpeg,
    mean,
    row,
    summary_of,
    write,
)

from glcic_tf.evaluation import report
from glcic_tf.evaluation.metrics import METRICS

METHODS = ("net", "o'<b>ther", "third")


NO_EXTREMES = {"best": [], "worst": [], "method": "net", "metric": "l1"}
PROBLEMS = ("x.jpg: <b>broken</b>.", "y.jpg: net failed (no reason).")


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

    def table(self):
        """The first table: {first cell: the other cells, each all of its text}."""
        rows = []
        for tag, _, text in self.elements:
            if tag == "p" and rows:
                break
            if tag == "tr":
                rows.append([])
            elif tag in ("th", "td"):
                rows[-1].append(text)
            elif rows and tag in ("span", "small"):  # the colour before a name, the interval below a mean
                rows[-1][-1] += ("|" if tag == "small" else "") + text
        return {first: others for first, *others in rows}


def test_csv_has_six_digits_and_names_as_they_are(written):
    with open(written / "metrics.csv", newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert found == [
        ["image", "method", "l1", "psnr_hole", "seam", "sharpness", "psnr", "ssim", "seconds"],
        [ODD, "net", "0.333333", "16", "nan", "0.5", "24", "0.9", "0.25"],
        [ODD, "o'<b>ther", "12345.7", "99", "1", "0.5", "24", "0.9", "0.25"],
        ["b,c.png", "net", "0", "16", "1", "0.5", "24", "0.9", "1e-05"],
        ["b,c.png", "third", "10", "16", "1", "nan", "24", "0.9", "0.25"],
    ]
    assert b"\r" not in (written / "metrics.csv").read_bytes()  # the same file on every system


def test_json_is_json_with_null_where_there_is_no_figure(written):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((written / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert content["title"] == "Title <1>" and content["notes"] == ["Note & more."] and content["problems"] == []
    assert list(content["methods"]) == list(METHODS)
    assert content["methods"]["net"]["l1"] == {"mean": 1 / 6, "low": None, "high": None, "n": 2}
    assert content["methods"]["net"]["seam"]["mean"] is None
    assert content["methods"]["third"]["ssim"] == {"mean": 0.8, "low": 0.75, "high": 0.875, "n": 2}
    assert content["psnr_hole_by_area"]["third"] == {"10-20 %": {"mean": 14.0, "low": None, "high": None, "n": 1}}


def test_page_shows_names_as_text_and_runs_none_of_them(written):
    page = Page(written)
    tags = [tag for tag, _, _ in page.elements]
    assert tags.count("script") == 1 and tags.count("i") == 0 and tags.count("b") == len(PICTURES)
    assert page.texts("summary") == ["What each rewards"]  # there are no problems
    assert page.texts("h1") == page.texts("title") == ["Title <1>"] and page.with_class("notes")[0][2] == ""
    assert "Note & more." in page.texts("div")
    assert page.texts("b") == ["b,c.png", ODD]
    assert f"{ODD}: o'<b>ther" in [attributes.get("alt") for _, attributes, _ in page.elements]
    assert page.texts("option").count("o'<b>ther") == 1


def test_page_needs_no_other_file_and_no_network(written):
    text = (written / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(|//[a-z]", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    sources = [a["src"] for _, a, _ in Page(written).elements if "src" in a]
    assert len(sources) == 2 + 8 + 3 and all(source.startswith("data:image/") for source in sources)
    assert not any("href" in attributes for _, attributes, _ in Page(written).elements)


def test_best_is_lowest_l1_highest_psnr_and_nearest_to_the_original(written):
    """Seam 0.4 is farther from 1 than 2 is, sharpness 8 as far as 1 / 8: what counts is the ratio."""
    cells = [text for tag, _, text in Page(written).with_class("best") if tag == "td"]
    assert cells == ["0.17", "20.00", "0.500", "30.00", "0.950", "2.000"]
    assert Page(written).table()["net"] == ["0.17", "20.00", "–", "0.100", "24.00", "0.900", "0.25", "2"]


def test_method_that_completed_fewer_photos_is_not_the_best(tmp_path):
    fewer = {name: figure | {"n": 1} for name, figure in summary_of(l1=1.0, psnr_hole=50.0, ssim=0.91).items()}
    better = summary_of(l1=9.0) | {"fid": mean(10.0)}
    summary = {"few": fewer, "many": summary_of() | {"fid": mean(20.0)}, "better": better, "dead": DEAD}
    page = Page(write(tmp_path / "r", summary=summary))
    # Of PSNR, SSIM, seam and sharpness "many" and "better" have the same.
    assert sorted(text for tag, _, text in page.with_class("best") if tag == "td") == sorted(
        ["9.00", "10.00", *2 * ["16.00", "24.00", "0.900", "1.000", "0.500"]]
    )


def test_one_method_is_not_marked_as_the_best(tmp_path):
    page = Page(write(tmp_path / "r", summary={"net": SUMMARY["net"], "dead": DEAD}))
    assert "td" not in [tag for tag, _, _ in page.with_class("best")]


def test_intervals_have_the_decimals_of_their_means_and_seconds_two_digits(tmp_path):
    figures = summary_of() | {
        "l1": mean(10.0, 2, 9.0, 11.004),
        "ssim": mean(0.8, 2, 0.75, 0.875),
        "sharpness": mean(0.01234, 2, 0.00011, 0.5),
        "seconds": mean(0.0123, 2, 0.01, 0.0226),
    }
    slow = summary_of(seconds=123.4) | {"l1": mean(0.5, 2, 0.1, 1.0)}
    table = Page(
        write(tmp_path / "r", summary={"a": figures, "slow": slow, "fast": summary_of(seconds=9.96e-6)})
    ).table()
    assert table["a"] == [
        "10.00|9.00 – 11.00",
        "16.00",
        "1.000",
        "0.012|0.000 – 0.500",
        "24.00",
        "0.800|0.750 – 0.875",
        "0.012|0.010 – 0.023",
        "2",
    ]
    assert table["slow"][0] == "0.50|0.10 – 1.00" and table["slow"][-2] == "120"
    assert table["fast"][-2] == "0.000010"


def test_method_that_failed_on_every_photo_is_a_row_of_the_table_and_nothing_else(tmp_path):
    page = Page(write(tmp_path / "r", summary={"dead": DEAD, **SUMMARY}))
    assert page.table()["dead"] == ["–"] * 7 + ["0"]
    assert "dead" not in page.texts("option") + page.texts("figcaption")
    assert len(page.with_class("swatch")) == 3


def test_problems_are_folded_away_and_in_the_json(tmp_path):
    folder = write(tmp_path / "r", problems=PROBLEMS)
    page = Page(folder)
    assert page.texts("summary")[0] == "2 problems" and page.texts("li") == list(PROBLEMS)
    assert [attributes for tag, attributes, _ in page.elements if tag == "details"][0] == {}  # closed
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["problems"] == list(PROBLEMS)
    assert Page(write(tmp_path / "one", problems=PROBLEMS[:1])).texts("summary")[0] == "1 problem"


def test_gallery_knows_which_methods_a_photo_has(written):
    cards = Page(written).with_class("card")
    values = [json.loads(attributes["data-values"]) for _, attributes, _ in cards]
    assert [set(v) for v in values] == [{"net", "third"}, {"net", "o'<b>ther"}]
    assert values[0]["third"] == {"l1": 10, "psnr_hole": 16, "psnr": 24, "ssim": 0.9, "seam": 1, "sharpness": None}
    assert values[1]["net"]["l1"] == 0.3333 and values[1]["net"]["seam"] is None


def test_gallery_has_a_column_for_every_method_and_says_which_failed(written):
    page = Page(written)
    captions = page.texts("figcaption")
    assert captions[:3] == ["masked", "net", "original"]  # of the best case, above the table
    assert captions[3:] == 2 * ["original", "masked", *METHODS]
    assert len(page.with_class("failed")) == 2


def test_best_and_worst_cases_have_badges_and_a_filter(written, tmp_path):
    page = Page(written)
    assert [(a["class"], text) for _, a, text in page.with_class("badge")] == [
        ("badge worst", "worst of net"),
        ("badge best", "best of net"),
    ]
    assert [a["data-kinds"] for _, a, _ in page.with_class("card")] == ["worst", "best"]
    assert {"All", "Best", "Worst"} < set(page.texts("button"))
    page = Page(write(tmp_path / "none", extremes=NO_EXTREMES))
    assert not page.with_class("badge") and not page.with_class("hero") and "Best" not in page.texts("button")
    both = {
        "best": ["b,c.png", "without picture"],
        "worst": ["b,c.png"],
        "method": "o'<b>ther",
        "metric": "l1",
    }  # it failed on b,c.png
    page = Page(write(tmp_path / "both", extremes=both))
    assert [a["data-kinds"] for _, a, _ in page.with_class("card")] == ["best worst", ""] and not page.with_class(
        "hero"
    )


def test_perceptual_figures_lead_where_they_were_measured(tmp_path):
    """With seven metrics of each photo, and others of the set."""
    rows = [{**row(image, "net"), "perceptual": 4.25} for image in AREAS]
    summary = {
        "net": {"perceptual": mean(4.25), "kid": mean(-1e-9), "grid4": mean(2.5, 1), "grid8": mean(1.0), **summary_of()}
    }
    summary["other"] = {
        "perceptual": mean(4.5),
        "kid": mean(-3.0),
        "grid4": mean(0.5),
        "grid8": mean(1.0),
        **summary_of(),
    }
    page = Page(write(tmp_path / "r", [], rows, summary, extremes=EXTREMES | {"metric": "perceptual"}))
    header = list(METRICS[name].label for name in METRICS if name in summary["net"])
    assert [text.rstrip("\xa0↓↑") for text in page.table()["method"]] == [*header, "photos"]
    assert page.table()["net"][:2] == ["4.250", "0.0"]
    with open(tmp_path / "r" / "metrics.csv", encoding="utf-8") as file:
        assert file.readline().startswith("image,method,perceptual,l1,")
    assert page.texts("dt")[:3] == header[:3] and page.texts("dd")[1] == METRICS["kid"].rewards
    assert page.texts("dt")[6:] == ["grid 4 px, grid 8 px", "PSNR, dB", "SSIM"]
    options = [a for tag, a, _ in page.elements if "data-goal" in a]
    assert options[0] == {"value": "perceptual", "data-goal": "low", "selected": None} and len(options) == 7
    assert "Best cases of net by perceptual distance" in page.texts("h2")
    best = [text for tag, _, text in page.with_class("best") if tag == "td"]
    assert best[0] == "4.250" and "-3.0" in best
    assert "0.50" in best and "2.50" not in best  # which is of fewer photos


def test_best_cases_on_top_are_the_first_three(tmp_path):
    names = [f"{i}.png" for i in range(5)]
    pictures = {name: {"original": jpeg(i), "masked": jpeg(9), "net": jpeg(99)} for i, name in enumerate(names)}
    extremes = {"best": names[::-1], "worst": [], "method": "net", "metric": "l1"}
    areas = dict.fromkeys(names, 0.1)
    page = Page(
        write(tmp_path / "r", [], [row(n, "net") for n in names], areas=areas, pictures=pictures, extremes=extremes)
    )
    shown = [attributes["alt"] for tag, attributes, _ in page.elements if tag == "img" and attributes["alt"]][:9]
    assert shown == [
        f"{name}: {kind}" for name in ("4.png", "3.png", "2.png") for kind in ("masked", "net", "original")
    ]


def test_sorting_knows_what_is_good(written):
    goals = {a["value"]: a["data-goal"] for _, a, _ in Page(written).elements if "data-goal" in a}
    assert goals == dict(l1="low", psnr_hole="high", psnr="high", ssim="high", seam="one", sharpness="one")
    assert "best first" in Page(written).texts("option") and "worst first" in Page(written).texts("option")


def test_pictures_are_enlarged_by_buttons_which_the_keyboard_reaches(written):
    elements = Page(written).elements
    pictures = [
        i for i, (tag, a, _) in enumerate(elements) if tag == "img" and a.get("src", "").startswith("data:image/jpeg")
    ]
    assert len(pictures) == 11 and all(elements[i - 1][0] == "button" for i in pictures)


def test_without_pictures_and_of_one_photo(tmp_path):
    one = {"net": {name: figure | {"n": 1} for name, figure in SUMMARY["net"].items()}}
    folder = write(tmp_path / "r", rows=ROWS[:1], summary=one, areas={ODD: 0.05}, pictures={})
    assert {path.name for path in folder.iterdir()} == report.MEMBERS
    page = Page(folder)
    assert page.with_class("card") == [] and "nan" not in " ".join(page.texts("td"))
    assert "Gallery" not in page.texts("h2") and not {"select", "script", "dialog"} & {
        tag for tag, _, _ in page.elements
    }


def test_holes_of_one_size_need_no_figure_by_size(written, tmp_path):
    heading = "PSNR against the size of the hole"
    page = Page(write(tmp_path / "r", areas=dict.fromkeys(AREAS, 0.25)))
    assert heading in Page(written).texts("h2") and heading not in page.texts("h2")
    assert len([a for _, a, _ in page.elements if a.get("src", "").startswith("data:image/png")]) == 1


def test_file_name_that_is_no_text(tmp_path):
    name = "sch\udcf6n.jpg"  # what Python makes of a file name that is not UTF-8
    folder = write(
        tmp_path / "r",
        [f"{name}: broken."],
        [row(name, "net")],
        {"net": SUMMARY["net"]},
        {name: 0.1},
        {name: PICTURES[ODD]},
        {"best": [name], "worst": [], "method": "net", "metric": "l1"},
    )
    assert Page(folder).texts("b") == ["sch\\udcf6n.jpg"]
    assert (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()[1].startswith("sch\\udcf6n.jpg,net,")
