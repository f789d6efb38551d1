"""Lines of stats.jsonl and the means in them."""

import json
from types import SimpleNamespace

import pytest

from glcic_tf.common.errors import UserError
from glcic_tf.training.stats import StatsFile, Window, optimizer_figures, shown, tag

STAGE = SimpleNamespace(phase="joint", name="joint_256")


def test_lines_follow_a_line_that_was_cut_off_and_have_no_nan(tmp_path):
    path = tmp_path / "stats.jsonl"
    path.write_text('{"step": 1}\n{"st')
    StatsFile(path).append(2, STAGE, {"loss": 0.5, "scale": float("inf"), "psnr": float("nan")})
    first, broken, last = path.read_text().splitlines()
    assert (first, broken) == ('{"step": 1}', '{"st')
    assert json.loads(last) == {
        "step": 2,
        "phase": "joint",
        "stage": "joint_256",
        "loss": 0.5,
        "scale": None,
        "psnr": None,
    }
    with pytest.raises(UserError, match="none/stats.jsonl: cannot be written"):
        StatsFile(tmp_path / "none" / "stats.jsonl").append(1, STAGE, {})


def test_a_window_weighs_results_by_their_steps():
    window = Window(read=lambda value: value / 10)
    window.add({"loss": 10}, 3, seconds=2.0, waited=0.5)
    window.add({"loss": 50}, 1, seconds=2.0)
    assert window.means() == {"loss": 2.0}
    assert window.speed(batch_size=6) == {"images_per_second": 6.0, "input_share": 0.125}
    window.clear()
    window.add({"loss": 70}, 2, seconds=1.0)
    assert window.means() == {"loss": 7.0} and window.steps == 2


def test_figures_of_optimisers():
    assert optimizer_figures({"completion_optimizer": 0.5}, None) == {"completion_learning_rate": 0.5}
    figures = optimizer_figures({"discriminator_optimizer": 1}, 64)
    assert figures == {"discriminator_learning_rate": 1.0, "loss_scale": 64.0}
    assert shown(figures) == "discriminator_learning_rate 1  loss_scale 64"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("completion_loss", "loss/completion_loss"),
        ("r1_penalty", "loss/r1_penalty"),
        ("val_psnr_hole", "validation/psnr_hole"),
        ("d_accuracy", "discriminator/accuracy"),
        ("images_per_second", "input/images_per_second"),
        ("input_share", "input/input_share"),
        ("discriminator_learning_rate", "optimizer/discriminator_learning_rate"),
    ],
)
def test_tensorboard_groups_figures_by_what_they_are_of(name, expected):
    assert tag(name) == expected
