"""The report's figures: names, colours and axes."""

import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from report_helpers import AREAS, DEAD, MEASURED, row, summary_of, write

from glcic_tf.evaluation import report

NAMES = ["_under", r"a$\frac$b", "写真", "two\nlines", "runs/" + "x" * 60 + "/model.keras", "bad\udcf6", "dead"]
SHOWN = ["_under", r"a$\frac$b", "写真", "two?lines", "…" + "x" * 19 + "/model.keras", "bad?"]


@pytest.fixture
def figures(tmp_path, monkeypatch):
    """The figures of methods with awkward names, which have the figures 0, 1, ...: {file name: figure}."""
    found, save = {}, report._save
    monkeypatch.setattr(report, "_save", lambda figure, path: (found.update({path.name: figure}), save(figure, path)))
    rows = [row(image, name, i, i, i, i, i, i) for image in AREAS for i, name in enumerate(NAMES[:-1])]
    summary = {name: DEAD if name == "dead" else summary_of() for name in NAMES}
    write(tmp_path / "r", rows=rows, summary=summary)
    return found


def test_figures_show_names_as_they_are(figures):
    """Neither formulas nor hidden names; warnings are errors here."""
    for axis in figures["box_plots.png"].axes:
        labels = axis.get_xticklabels()
        assert [label.get_text() for label in labels] == SHOWN and not any(label.get_parse_math() for label in labels)
    (axis,) = figures["psnr_by_area.png"].axes
    labels = axis.get_legend().get_texts()
    assert [label.get_text() for label in labels] == SHOWN and not any(label.get_parse_math() for label in labels)


def test_methods_have_one_colour_in_all_figures(figures):
    lines = [to_hex(line.get_color()) for line in figures["psnr_by_area.png"].axes[0].get_lines()]
    assert len(lines) == len(set(lines)) == len(SHOWN)
    for axis in figures["box_plots.png"].axes:
        assert [to_hex(box.get_facecolor()) for box in axis.patches] == lines


def test_colours_suffice_for_many_methods():
    colours = report._colours([str(i) for i in range(45)])
    assert len(colours) == 45 and len(set(colours.values())) == 20


def test_ratios_are_drawn_on_logarithmic_axes_around_the_original(figures):
    axes = dict(zip(MEASURED[:-1], figures["box_plots.png"].axes, strict=True))
    assert {metric for metric, axis in axes.items() if axis.get_yscale() == "log"} == {"seam", "sharpness"}
    for metric in ("seam", "sharpness"):
        low, high = axes[metric].get_ylim()
        assert 0 < low <= 0.001 and high >= 5  # 0 is drawn at 0.001
        line = next(line for line in axes[metric].get_lines() if line.get_linestyle() == "--")
        assert list(line.get_ydata()) == [1, 1]
        labels = [label.get_text() for label in axes[metric].get_yticklabels()]
        assert {"0.001", "0.01", "0.1", "1"} <= set(labels) and not any("$" in label for label in labels)


def test_titles_have_room(figures):
    figure, by_area = figures["box_plots.png"], figures["psnr_by_area.png"]
    with report._drawing():
        titles = [axis.title.get_window_extent() for axis in figure.axes]
        legend = by_area.axes[0].get_legend().get_window_extent()
    assert all(t.x0 >= 0 and t.x1 <= figure.bbox.x1 and t.y1 <= figure.bbox.y1 for t in titles)
    assert by_area.axes[0].bbox.x1 <= legend.x0 and legend.x1 <= by_area.bbox.x1  # beside the lines


def test_same_bytes_again(written, tmp_path):
    with plt.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # the user's own settings do not count
        again = write(tmp_path / "again")
    for name in report.MEMBERS:
        assert (again / name).read_bytes() == (written / name).read_bytes(), name
