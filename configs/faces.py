"""Fine-tune the weights in the repository, trained on scenes, on aligned faces: 160 px.

    glcic train --config faces --data_dir photos/ --workdir run/

The paper started its CelebA network from its Places2 one in the same way. Crops of 160 px, holes of 60-80 px and
patches of 80 px are the paper's proportions at that size; photos are not enlarged, so their shorter side must have at
least 160 px. Crops that small allow a larger batch, and there are more photos to learn from. Everything else is as in
configs/facade.py.
"""

from glcic_tf.configs import default, facade


def get_config():
    config = facade.get_config()
    config.update(default.size(160))
    config.short_edge_max_px = 176
    config.batch_size = 16
    config.stages.completion.steps = 700
    config.stages.joint.steps = 300
    return config
