"""Complete fixed holes in public-domain photos, to see what the weights can do: `glcic demo`.

The photos are those inside the installed scikit-image package; nothing is downloaded.
"""

import importlib.util
import time
from pathlib import Path

import cv2
import numpy as np
from absl import flags

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError
from glcic_tf.convert import model_names
from glcic_tf.imaging import images, pictures

SHORTER_SIDE_PX = 256  # of the photos, as the network saw them in training
_STROKE_PX = 18


def rectangles(shape, *boxes):
    """Hole of one or several rectangles (top, left, height, width) in px: bool [height, width]."""
    hole = np.zeros(shape, bool)
    for top, left, height, width in boxes:
        hole[top : top + height, left : left + width] = True
    return hole


def strokes(shape, *lines):
    """Hole of brush strokes, each a list of (x, y) in px: bool [height, width]."""
    hole = np.zeros(shape, np.uint8)
    for line in lines:
        cv2.polylines(hole, [np.array(line, np.int32)], isClosed=False, color=1, thickness=_STROKE_PX)
    return hole.astype(bool)


# Name of the picture -> file in scikit-image's data folder, and the hole for its shape at a shorter side of 256 px.
SAMPLES = {
    "coffee": ("coffee.png", lambda shape: rectangles(shape, (128, 250, 112, 112))),
    "chelsea": ("chelsea.png", lambda shape: rectangles(shape, (124, 36, 104, 104))),
    "astronaut": (
        "astronaut.png",
        lambda shape: strokes(
            shape, [(20, 30), (60, 60), (30, 110), (70, 150)], [(150, 40), (236, 24), (160, 90), (240, 110)]
        ),
    ),
    "rocket": ("rocket.jpg", lambda shape: rectangles(shape, (56, 70, 112, 96), (50, 228, 112, 96))),
    # What it cannot do: a cut face, and a hole at the border, which is known on one side only.
    "limit_face": ("astronaut.png", lambda shape: rectangles(shape, (20, 112, 100, 80))),
    "limit_border": ("coffee.png", lambda shape: rectangles(shape, (150, 30, 106, 128))),
}


def demo(output="demo", model=None):
    """Write `<output>/<name>.png` for each sample: masked | completed | original, labelled.

    Args:
        output: folder, created if it is missing; files of these names in it are replaced.
        model: as for `Completer.load`.

    Returns:
        List of the paths written.

    Raises:
        UserError: model or samples are missing, or the folder cannot be written.
    """
    output = Path(output)
    photos = {name: sample_photo(file) for name, (file, _) in SAMPLES.items()}
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output={output}: cannot be created ({error.strerror}); choose another place.") from error
    model_names.path_of(model, "--model")  # downloaded if need be
    with cli.quiet_start():  # from here on it takes seconds
        from glcic_tf.completion.completer import Completer

        completer = Completer.load(model)

    paths = []
    for name, photo in photos.items():
        hole = SAMPLES[name][1](photo.shape[:2])
        start = time.perf_counter()
        completed = completer(photo, hole)
        seconds = time.perf_counter() - start
        paths.append(output / f"{name}.png")
        images.write_image(paths[-1], pictures.comparison(photo, completed, hole))
        note = "" if len(paths) > 1 else "  (the first one includes building the graph)"
        print(f"{paths[-1]}  {seconds:.2f} s{note}", flush=True)
    return paths


def sample_path(name):
    """Return the path of a photo in scikit-image's data folder.

    Raises:
        UserError: scikit-image is missing.
    """
    package = importlib.util.find_spec("skimage")
    if package is None:
        raise UserError(f"scikit-image is missing, which has the sample photos; run: {cli.install_line()}")
    # As a file: skimage.data.<name>() downloads what a release no longer has in the package.
    return Path(package.origin).parent / "data" / name


def sample_photo(name):
    """Read such a photo with its shorter side reduced to SHORTER_SIDE_PX: uint8 [height, width, 3] RGB."""
    photo = images.read_photo(sample_path(name))
    factor = SHORTER_SIDE_PX / min(photo.shape[:2])
    height, width = (round(side * factor) for side in photo.shape[:2])
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)


def define_demo_flags():
    """Define the command's flags."""
    flags.DEFINE_string("output", "demo", "Folder to write the pictures to.")
    model_names.define_flag()


def run_demo():
    """Complete fixed holes in public-domain photos, to see what the weights can do.

    glcic demo --output demo/
    """
    demo(flags.FLAGS.output, flags.FLAGS.model)
