"""A run for tests: all three phases in under 2 minutes on 2 cores. Its pictures are worthless.

glcic train --config tiny --data_dir photos/ --workdir run/
"""

from glcic_tf.configs import default


def get_config():
    config = default.get_config()
    config.width = config.discriminator.width = 1 / 16
    config.deterministic = True
    config.update(default.size(32))
    config.batch_size = 4
    config.stages = default.stages(
        config,
        completion=default.stage("completion", steps=40),
        discriminator=default.stage("discriminator", steps=40),
        joint=default.stage("joint", steps=40),
    )
    config.log_every_steps = 10
    config.checkpoint_every_steps = 10
    config.sample_every_steps = 20
    config.sample_photos = 2
    config.data.validation_photos = 2
    return config
