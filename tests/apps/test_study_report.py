"""study.statistics and study.report against values computed by hand; the commands; studies without answers."""

import csv
import json
import subprocess
import sys

import pytest
from study_helpers import PROTOCOL, ROOT, make_photos

from glcic_tf.apps.study import answers, manifest, statistics
from glcic_tf.apps.study import study_report as module
from glcic_tf.apps.study.picture_set import prepare
from glcic_tf.common.errors import UserError


@pytest.fixture
def study(tmp_path):
    make_photos(tmp_path / "photos", 9)
    made = prepare(tmp_path / "photos", tmp_path / "study", PROTOCOL, (), ("telea", "mean_colour"), items=8, practice=1)
    return tmp_path / "study", made


def test_wilson_interval():
    # By hand: z = 1.959964, z^2 = 3.841459. 7 of 10: centre (7 + 1.920729) / 13.841459 = 0.644494,
    # half width 1.959964 / 13.841459 x sqrt(7 x 3 / 10 + 0.960365) = 0.141600 x 1.749390 = 0.247714.
    share = statistics.share(7, 10)
    assert share[:3] == (7, 10, 0.7)
    assert share[3:] == pytest.approx((0.396780, 0.892208), abs=1e-5)
    assert statistics.share(0, 10)[2:] == pytest.approx((0, 0, 3.841459 / 13.841459), abs=1e-6)
    assert statistics.share(10, 10)[2:] == pytest.approx((1, 10 / 13.841459, 1), abs=1e-6)
    assert statistics.share(0, 0) == (0, 0, None, None, None)
    with pytest.raises(ValueError):
        statistics.share(3, 2)


