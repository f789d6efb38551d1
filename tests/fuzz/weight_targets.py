"""Files of weights: model files, and foreign ones of Torch7 and PyTorch."""

from mutators import spoil, spoil_zip


def make_model(folder):
    from glcic_tf.networks import model_file
    from glcic_tf.networks.completion import completion_network

    folder.mkdir(parents=True)
    model_file.save(completion_network(1 / 16), folder / "model.keras", {"hole_min_px": 4})
    return [("model.keras", (folder / "model.keras").read_bytes())]


def read_model(path):
    from glcic_tf.networks import model_file

    model_file.read_metadata(path)
    model_file.load(path)


def make_torch7(folder):
    import published_files
    import published_weights
    import torch7_writer as writer

    release = published_files.as_torch7(published_weights.torch7_release(0, 1 / 32))
    return [("small.t7", writer.dumps(writer.network()[0])), ("release.t7", writer.dumps(release))]


def make_torch(folder):
    import published_files
    import published_weights
    import torch_writer as writer

    folder.mkdir(parents=True)
    mmagic = published_weights.mmagic_completion(0, 1 / 32)
    states = {
        "pytorch": writer.state_dict(published_files.tensors(published_weights.glcic_pytorch_completion(0, 1 / 32))),
        "mmagic": {"state_dict": published_files.tensors(mmagic)},
    }
    files = []
    for name, value in states.items():
        files.append((f"{name}.pth", writer.write_zip(folder / f"{name}.pth", value).read_bytes()))
        files.append((f"{name}_old.pth", writer.write_legacy(folder / f"{name}_old.pth", value).read_bytes()))
    return files


def spoil_torch(made, folder, rng):
    name, data = rng.choice(made)
    path = folder / name
    path.write_bytes((spoil_zip if data[:2] == b"PK" else spoil)(data, rng))
    return path


def read_weights(path):
    from glcic_tf.convert import conversion

    (settings := path.with_name("config.json")).write_text('{"mpv": [0.4, 0.5, 0.6]}')
    conversion.convert(path, path.with_name("out.keras"), settings=settings)
