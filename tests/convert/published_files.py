"""Files of published weights in each layout, at any width: for tests, and for the commands in the documents."""

import json

import numpy as np
import published_weights
import torch7_writer
import torch_writer


def write(folder, width, torch7="places2.t7", mmagic="gl.pth"):
    """Write one file of each layout into a folder, which is returned."""
    (folder / torch7).write_bytes(torch7_writer.dumps(as_torch7(published_weights.torch7_release(0, width))))
    cn, cd = (getattr(published_weights, f"glcic_pytorch_{n}")(0, width) for n in ("completion", "discriminator"))
    torch_writer.write_zip(folder / "model_cn", tensors(cn))
    torch_writer.write_legacy(folder / "model_cd", tensors(cd))
    both = published_weights.mmagic_completion(0, width) | published_weights.mmagic_discriminator(0, width)
    torch_writer.write_legacy(folder / mmagic, {"meta": {"epoch": 3}, "state_dict": tensors(both)})
    (folder / "config.json").write_text(json.dumps({"mpv": list(published_weights.MEAN), "hole_min_w": 48}))
    return folder


def as_torch7(value):
    """The authors' file for the writer, all tensors as views into one flat storage, as after getParameters()."""
    arrays = []

    def gather(value):
        if isinstance(value, np.ndarray):
            arrays.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                gather(item)
        elif hasattr(value, "fields"):
            gather(value.fields)

    gather(value)
    views = {id(array): view for array, view in zip(arrays, torch7_writer.flattened(arrays), strict=True)}

    def convert(value):
        if isinstance(value, np.ndarray):
            return views[id(value)]
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if hasattr(value, "fields"):
            return torch7_writer.Module(value.class_name, convert(value.fields))
        return value

    return convert(value)


def tensors(state):
    return {name: torch_writer.tensor(value) for name, value in state.items()}
