"""Rows, means and pictures of a made-up report."""

import cv2
import numpy as np

from glcic_tf.evaluation import report

NAN = float("nan")
ODD = "a/<i>&\"q'</script>.jpg"  # what file names may hold on Linux
MEASURED = ("l1", "psnr_hole", "seam", "sharpness", "psnr", "ssim", "seconds")


def row(image, method, l1=10.0, psnr_hole=16.0, psnr=24.0, ssim=0.9, seam=1.0, sharpness=0.5, seconds=0.25):
    values = (image, method, l1, psnr_hole, seam, sharpness, psnr, ssim, seconds)
    return dict(zip(("image", "method", *MEASURED), values, strict=True))


def mean(value, n=2, low=NAN, high=NAN):
    return {"mean": value, "low": low, "high": high, "n": n}


def summary_of(**means):
    """Figures of one method: those named, and some for all others."""
    figures = {"l1": 10.0, "psnr_hole": 16.0, "psnr": 24.0, "ssim": 0.9, "seam": 1.0, "sharpness": 0.5, "seconds": 0.25}
    return {metric: mean(value) for metric, value in {**figures, **means}.items()}


def jpeg(value):
    return cv2.imencode(".jpg", np.full((16, 16, 3), value, np.uint8))[1].tobytes()


ROWS = [
    row(ODD, "net", l1=1 / 3, seam=NAN),
    row(ODD, "o'<b>ther", l1=12345.678, psnr_hole=99.0),
    row("b,c.png", "net", l1=0.0, seconds=1e-5),
    row("b,c.png", "third", sharpness=NAN),
]


SUMMARY = {
    "net": summary_of(l1=1 / 6, psnr_hole=20.0, seam=NAN, sharpness=0.1),
    "o'<b>ther": summary_of(l1=11.0, psnr=30.0, seam=0.4, ssim=0.95),
    "third": summary_of(l1=12.0, seam=2.0, sharpness=8.0) | {"ssim": mean(0.8, 2, 0.75, 0.875)},
}


BY_AREA = {"net": {"0-10 %": mean(15.5, 1), "10-20 %": mean(17.25, 1)}, "third": {"10-20 %": mean(14.0, 1)}}
AREAS = {ODD: 0.05, "b,c.png": 0.125}
PICTURES = {
    "b,c.png": {"original": jpeg(0), "masked": jpeg(50), "net": jpeg(100), "third": jpeg(150)},
    ODD: {"original": jpeg(200), "masked": jpeg(250), "net": jpeg(10), "o'<b>ther": jpeg(20)},
}


EXTREMES = {"best": [ODD], "worst": ["b,c.png"], "method": "net", "metric": "l1"}
DEAD = {metric: mean(NAN, 0) for metric in MEASURED}  # failed on every photo


def write(folder, problems=(), rows=ROWS, summary=SUMMARY, areas=AREAS, pictures=PICTURES, extremes=EXTREMES):
    folder.mkdir()
    notes = ["Note & more."]
    report.write(folder, "Title <1>", notes, list(problems), rows, summary, BY_AREA, areas, pictures, extremes)
    return folder
