"""glcic portable compile: what the compiler counts becomes a table, and what cannot be is one line."""

import importlib.util
import subprocess
import sys

import pytest

from glcic_tf.__main__ import main
from glcic_tf.apps.portable import compile_bundle
from glcic_tf.apps.portable.chips import CHIPS, Chip
from glcic_tf.apps.portable.compile_bundle import Report

pytest_plugins = ["portable_helpers"]


def do(capsys, *flags):
    """Run the command in this process: exit code, what it printed, what it said."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["glcic", "portable", "compile", *flags])
        main()
    return ended.value.code or 0, *capsys.readouterr()


@pytest.mark.parametrize(
    ("flops", "accessed", "memory", "fits", "seconds"),
    [
        (200e12, 10e9, 3 * 2**30, True, 2.0),  # 100 TFLOP/s: operations bind
        (10e12, 200e9, 4 * 2**30, True, 4.0),  # 50 GB/s: accesses do
        (100e12, 50e9, 4 * 2**30 + 1, False, 1.0),
    ],
)
def test_roofline(flops, accessed, memory, fits, seconds):
    report = Report("a", "joint", 8, flops, accessed, 2**30, 2**29, memory, Chip(100, 50, 4))
    assert report.fits is fits
    assert report.roofline_s == pytest.approx(seconds) and report.images_per_s == pytest.approx(8 / seconds)
    cells = [cell.strip() for cell in compile_bundle.row(report).split("|")]
    assert len(cells) == len(compile_bundle.HEADER.split("|"))
    assert cells[3:7] == [f"{flops / 1e12:.4g}", f"{accessed / 1e9:.4g}", "1.00", "0.50"]


def test_what_does_not_fit_at_all():
    report = Report("a", "joint", 8, 0, 0, 0, 0, 0, CHIPS["tpu"]["v5e"], "Used 20G of 15.75G")
    assert not report.fits and "does not fit: Used 20G" in compile_bundle.row(report)


def test_bytes_that_nobody_counted():
    report = Report("a", "joint", 8, 100e12, None, 2**30, 2**29, 2**31, Chip(100, 50, 4))
    assert report.roofline_s == pytest.approx(1.0)
    assert [cell.strip() for cell in compile_bundle.row(report).split("|")][4] == "?"


@pytest.mark.parametrize("target", ["gpu:h100:1", "gpu", "gpu:v5e", "tpu", "tpu:v1:2x2", "tpu:h100", "v5e:2x2"])
def test_targets_that_are_none(capsys, bundle, target):
    code, out, err = do(capsys, f"--bundle={bundle}", f"--target={target}")
    assert (code, out, err.count("\n")) == (2, "", 1) and f"--target={target}: expected tpu:CHIP:TOPOLOGY" in err


@pytest.mark.parametrize(("target", "package"), [("tpu:v5e:2x2", "jax[tpu]"), ("gpu:a100", "jax[cuda13]")])
def test_without_the_compiler(capsys, bundle, monkeypatch, target, package):
    monkeypatch.setattr(compile_bundle.pjrt.importlib.util, "find_spec", lambda name: None)
    code, out, err = do(capsys, f"--bundle={bundle}", f"--target={target}")
    assert (code, out, err.count("\n")) == (1, "", 1) and f"pip install '{package}'" in err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu, of 137 MB, is not installed")
def test_small_programs_are_compiled(capfd, bundle):
    code, out, err = do(capfd, f"--bundle={bundle}")
    assert code == 0, err
    header, *rows = out.splitlines()
    assert header == compile_bundle.HEADER and len(rows) == 3
    for line, phase in zip(rows, ("completion", "discriminator", "joint"), strict=True):
        cells = [cell.strip() for cell in line.split("|")]
        assert cells[1:3] == [phase, "4"] and cells[7].startswith("yes, 0.0 of 16") and float(cells[4]) > 0
    code, out, _ = do(capfd, f"--bundle={bundle}", "--phase=joint")
    assert code == 0 and len(out.splitlines()) == 2
    code, _, err = do(capfd, f"--bundle={bundle}", "--target=tpu:v5e:9x9x9")
    assert code == 1 and "--target: cannot compile for v5e:9x9x9" in err


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is None, reason="2 GB: JAX for GPUs is not installed")
def test_small_programs_are_compiled_for_a_gpu(bundle):
    """In a process of its own, in which JAX has not looked for a GPU yet."""
    command = [sys.executable, "-m", "glcic_tf", "portable", "compile", f"--bundle={bundle}", "--target=gpu:h100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for line, phase in zip(done.stdout.splitlines()[1:], ("completion", "discriminator", "joint"), strict=True):
        cells = [cell.strip() for cell in line.split("|")]
        assert cells[1:3] == [phase, "4"] and cells[4] == "?" and cells[7].startswith("yes, ") and float(cells[3]) > 0
