"""app.py in a browser: photos are opened, painted on with the mouse, completed, compared, undone and downloaded."""

import numpy as np
import pytest
import skimage.data
from PIL import Image

CANVAS = "#editor .pixi-target canvas"


@pytest.fixture(scope="module")
def address(serve):
    return serve("app.py", "--port=0")


@pytest.fixture
def photo(tmp_path):
    """A photo as PNG, 451 x 300 px: awkward, and shown at its own size."""
    path = tmp_path / "my photo (1).png"
    pixels = np.ascontiguousarray(skimage.data.chelsea())
    Image.fromarray(pixels).save(path)
    return path, pixels


def load(page, path):
    page.set_input_files("#photo input[type=file]", path)
    ready(page)


def ready(page):
    """Wait until the canvas shows what was sent to it, and nothing is awaited from the server."""
    page.wait_for_selector(CANVAS)
    page.wait_for_selector("#status [data-testid=status-tracker].hide", state="attached")
    shots = [b"", page.locator("#editor").screenshot()]
    while shots[-1] != shots[-2]:
        page.wait_for_timeout(500)
        shots.append(page.locator("#editor").screenshot())


def paint(page, start=(0, 0), end=(60, 20)):
    """Draw a stroke; in px of the screen from the canvas's centre."""
    page.locator(CANVAS).scroll_into_view_if_needed()
    box = page.locator(CANVAS).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + start[0], y + start[1])
    page.mouse.down()
    page.mouse.move(x + end[0], y + end[1], steps=10)
    page.mouse.up()
    page.wait_for_timeout(300)  # the stroke is put into the layer a moment later


def complete(page, count="Completed in"):
    page.click("#complete")
    page.wait_for_selector(f"#status:has-text('{count}')")
    page.wait_for_selector("#slider img")
    ready(page)


def extend(page, side, added_px, told):
    """Extend the canvas at a side: left, top, right or bottom by number."""
    page.click("#extend button:has-text('Extend the canvas')")
    page.fill(f"#sides input >> nth={side}", str(added_px))
    page.press(f"#sides input >> nth={side}", "Tab")
    page.click("#extend_now")
    page.wait_for_selector(f"#status:has-text('{told}')")
    ready(page)


def download(page, button, folder):
    with page.expect_download() as found:
        page.click(button)
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    with Image.open(path) as image:
        return path, np.asarray(image)


def test_a_stroke_is_completed_and_all_else_is_bit_equal(open_page, address, photo, tmp_path):
    path, pixels = photo
    page = open_page(address)
    load(page, path)
    page.fill("#grow input[type=number]", "0")
    paint(page)
    _, mask = download(page, "#mask_download", tmp_path)
    assert mask.shape == pixels.shape[:2] and set(np.unique(mask)) == {0, 255}
    hole = mask == 255
    assert 200 < hole.sum() < hole.size / 4

    complete(page)
    result_path, result = download(page, "#download", tmp_path)
    assert result_path.name == "my photo (1)_completed.png"
    np.testing.assert_array_equal(result[~hole], pixels[~hole])
    assert (result != pixels).any(axis=-1)[hole].mean() > 0.9
    before, after = (image.get_attribute("src") for image in page.query_selector_all("#slider img")[:2])
    assert before != after

    paint(page, (-100, -40), (-60, -40))  # go on with the result
    complete(page)
    _, twice = download(page, "#download", tmp_path)
    changed = (twice != result).any(axis=-1)
    assert changed.any() and not (changed & hole).any()

    page.click("#undo")
    page.wait_for_selector("#status:has-text('undone')")
    ready(page)
    np.testing.assert_array_equal(download(page, "#download", tmp_path)[1], result)
    page.click("#undo")
    page.wait_for_selector("#undo:disabled")
    ready(page)
    assert not page.is_visible("#result")  # the photo is as it was opened
    _, again = download(page, "#mask_download", tmp_path)  # its hole is painted again
    np.testing.assert_array_equal(again, mask)


