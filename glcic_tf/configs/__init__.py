"""The configs that ship, as `from glcic_tf.configs import default`.

They are the files of configs/ at the top of the repository; a wheel holds them beside this file.
"""

from pathlib import Path

_HERE = Path(__file__).parent
FOLDER = _HERE if (_HERE / "default.py").is_file() else _HERE.parents[1] / "configs"
__path__ = [str(FOLDER)]
