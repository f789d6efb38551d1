"""Completion networks in formats for use without this package: SavedModel, ONNX, OpenVINO and LiteRT.

Each format has a module, tested against its own runtime. All have the inputs `image` [batch, height, width, 3] uint8
RGB and `mask` [batch, height, width, 1] uint8 (hole from 128 up), and the output `completed` [batch, height, width, 3]
uint8 RGB; known pixels come out bit-equal.
"""
