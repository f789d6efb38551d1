"""Lets these tests write files of PyTorch, as those of `convert` do."""

import sys
from pathlib import Path

import pytest
from report_helpers import write

sys.path.insert(0, str(Path(__file__).parents[1] / "convert"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("reports") / "report")