def test_masks_random_holes_and_clearing(open_page, address, photo, tmp_path):
    path, pixels = photo
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[101:151:2, 200:251] = 255  # finer than any brush
    Image.fromarray(mask).save(tmp_path / "mask.png")
    page = open_page(address)
    load(page, path)
    with page.expect_file_chooser() as chooser:
        page.click("#mask_upload")
    chooser.value.set_files(tmp_path / "mask.png")
    page.wait_for_selector("#status:has-text('The mask is painted')")
    ready(page)
    np.testing.assert_array_equal(download(page, "#mask_download", tmp_path)[1], mask)
    page.click("#random")
    page.wait_for_selector("#status:has-text('random')")
    ready(page)
    assert (download(page, "#mask_download", tmp_path)[1] != mask).any()
    page.click("#editor button[aria-label='Clear canvas']")
    page.wait_for_selector("#status:has-text('Nothing is painted')")
    ready(page)
    page.click("#complete")
    page.wait_for_selector("text=Nothing is painted yet")


def test_a_large_photo_keeps_its_size_format_and_metadata(open_page, address, tmp_path):
    path = tmp_path / "wide.jpg"
    exif = Image.Exif()
    exif[0x010F] = "camera"
    Image.fromarray(skimage.data.coffee()).resize((1500, 250)).save(path, quality=95, exif=exif)
    page = open_page(address)
    load(page, path)
    paint(page)
    complete(page)
    page.click("#format label:has-text('PNG')")
    with Image.open(path) as image:
        pixels = np.asarray(image)
    _, result = download(page, "#download", tmp_path)
    same = (result == pixels).all(axis=-1)
    assert result.shape == pixels.shape and 0.9 < same.mean() < 1
    page.click("#format label:has-text('As the photo')")
    saved, _ = download(page, "#download", tmp_path)
    with Image.open(saved) as image:
        assert (image.format, image.size, image.getexif()[0x010F]) == ("JPEG", (1500, 250), "camera")


