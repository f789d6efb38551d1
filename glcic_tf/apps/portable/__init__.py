"""Training on devices that TensorFlow does not reach: the compiled step, exported, run by JAX's runtime, brought back.

`export_bundle` and `restore` need TensorFlow. All else here, and what it imports of the package, does without: a
machine that runs a bundle has JAX, NumPy, what reads photos, and absl-py.
"""
