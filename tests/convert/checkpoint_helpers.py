"""Both formats of PyTorch's files, and a check of refusals."""

import numpy as np
import pytest
from torch_writer import (
    write_legacy,
    write_zip,
)

from glcic_tf.common.errors import UserError
from glcic_tf.convert import torch_checkpoint

FORMS = {"zip": write_zip, "legacy": write_legacy}


both_forms = pytest.mark.parametrize("form", FORMS)


def refused(path, match):
    with pytest.raises(UserError, match=match) as error:
        torch_checkpoint.read(path)
    message = str(error.value)
    assert message.startswith(str(path)) and message.isprintable() and len(message) < 500 + len(str(path))


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
