"""Faces as in CelebA: 202,599 aligned photos of 178 x 218 px; crops of 160 px, so that a crop holds the whole face.

    glcic train --config celeba --data_dir photos/ --workdir run/

From the authors: the shorter edge is random in [160, 178], so no photo is enlarged. From the public re-implementation
GLCIC-PyTorch: crops of 160 px, holes of 48-96 px, a local patch of 96 px, and five convolutions in each of D's towers.
The steps, the batch, ADADELTA and alpha are as for Places2 (configs/places2.py). The paper started its face network
from the Places2 one, as --config.init_from=places2.keras does.
"""

from glcic_tf.configs import default


def get_config():
    config = default.get_config()
    config.image_size = 160
    config.patch_size = 96
    config.short_edge_min_px = 160
    config.short_edge_max_px = 178
    config.hole.min_px = 48
    config.hole.max_px = 96
    config.discriminator.global_convolutions = 5  # 160 -> 5 px
    config.discriminator.local_convolutions = 5  # 96 -> 3 px
    return config
