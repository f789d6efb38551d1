"""The paper's training on Places2: 8.1 million photos, 500,000 steps with batches of 96.

    glcic train --config places2 --data_dir photos/ --workdir run/

The paper reports about 2 months on four K80 GPUs.
"""

from glcic_tf.configs import default


def get_config():
    return default.get_config()
