"""LPIPS's own results for test_lpips.py: `python tests/evaluation/goldens/lpips_vgg.py`, from the root.

It needs torch and lpips 0.1.4. VGG16's weights are random, those of tests/vgg_weights.py; torchvision, which builds the
network for lpips, is replaced by its list of layers.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import vgg_weights as weights


def vgg16(pretrained):
    features, channels = [], 3
    for filters in (64, 64, "pool", 128, 128, "pool", *3 * [256], "pool", *3 * [512], "pool", *3 * [512], "pool"):
        if filters == "pool":
            features.append(nn.MaxPool2d(2, 2))
        else:
            features += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(inplace=True)]
            channels = filters
    network = nn.Module()
    network.features = nn.Sequential(*features)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.vgg16().items()})
    return network


def main():
    sys.modules["torchvision"] = types.SimpleNamespace(models=types.SimpleNamespace(vgg16=vgg16))
    sys.modules["torchvision.models"] = sys.modules["torchvision"].models
    import lpips

    network = lpips.LPIPS(net="vgg", version="0.1", verbose=False)
    found = {name: value.numpy() for name, value in network.state_dict().items() if name.startswith("lin")}
    found = {name: value for name, value in found.items() if name.count(".") == 3}  # each is there twice
    for height, width in weights.SIZES:
        pair = [torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in weights.images(height, width)]
        with torch.no_grad():
            total, parts = network(*pair, retPerLayer=True)
        print(height, width, float(total), [float(part) for part in parts])
        found[f"{height}_{width}"] = total.numpy().ravel()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
