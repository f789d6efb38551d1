"""Write docs/api.md from the docstrings of what is called from Python: `make api`. tests/test_docs.py compares them."""

import html
import re
import subprocess
import sys
from pathlib import Path

import griffe
import griffe2md

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
PUBLIC = {
    "Completing images": (
        "completion.completer.Completer",
        "completion.options.Options",
        "completion.options.Completion",
        "completion.options.FilledHole",
        "completion.blending.poisson",
        "completion.texture.synthesise",
        "common.errors.UserError",
    ),
    "Networks and model files": (
        "networks.completion.completion_network",
        "networks.discriminator.context_discriminator",
        "networks.model_file.load",
        "networks.model_file.save",
        "export.savedmodel.savedmodel",
    ),
    "Losses": (
        "training.losses.completion_loss",
        "training.losses.discriminator_loss",
        "training.losses.adversarial_loss",
        "training.losses.feature_matching_loss",
        "training.losses.r1_penalty",
    ),
    "Figures": (
        "evaluation.metrics.l1_in_hole",
        "evaluation.metrics.psnr_in_hole",
        "evaluation.metrics.psnr",
        "evaluation.metrics.ssim",
        "evaluation.metrics.seam",
        "evaluation.metrics.sharpness",
    ),
}
_HEAD = """# Python API

What is called from Python, from its docstrings (`make api` writes this page). `from glcic_tf import Completer` is the
short way to the first; the rest is imported from where its name says. README.md has an example.
"""
_STYLE = {
    "heading_level": 3,
    "annotations_path": "brief",
    "show_root_full_path": True,
    "summary": False,
    "filters": ["!^_[^_]", "!^__(get|set)state__$", "!^__init__$"],
    "members_order": "source",
    "show_if_no_docstring": False,
}


def page():
    """The page's text."""
    options = {"returns_multiple_items": False, "returns_named_value": False, "warnings": False}
    package = griffe.load("glcic_tf", search_paths=[ROOT], docstring_parser="google", docstring_options=options)
    parts = [_HEAD]
    for title, names in PUBLIC.items():
        parts += [f"## {title}", *(griffe2md.render_object_docs(package[name], _STYLE).strip() for name in names)]
    text = re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", "\n\n".join(parts))  # links to what has no page
    text = re.sub(r"<code>(.*?)</code>", lambda match: f"`{html.unescape(match[1])}`", text)
    return _formatted(text.replace("-  – ", "- ") + "\n")


def _formatted(text):
    """What `make format` would make of it."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(PAGE), "-"]
    return subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
