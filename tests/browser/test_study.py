"""The study in a browser: two participants, one of whom reloads the page, and the report of what they answered."""

import pytest
from study_helpers import PROTOCOL, make_photos, serving

from glcic_tf.apps.study.picture_set import prepare
from glcic_tf.apps.study.study_report import report

PRACTICE, ITEMS = 2, 8


@pytest.fixture(scope="module")
def study(tmp_path_factory, chromium):
    folder = tmp_path_factory.mktemp("study")
    photos = make_photos(folder / "photos", 10)
    made = prepare(photos, folder / "study", PROTOCOL, (), ("telea", "mean_colour"), items=ITEMS, practice=PRACTICE)
    return folder / "study", made


def join(page, name, press):
    page.fill("#name", name)
    press("#start")
    page.wait_for_selector(f"#title:has-text('Hello, {name}')")
    press("#continue")


def judge(page, natural, press):
    """Judge the next picture, by press(selector) of the button; return its id."""
    page.wait_for_selector("#natural:enabled, #continue:visible")
    if page.is_visible("#continue"):  # "Now it counts"
        press("#continue")
    page.wait_for_selector("#natural:enabled")
    id = page.get_attribute("#picture", "src").split("/")[-1].removesuffix(".png")
    assert page.evaluate("document.querySelector('#picture').naturalWidth") == PROTOCOL.size
    press("#natural" if id in natural else "#not")
    page.wait_for_function(
        """id => document.querySelector("#next") || !document.querySelector("#text").hidden
          || !document.querySelector("#picture").src.includes(id)""",
        arg=id,
    )
    if page.query_selector("#next"):
        press("#next")
        page.wait_for_function(
            """id => !document.querySelector("#text").hidden || !document.querySelector("#picture").src.includes(id)""",
            arg=id,
        )
    return id


def test_two_participants_with_a_reload(study, open_page, tmp_path):
    folder, made = study
    ids = {
        method: [item.id for item in made.items if (item.method or "real") == method]
        for method in ("real", "telea", "mean_colour")
    }
    practice = [item.id for item in made.practice]
    natural = {
        "Ann": {*ids["real"], *ids["telea"]},  # takes Telea's for real
        "Ben": {*ids["real"][:2], *ids["telea"], ids["mean_colour"][0]},
    }
    seen = {"Ann": [], "Ben": []}
    with serving(folder) as port:
        ann, ben = (open_page(f"http://127.0.0.1:{port}/", phone) for phone in (False, True))
        keys = {"#start": "Enter", "#natural": "f", "#not": "j", "#continue": "Space", "#next": "Space"}
        press = {"Ann": lambda button: ann.keyboard.press(keys[button]), "Ben": ben.tap}
        for page, name in ((ann, "Ann"), (ben, "Ben")):
            join(page, name, press[name])
        for _ in range(PRACTICE + 3):
            seen["Ann"].append(judge(ann, natural["Ann"], press["Ann"]))
            seen["Ben"].append(judge(ben, natural["Ben"], press["Ben"]))
        ann.reload()
        ann.wait_for_selector("#title:has-text('Welcome back, Ann')")
        assert "3 of 8 pictures done" in ann.inner_text("#lines")
        press["Ann"]("#continue")
        for _ in range(ITEMS - 3):
            seen["Ann"].append(judge(ann, natural["Ann"], press["Ann"]))
            seen["Ben"].append(judge(ben, natural["Ben"], press["Ben"]))
        for page, right in ((ann, 6), (ben, 3)):
            page.wait_for_selector("#title:has-text('Thank you')")
            assert f"all 8 pictures, {right} of them rightly" in page.inner_text("#lines")
            width, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert width <= shown

    for number, name in ((1, "Ann"), (2, "Ben")):  # in an order of their own, each picture once, the reload included
        assert seen[name] == [item.id for item in made.order(number)]
        assert sorted(seen[name][:PRACTICE]) == sorted(practice)
    result = report(folder, tmp_path / "report")
    # By hand: Ann and Ben gave 4 + 2 naturals to 8 real pictures, 2 + 2 to 4 of Telea's, 0 + 1 to 4 of mean_colour's.
    assert {name: (s["count"], s["n"]) for name, s in result["judged_real"].items()} == {
        "real": (6, 8),
        "telea": (4, 4),
        "mean_colour": (1, 4),
    }
    assert (result["participants"], result["finished"], result["answers"]) == (2, 2, 16)
    assert [result["by_participant"][n]["right"]["count"] for n in "12"] == [6, 3]
