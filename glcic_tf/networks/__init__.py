"""The completion network, its discriminators, their layers, their files, and the weights that ship.

Nothing is imported here: `initial_weights` does without TensorFlow.
"""

from pathlib import Path

DEFAULT_MODEL = Path(__file__).parent / "weights" / "scenes.keras"  # the model file that ships
PACKAGE = "package"  # what flags and configs call it
