"""`glcic evaluate` on URLs: the figures of folders of this machine."""

import csv

import numpy as np
import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.evaluation.evaluate import evaluate
from glcic_tf.evaluation.protocols import Protocol
from glcic_tf.evaluation.report import MEMBERS
from glcic_tf.imaging import images
from glcic_tf.networks import model_file
from tests.common.web_server import serving
from tests.small_networks import completion_network


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b c.png", "masks/a.png", "masks/x.png", "report/a.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (50, 60, 3), np.uint8)
        if "masks" in name:
            pixels = np.zeros((50, 60), np.uint8)
            pixels[20:30, 20:35] = 255
        images.write_image(tmp_path / "photos" / name, pixels)
    for name in ("metrics.json", "index.html"):
        (tmp_path / "photos" / "report" / name).write_text("")
    return tmp_path / "photos"


def figures(content):
    """Of each photo by each method, without times."""
    rows = csv.DictReader(content.decode().splitlines())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("kind", ["memory", "web"])
def test_figures_are_those_of_the_folder(kind, folder, memory, tmp_path):
    model_file.save(completion_network(1 / 16), tmp_path / "small.keras")

    def call(source, output, **options):
        protocol = Protocol("files", 48, masks=f"{source}/masks")
        methods = () if kind == "memory" else ("telea",)  # they work in other processes, which see another memory
        return evaluate(source, output, protocol, (tmp_path / "small.keras",), methods, workers=1, **options)

    call(folder, tmp_path / "report")
    memory.put(str(folder), "/in/", recursive=True)
    with serving(folder.parent) as (url, _):
        source = "memory://in/photos" if kind == "memory" else f"{url}/photos"
        call(source, "memory://out/report")
        with pytest.raises(UserError, match="memory://out/report: exists already; add --overwrite"):
            call(source, "memory://out/report")
        call(source, "memory://out/report", overwrite=True)
    assert {path.rpartition("/")[2] for path in memory.ls("/out/report", detail=False)} == MEMBERS
    here, there = (tmp_path / "report" / "metrics.csv").read_bytes(), memory.cat("/out/report/metrics.csv")
    assert figures(here) == figures(there) and len(figures(here)) == 2 * (1 if kind == "memory" else 2)