@pytest.mark.parametrize("n", [1, 2, 9, 400])
def test_wilson_interval_agrees_with_scipy(n):
    from scipy.stats import binomtest

    for count in {0, 1, n // 2, n}:
        expected = binomtest(count, n).proportion_ci(method="wilson")
        assert statistics.share(count, n)[3:] == pytest.approx(expected, abs=1e-12)


def test_d_prime():
    # By hand: rates 15.5 / 21 = 0.738095 and 5.5 / 21 = 0.261905, z = +-0.637493; symmetric, so the criterion is 0.
    found = statistics.detection(15, 20, 5, 20)
    assert found[:2] == (0.75, 0.25)
    assert found.d_prime == pytest.approx(2 * 0.637493, abs=1e-4) and found.criterion == pytest.approx(0)
    # Perfect on 2 + 2: rates 2.5 / 3 and 0.5 / 3, z = +-0.967422.
    assert statistics.detection(2, 2, 0, 2).d_prime == pytest.approx(1.934843, abs=1e-5)
    # All "natural": no difference, towards natural.
    lenient = statistics.detection(0, 4, 0, 4)
    assert lenient.d_prime == 0 and lenient.criterion == pytest.approx(1.281552, abs=1e-5)  # z of 0.1
    assert statistics.detection(0, 0, 1, 2) == (None, 0.5, None, None)
    assert statistics.detection(0, 0, 0, 0) == (None, None, None, None)


def test_krippendorff_alpha():
    # The example of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section A: two observers, 10
    # units, alpha = 0.095. By hand: 4 units differ; 14 zeros and 6 ones: 1 - 19 x 8 / (400 - 196 - 36).
    pairs = list(zip((0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0), strict=True))
    found = statistics.krippendorff_alpha([(pair.count(0), pair.count(1)) for pair in pairs])
    assert found == pytest.approx(1 - 152 / 168) and round(found, 3) == 0.095
    # Three answers to one picture, two to another, one to a third, which does not count:
    # observed (9 - 5) / 2 + 0 = 2; n = 5, totals 4 and 1: expected 25 - 17 = 8; alpha = 1 - 4 x 2 / 8 = 0.
    assert statistics.krippendorff_alpha([(2, 1), (2, 0), (0, 1)]) == pytest.approx(0)
    assert statistics.krippendorff_alpha([(2, 0), (0, 2)]) == 1  # all agree
    assert statistics.krippendorff_alpha([(1, 1), (1, 1)]) == pytest.approx(-0.5)  # 1 - 3 x 4 / 8
    assert statistics.krippendorff_alpha([(3, 0), (2, 0)]) is None  # one answer only: nothing to agree on
    assert statistics.krippendorff_alpha([(1, 0), (0, 1), (0, 0)]) is None
    assert statistics.krippendorff_alpha([]) is None


def test_median():
    assert statistics.median([3, None, 1, 2]) == 2
    assert statistics.median([None]) is statistics.median([]) is None


def fill(folder, made, participants):
    """Answers of participants: for each, a dict of id -> (natural, milliseconds)."""
    store = answers.Answers(folder, made)
    for i, given in enumerate(participants):
        number, _ = store.participant(store.join(f"secret name {i}"))
        for id, (natural, ms) in given.items():
            assert store.add(number, id, natural, ms)
    store.close()


def test_figures_by_hand(study, tmp_path):
    folder, made = study
    real = [item.id for item in made.items if item.kind == "real"]
    telea = [item.id for item in made.items if item.method == "telea"]
    mean = [item.id for item in made.items if item.method == "mean_colour"]
    first = {id: (True, 1000) for id in real} | {id: (True, 2000) for id in telea} | {id: (False, 400) for id in mean}
    second = first | {real[0]: (False, 7000), telea[1]: (False, None), made.practice[0].id: (False, 99)}
    third = {real[0]: (False, 500)}
    fill(folder, made, [first, second, third, {}])
    result = module.report(folder, tmp_path / "report")
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == result
    assert (result["participants"], result["finished"], result["answers"], result["items"]) == (3, 2, 17, 8)
    counts = {name: (share["count"], share["n"]) for name, share in result["judged_real"].items()}
    assert counts == {"real": (7, 9), "telea": (3, 4), "mean_colour": (0, 4)}
    assert (result["all_completed"]["count"], result["all_completed"]["n"]) == (3, 8)
    # Hits 5 of 8, false alarms 2 of 9: z(5.5 / 9) - z(2.5 / 10) = 0.282216 + 0.674490.
    assert result["detection"]["all"]["hit_rate"] == 0.625
    assert result["detection"]["all"]["d_prime"] == pytest.approx(0.956706, abs=1e-5)
    assert result["detection"]["mean_colour"]["hit_rate"] == 1
    # real: 1000 seven times, 7000 and 500; Telea: 2000 three times and one unknown.
    assert result["median_ms"] == {"real": 1000, "telea": 2000, "mean_colour": 400}
    # [not, natural]: real (2, 1) and three (0, 2), Telea (0, 2) and (1, 1), mean colour two (2, 0).
    # Observed (9 - 5) / 2 + 2 = 4; n = 17, not 7, natural 10: expected 289 - 149 = 140; 1 - 16 x 4 / 140.
    assert result["krippendorff_alpha"] == pytest.approx(1 - 64 / 140)
    assert [(item["id"], item["wrong"], item["answers"]) for item in result["hardest"]] == [
        (telea[0], 1.0, 2),
        (real[0], 2 / 3, 3),
        (telea[1], 0.5, 2),
    ]
    assert list(result["by_participant"]) == ["1", "2", "3"]
    assert result["by_participant"]["3"]["d_prime"] is None
    line = result["beside_the_paper"]
    assert "37.5%" in line and "77.8%" in line and "77.0% of its completions" in line

    with open(tmp_path / "report" / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17 and tuple(rows[0]) == module.COLUMNS
    late = next(row for row in rows if row["participant"] == "2" and row["item"] == telea[1])
    assert (late["natural"], late["right"], late["milliseconds"], late["method"]) == ("0", "1", "", "telea")


def test_page_is_whole_the_same_again_and_without_names(study, tmp_path):
    folder, made = study
    fill(folder, made, [{item.id: (i % 2 == 0, 300.0 + i) for i, item in enumerate(made.items)}])
    for name in ("a", "b"):
        module.report(folder, tmp_path / name)
    for name in module.MEMBERS:
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        assert b"secret name" not in data
    page = (tmp_path / "a" / "index.html").read_text()
    assert "http://" not in page and "https://" not in page and 'src="data:image/png' in page
    assert "77.0%" in page and ">nan<" not in page and "None" not in page
    with pytest.raises(UserError, match="exists already; add --overwrite"):
        module.report(folder, tmp_path / "a")
    module.report(folder, tmp_path / "a", overwrite=True)


@pytest.mark.parametrize("joined", [None, 0, 1])
def test_few_or_no_answers_divide_by_nothing(study, tmp_path, joined):
    folder, made = study
    if joined is not None:
        fill(folder, made, [{item.id: (True, None) for item in made.items[:joined]}])
    result = module.report(folder, tmp_path / "report")
    assert (result["participants"], result["answers"]) == (joined or 0, joined or 0)
    assert result["krippendorff_alpha"] is None and result["detection"]["all"]["d_prime"] is None
    assert "(no answers)" in result["beside_the_paper"]
    assert {path.name for path in (tmp_path / "report").iterdir()} == module.MEMBERS
    assert (folder / "answers.sqlite").exists() == (joined is not None)  # reading makes no file


def test_report_of_no_study_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="holds no study.json"):
        module.report(tmp_path, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_commands_from_photos_to_page(tmp_path, glcic):
    make_photos(tmp_path / "photos", 6, (130, 140))
    flags = ["--models=", "--methods=telea", "--preset=centre", "--items=4", "--practice=2", "--seed=3"]
    code, out, err = glcic("study", "prepare", f"--images={tmp_path}/photos", f"--output={tmp_path}/study", *flags)
    assert (code, err) == (0, "")
    assert "4 pictures, 2 of them real, 2 to practise on" in out
    assert manifest.read(tmp_path / "study").seed == 3
    command = [sys.executable, "-m", "glcic_tf", "study", "report", f"--study={tmp_path}/study"]
    done = subprocess.run([*command, f"--output={tmp_path}/report"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 participants, 0 answers" in done.stdout
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["report", "--study=none"], 2, "glcic study report: missing: --output"),
        (["serve", "--study=none"], 1, "glcic study serve: --study=none: holds no study.json"),
        (["serve", "--study=none", "--port=70000"], 2, "glcic study serve: flag --port=70000: "),
    ],
)
def test_wrong_commands_are_one_line_each(glcic, tmp_path, monkeypatch, flags, code, expected):
    monkeypatch.chdir(tmp_path)
    found, out, err = glcic("study", *flags)
    assert (found, out, err.count("\n")) == (code, "", 1) and err.startswith(expected)
