"""What the network contributes to guided texture synthesis: the same synthesis, guided by other things.

python -m benchmarks.guides --images photos/ [--model run/joint.keras] [--limit=48]

`nothing`: the completion weighs nothing in the energy, so borders and seams alone decide; `telea`: Telea's filling is
the guide; `network`: the completion; `what_stood_there`: the original, which is the most that a guide can do.
"""

from pathlib import Path
from unittest import mock

import numpy as np
from absl import flags
from tqdm import tqdm

from glcic_tf.common import cli
from glcic_tf.completion import texture
from glcic_tf.data import sources
from glcic_tf.evaluation import appearance, baselines, evaluate, metrics, protocols
from glcic_tf.evaluation.measurements import Measurements

_IMAGES = flags.DEFINE_string("images", None, "folder of photos", required=True)
_MODEL = flags.DEFINE_string("model", None, "model file; by default the one that ships")
_LIMIT = flags.DEFINE_integer("limit", 1000, "photos, evenly spread", lower_bound=1)
_GUIDES = ("nothing", "telea", "network", "what_stood_there")
_SHOWN = ("perceptual", "kid", "l1", "psnr_hole", "seam", "sharpness")


def run():
    from glcic_tf.completion.completer import Completer

    completer, protocol = Completer.load(_MODEL.value), protocols.PRESETS["places"]
    photos = sources.spread(protocols.find_photos(Path(_IMAGES.value)), _LIMIT.value)
    jobs, _ = protocols.make_jobs(photos, protocol, _IMAGES.value)
    measurements = Measurements(appearance.load_networks(None, None)[0])
    for job in tqdm(jobs, unit="photo", disable=None):
        sample = protocols.sample(job)
        if sample is not None:
            measurements.add(job.name, evaluate.measure(job, _methods(completer, sample[0]), False))
    print(f"| guide | {' | '.join(metrics.METRICS[name].label for name in _SHOWN)} |")
    print("| --- |" + " --- |" * len(_SHOWN))
    for guide in _GUIDES:
        means = measurements.means(guide)
        cells = [f"{means[name].mean:.2f} ({means[name].low:.2f} to {means[name].high:.2f})" for name in _SHOWN]
        print(f"| {guide} | {' | '.join(cells)} |")


def _methods(completer, original):
    def nothing(image, hole):
        with mock.patch.object(texture, "_GUIDE_WEIGHT", 0.0):
            return texture.synthesise(image, baselines.mean_colour(image, hole), hole)[0]

    def network(image, hole):
        return texture.synthesise(image, completer(image, hole, postprocess="none"), hole)[0]

    def telea(image, hole):
        return texture.synthesise(image, baselines.telea(image, hole), hole)[0]

    def what_stood_there(image, hole):
        return texture.synthesise(image, np.where(hole[..., None], original, image), hole)[0]

    return dict(zip(_GUIDES, (nothing, telea, network, what_stood_there), strict=True))


if __name__ == "__main__":
    cli.run(run)
