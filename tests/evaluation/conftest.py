"""Lets these tests write files of PyTorch, as those of `convert` do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "convert"))