def test_what_is_no_photo_is_refused_and_the_page_goes_on(open_page, address, photo, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    page = open_page(address)
    page.set_input_files("#photo input[type=file]", tmp_path / "text.png")
    page.wait_for_selector("text=text.png: is not an image that can be read")
    page.wait_for_selector("#photo input[type=file]", state="attached")  # for another
    load(page, photo[0])
    assert "451 x 300 px" in page.inner_text("#status")


def test_pasted_photo(open_page, address):
    page = open_page(address)
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.evaluate("""async () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 40 });
      const blob = await new Promise(done => canvas.toBlob(done));
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([blob], "image.png", { type: "image/png" }));
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }""")
    page.wait_for_selector("#status:has-text('60 x 40 px')")
    ready(page)


def test_keyboard(open_page, address):
    """Every control is reached by Tab, in the order of the page, and pressed by a key."""
    page = open_page(address)
    page.wait_for_selector("#samples button")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText.trim()"))
        if reached[-1] == "Cat":
            break
    assert reached[-1] == "Cat" and reached.index("Coffee") < reached.index("Cat")
    page.keyboard.press("Enter")
    ready(page)
    page.focus("#random")
    page.keyboard.press("Space")
    page.wait_for_selector("#status:has-text('random')")
    ready(page)
    page.focus("#complete")
    page.keyboard.press("Enter")
    page.wait_for_selector("#slider img")


def test_phone(open_page, address):
    page = open_page(address, phone=True)
    page.tap("#samples button:has-text('Rocket')")
    ready(page)
    paint(page, (30, -30), (30, 20))
    page.tap("#complete")
    page.wait_for_selector("#slider img")
    ready(page)
    width, shown = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= shown
    assert page.get_attribute("#status", "role") == "status"


@pytest.mark.parametrize("phone", [True, False], ids=["phone", "desktop"])
def test_the_canvas_fits_the_photo(open_page, address, tmp_path, phone):
    """No blank space above or below it, no need to scroll for Download, and the canvas follows where it is extended."""

    def blank(width, height):
        """Space above and below the photo; it is never enlarged, and 30 px from the border."""
        box = page.locator(CANVAS).bounding_box()
        return box["height"] - height * min(1, (box["width"] - 60) / width)

    page = open_page(address, phone=phone)
    for shape in ((450, 300), (900, 300), (200, 250)):
        Image.fromarray(skimage.data.coffee()).resize(shape).save(tmp_path / "photo.png")
        load(page, tmp_path / "photo.png")
        assert 55 <= blank(*shape) <= 65
        download = page.locator("#download").bounding_box()
        assert download["y"] + download["height"] <= page.viewport_size["height"]
        if shape != (200, 250):
            page.click("#other")
            page.wait_for_selector(CANVAS, state="hidden")  # else the photo is put away after the next one has come
            page.wait_for_selector("#photo input[type=file]", state="attached")
    extend(page, 2, 200, "400 x 250 px now")
    assert 55 <= blank(400, 250) <= 65


def test_keys(open_page, address, photo, tmp_path):
    page = open_page(address)
    load(page, photo[0])
    page.locator("#head").click()  # out of the field, where keys are text

    def area():
        return (download(page, "#mask_download", tmp_path)[1] == 255).sum()

    def press(key):
        page.evaluate("document.activeElement.blur()")  # Enter on a button presses that
        page.keyboard.press(key)

    paint(page)
    first = area()
    paint(page, (-80, -40), (-40, -40))
    assert area() > first > 0
    press("Control+z")  # the stroke, not a completion
    page.wait_for_timeout(500)
    assert area() == first
    for _ in range(3):
        press("[")
        page.wait_for_timeout(200)
    paint(page, (-80, -40), (-20, -20))
    thin = area() - first
    assert 0 < thin < first
    press("e")
    paint(page, (-80, -40), (-20, -20))
    assert area() < first + thin
    press("b")

    press("m")
    assert page.evaluate("document.querySelector('#over').src == document.querySelector('#now').src")
    press("m")
    assert page.locator("#over").count() == 0

    press("Enter")
    page.wait_for_selector("#status:has-text('Completed in')")
    ready(page)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.down("c")
    assert page.evaluate("document.querySelector('#over').src == document.querySelector('#before').src")
    page.keyboard.up("c")
    assert page.locator("#over").count() == 0
    press("Control+z")
    page.wait_for_selector("#status:has-text('undone')")
    ready(page)
    assert not page.is_visible("#result")


def test_results_close_up_outline_and_extension(open_page, address, photo, tmp_path):
    path, pixels = photo
    page = open_page(address)
    load(page, path)
    paint(page, (0, 0), (6, 3))
    rough = download(page, "#mask_download", tmp_path)[1]
    page.click("#snap")
    page.wait_for_selector("#status:has-text('outline')")
    ready(page)
    assert (download(page, "#mask_download", tmp_path)[1] != rough).any()
    page.click("#undo")
    page.wait_for_selector("#status:has-text('undone')")
    ready(page)
    np.testing.assert_array_equal(download(page, "#mask_download", tmp_path)[1], rough)

    complete(page)
    _, automatic = download(page, "#download", tmp_path)
    page.click("#each")
    page.wait_for_selector("#results img >> nth=3")
    page.click("#results button:has(img) >> nth=3")
    page.wait_for_selector("#status:has-text('the network alone')")
    ready(page)
    assert (download(page, "#download", tmp_path)[1] != automatic).any()
    whole = page.get_attribute("#slider img", "src")
    page.click("#close input")
    page.wait_for_function("whole => document.querySelector('#slider img').src != whole", arg=whole)

    extend(page, 0, 40, "491 x 300 px now")
    mask = download(page, "#mask_download", tmp_path)[1]
    assert (mask[:, :40] == 255).all() and (mask[:, 40:] == 0).all()
