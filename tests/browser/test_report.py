"""The report of an evaluation in a browser: every picture is in sight, however many methods and however narrow."""

import pytest
from report_helpers import PICTURES, ROWS, SUMMARY, jpeg, row, summary_of, write


@pytest.mark.parametrize(("width", "phone"), [(1366, False), (1024, False), (375, True)])
@pytest.mark.parametrize("methods", [1, 12])
def test_all_pictures_of_the_gallery_are_in_sight(open_page, tmp_path, methods, width, phone):
    more = {f"run/joint.keras, {n}": jpeg(20 * n) for n in range(methods)}
    write(
        tmp_path / "report",
        pictures={name: shown | more for name, shown in PICTURES.items()},
        rows=ROWS + [row(image, method) for image in PICTURES for method in more],
        summary=SUMMARY | {method: summary_of() for method in more},
    )
    page = open_page((tmp_path / "report" / "index.html").as_uri(), phone)
    page.set_viewport_size({"width": width, "height": 768})
    boxes = [figure.bounding_box() for figure in page.query_selector_all("figure")]
    assert len(boxes) > 2 * (methods + 2)
    for box in boxes:
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and 80 <= box["width"] <= 280
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#gallery figure:last-child .zoom >> nth=-1")
    assert page.is_visible("#large img")
