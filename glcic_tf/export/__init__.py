"""Completion networks for other runtimes than TensorFlow: ONNX, OpenVINO and LiteRT, photos in and photos out.

Each module has a function `export(model, output, ...)`, checked against its own runtime. What the formats have in
common: inputs `image` [batch, height, width, 3] uint8 RGB and `mask` [batch, height, width, 1] uint8 (hole from 128
up), output `completed` [batch, height, width, 3] uint8 RGB; known pixels come out bit-equal.
"""
