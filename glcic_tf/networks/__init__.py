"""The completion network, its discriminators, their layers, their files, and the weights that ship.

Nothing is imported here, since `initial_weights` must work without TensorFlow.
"""

from pathlib import Path

DEFAULT_MODEL = Path(__file__).parent / "weights" / "scenes.keras"  # the model file that ships
PACKAGE = "package"  # what flags and configs call it
STRIDE = 4  # height and width that C takes are multiples of this
# A crop whose margin around the hole is at least this wide (and a multiple of STRIDE) gives the hole the same values
# as the whole image: half of C's spatial support, aligned.
MARGIN_PX = 156
