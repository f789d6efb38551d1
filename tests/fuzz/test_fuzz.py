"""A small part of each campaign, the same each time: what is spoilt is read, or refused in one clear line."""

import pytest
from campaign import run_here, table
from targets import TARGETS

pytestmark = pytest.mark.filterwarnings("default")  # of libraries, about what is spoilt


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_spoilt_does_harm(tmp_path, name):
    counts, failed = run_here(TARGETS[name], TARGETS[name].small, 0, tmp_path)
    print(table([(name, counts)]))
    assert not failed, failed
