"""Two workers, each a process of its own, train as two replicas in one do; also when one is killed and comes back."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from glcic_tf.common import config_file
from glcic_tf.common.errors import UserError
from glcic_tf.training import cluster, devices, loop
from glcic_tf.training.checkpoints import Checkpoints

ROOT = Path(cluster.__file__).parents[2]
CONFIG = """
from glcic_tf.configs import default, tiny

def get_config():
    config = tiny.get_config()
    config.update(default.size(16))
    config.hole.min_px, config.hole.max_px = 4, 6
    config.stages = default.stages(config, completion=default.stage("completion", steps=10))
    config.checkpoint_every_steps = 1
    return config
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture
def start():
    """A function that starts `glcic train` as one of two workers, its output in a file; all are killed in the end."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []

    def start(index, config, photos, workdir, output):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        flags = [f"--config={config}", f"--data_dir={photos}", f"--workdir={workdir}", "--strategy=multi_worker"]
        with open(output, "a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.small_networks", "train", *flags],
                env=os.environ | {"TF_CONFIG": json.dumps(task)},
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def variables(workdir):
    """Every variable of the newest checkpoint but the notes."""
    path, meta = Checkpoints(workdir / "checkpoints").latest()
    reader = tf.train.load_checkpoint(path)
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    return meta["step"], {name: reader.get_tensor(name) for name in names if not name.startswith(("meta/", "save_"))}


def test_two_workers_of_whom_one_is_killed_and_restarted_equal_two_replicas_in_one_process(tmp_path, start):
    photos, folder = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for i in range(20):
        noise = np.random.default_rng(i).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{i}.png"), cv2.resize(noise, (32, 24), interpolation=cv2.INTER_CUBIC))
    config = tmp_path / "config.py"
    config.write_text(CONFIG)

    outputs = [tmp_path / "chief.txt", tmp_path / "other.txt"]
    chief, other = (start(i, config, photos, folder, outputs[i]) for i in range(2))
    while not any(int(path.stem.split("-")[1]) >= 4 for path in (folder / "checkpoints").glob("ckpt-*.index")):
        assert chief.poll() is None and other.poll() is None, [output.read_text() for output in outputs]
        time.sleep(0.01)
    chief.send_signal(signal.SIGKILL)
    chief.wait()
    killed_at = variables(folder)[0]
    assert 3 <= killed_at < 10
    chief = start(0, config, photos, folder, outputs[0])
    for process in (chief, other):
        assert process.wait(timeout=300) == 0, [output.read_text() for output in outputs]

    of_chief, of_other = (output.read_text() for output in outputs)
    assert "another worker was lost" in of_other and "starting over from the newest checkpoint" in of_other
    for text in (of_chief, of_other):
        assert f"ckpt-{killed_at} at step {killed_at}" in text and "Traceback" not in text, text
        assert "2 workers with 2 replicas" in text and "the run is finished: step 10 of 10" in text, text
    assert (folder / "completion.keras").is_file() and (folder / "savedmodel").is_dir()
    assert len(list((folder / "tensorboard" / folder.name).iterdir())) == 2  # the chief's: before and after
    logged = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "images_per_second" in line] == [10]

    assert loop.train(config_file.load(config), photos, tmp_path / "mirrored", strategy="mirrored")
    (step, ours), (_, theirs) = variables(folder), variables(tmp_path / "mirrored")
    assert step == 10 and ours.keys() == theirs.keys() and len(ours) > 40
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "is not set"),
        ("{", "is not JSON"),
        ("[1]", "has no cluster"),
        ('{"cluster": {}}', "has no cluster"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "has a job ps"),
        ('{"cluster": {"worker": "a:1"}}', "has a job that is not a list"),
        ('{"cluster": {"worker": ["a"]}}', "'a', which is not host:port"),
        ('{"cluster": {"worker": ["a:70000"]}}', "'a:70000', which is not host:port"),
        ('{"cluster": {"chief": ["a:1"], "worker": ["a:1"]}}', "lists an address twice"),
        ('{"cluster": {"worker": ["a:1"]}}', "has no task"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "task worker 1, which is not in"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "task chief 0, which is not in"),
    ],
)
def test_a_wrong_tf_config_is_told_in_one_line(monkeypatch, text, found):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=f"^--strategy=multi_worker: TF_CONFIG .*{found}.*; expected JSON such as") as e:
        devices.make_strategy("multi_worker")
    assert "\n" not in str(e.value)


def test_a_right_tf_config_passes():
    cluster.check_tf_config(cluster._EXAMPLE)
    both = {"chief": ["a.org:1"], "worker": ["b.org:1", "[::1]:2"]}
    cluster.check_tf_config(json.dumps({"cluster": both, "task": {"type": "worker", "index": "1"}}))


def test_without_other_workers_nothing_is_exchanged():
    alone = cluster.Cluster(devices.make_strategy("mirrored"))
    assert (alone.workers, alone.index, alone.is_chief) == (1, 0, True)
    np.testing.assert_array_equal(alone.exchange([0.1, 2]), [[0.1, 2]])
    with pytest.raises(tf.errors.UnavailableError), alone.watched():
        raise tf.errors.UnavailableError(None, None, "a file system, say")
