"""Context Encoder (Pathak et al., CVPR 2016), the rival that the paper starts from: the central 64 of 128 px.

    glcic train --config context_encoder --data_dir photos/ --workdir run/

Other sizes and other holes are refused. From the paper: both networks are trained together from the start, the squared
and the adversarial error weigh 0.999 and 0.001, and C's learning rate is ten times D's. From its authors' release: Adam
with 0.002 and 0.0002, beta1 of 0.5, a batch of 64, and the usual form of the adversarial loss. Chosen here: the steps,
bfloat16 where the device gains by it, and photos that are resized as for GLCIC (their release: shorter edge 350 px) and
mirrored, so that configs/centre.py trains GLCIC on the same examples. glcic_tf/networks/context_encoder.py says what
differs from the paper's network.
"""

from glcic_tf.configs import default

# Their squared error is over [-1, 1], so it is four times the one over [0, 1], which has the weight 1 here.
ADVERSARIAL_WEIGHT = 0.001 / (0.999 * 4)


def get_config():
    config = default.get_config()
    config.network = "context_encoder"
    config.update(task())
    config.adversarial_weight = ADVERSARIAL_WEIGHT
    config.adversarial_form = "non_saturating"
    config.stages = default.stages(
        config,
        joint=default.stage(
            "joint",
            steps=20_000,
            optimizer=default.optimizer(name="adam", learning_rate=2e-3, beta_1=0.5, epsilon=1e-8),
            discriminator_optimizer=default.optimizer(name="adam", learning_rate=2e-4, beta_1=0.5, epsilon=1e-8),
        ),
    )
    config.checkpoint_every_minutes = 4.0
    return config


def task():
    """Fields of the task: batches of 64 photos of 128 px with the central 64 px missing."""
    return default.size(128) | dict(
        batch_size=64,
        hole=dict(kind="centre", min_px=64, max_px=64),
        data=dict(enlarge=False, mirror=True, validation_photos=64),
        precision="auto",
    )
