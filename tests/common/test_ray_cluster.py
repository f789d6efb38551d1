"""Two real nodes of one processor each, of which one is lost: every result is there, and is that of one machine."""

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster as Nodes

from glcic_tf.common import ray_cluster
from glcic_tf.common.errors import UserError
from glcic_tf.completion.folder import infer
from glcic_tf.data.prepare import prepare_cluster, prepare_folder
from glcic_tf.evaluation.evaluate import evaluate
from glcic_tf.evaluation.protocols import protocol_from
from glcic_tf.networks import model_file
from glcic_tf.networks.completion import completion_network
from tests.common.web_server import serving

# Ray starts its processes by a fork, which JAX warns of where an earlier test has imported it.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
_SHARD_MB = 0.02
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes import the package, and not its tests


@pytest.fixture
def nodes():
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.second = nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def cluster(nodes):
    with ray_cluster.connected(nodes.address) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(24):
        small = np.random.default_rng(i).integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(small).resize((60, 50), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.jpg")
    (folder / "broken.jpg").write_bytes((folder / "00.jpg").read_bytes()[:300])
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


def test_shards_are_those_of_one_machine_though_a_node_is_lost(nodes, cluster, photos, tmp_path):
    for part in range(1, 7):
        prepare_folder.prepare(photos, tmp_path / "one", None, _SHARD_MB, (part, 6), processes=1)
    losing = lose_once_a_part_is_done(nodes, tmp_path / "many")
    done = prepare_cluster.prepare(cluster, photos, tmp_path / "many", None, _SHARD_MB, count=6)
    losing.join()
    assert done["photos"] == 24 and done["skipped"] == 1
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def lose_once_a_part_is_done(nodes, output):
    def lose():
        while not list(Path(output).rglob("*.finished")):
            time.sleep(0.02)
        nodes.remove_node(nodes.second, allow_graceful=False)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    return thread


class Doubler:
    """Begins when both nodes have a worker, however long one takes to start; fails at 13."""

    def __init__(self, seconds, folder):
        self.seconds, self.folder = seconds, folder

    def __call__(self, number, again=False):
        (self.folder / ray.get_runtime_context().get_node_id()).touch()
        for _ in range(1200):
            if len(list(self.folder.iterdir())) == 2:
                break
            time.sleep(0.1)
        time.sleep(self.seconds)
        if number == 13:
            raise UserError("13: brings bad luck.")
        return 2 * number, ray.get_runtime_context().get_node_id()


def test_a_job_whose_worker_is_lost_is_done_by_another(nodes, cluster, tmp_path):
    results = {}
    for number, result, error in cluster.workers(Doubler, (0.1, tmp_path), range(20)):
        results[number] = result or error
        if len(results) == 6:
            nodes.remove_node(nodes.second, allow_graceful=False)
    assert results.pop(13) == "13: brings bad luck."
    assert {number: double for number, (double, _) in results.items()} == {n: 2 * n for n in range(20) if n != 13}
    assert len({node for _, node in results.values()}) == 2


class Dying:
    """Dies with its second job, as if the system had killed it."""

    def __call__(self, number, again=False):
        if number == 1 and not again:
            os._exit(1)
        return again


def test_a_job_is_told_that_another_worker_had_it(cluster):
    assert {job: (again, error) for job, again, error in cluster.workers(Dying, (), range(4))} == {
        number: (number == 1, None) for number in range(4)
    }


class Fragile:
    """Every second of the first `most` dies while it is made, and the others of them with their first job."""

    def __init__(self, folder, most):
        made = len(list(folder.iterdir()))
        (folder / str(made)).touch()
        self._dies = made < most
        if self._dies and made % 2 == 0:
            os._exit(1)

    def __call__(self, job, again=False):
        if self._dies:
            os._exit(1)
        return job


def test_starts_that_fail_now_and_then_do_not_end_a_long_run(cluster, tmp_path, monkeypatch):
    # 5 starts fail, never two in a row; between them the first job is lost three times, and the second once.
    monkeypatch.setattr(ray_cluster, "_TRIES", 3)
    monkeypatch.setattr(cluster, "slots", lambda: 1)
    found = list(cluster.workers(Fragile, (tmp_path, 9), range(8)))
    assert len(list(tmp_path.iterdir())) >= 10
    assert sorted(job for job, _, _ in found) == list(range(8))
    assert [job for job, _, error in found if error] == [0]


def test_a_folder_is_completed_and_measured_as_on_one_machine(cluster, photos, tmp_path):
    model = tmp_path / "model.keras"
    model_file.save(completion_network(1 / 32), model)
    hole = np.zeros((50, 60), np.uint8)
    hole[20:30, 20:40] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    for name, given in (("one", {}), ("many", {"cluster": cluster})):
        failed = infer(photos, tmp_path / "mask.png", tmp_path / name, model, **given)
        assert failed == 1  # the broken one
    assert len(contents(tmp_path / "one")) == 24 and contents(tmp_path / "many") == contents(tmp_path / "one")
    protocol = protocol_from(size=48, hole_min=12, hole_max=20)
    one, many = (
        evaluate(photos, tmp_path / name, protocol, [model], ["telea"], ("none", "auto"), gallery=0, **given)
        for name, given in (("report", {}), ("report of many", {"cluster": cluster}))
    )
    for method, figures in one.items():
        assert {**figures, "seconds": None} == {**many[method], "seconds": None}


def failing(number):
    raise UserError(f"{number}: cannot be done.")


def test_what_cannot_be_done_is_said_in_a_line(cluster):
    with pytest.raises(UserError, match="7: cannot be done"):
        list(cluster.tasks(failing, [(7,)]))

    class Useless:
        def __init__(self):
            raise UserError("model.keras: there is no such file.")

    with pytest.raises(UserError, match="model.keras: there is no such file"):
        list(cluster.workers(Useless, (), [1]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"address": "ray://127.0.0.1:1"}, "--cluster=ray://127.0.0.1:1: no Ray cluster answers there"),
        ({"address": "somewhere"}, "--cluster=somewhere: .*expected local, or ray://HOST:PORT"),
        ({"address": "local", "cpus": 10_000}, "--cluster_cpus=10000, --cluster_gpus=0: the cluster has"),
    ],
)
def test_a_cluster_that_cannot_be_used(given, message):
    with pytest.raises(UserError, match=message), ray_cluster.connected(**given):
        pass


def test_a_folder_behind_a_url_is_completed(cluster, photos, tmp_path, capsys):
    """As where nodes have no disk in common: of the photos and the mask they have the URL alone, and of the outputs."""
    model_file.save(completion_network(1 / 16), tmp_path / "narrow.keras")
    hole = np.zeros((50, 60), np.uint8)
    hole[10:20, 10:30] = 255
    Image.fromarray(hole).save(photos.parent / "hole.png")
    with serving(photos.parent) as (url, _):
        given = f"{url}/{photos.name}", f"{url}/hole.png"
        model = tmp_path / "narrow.keras"
        assert infer(photos, photos.parent / "hole.png", tmp_path / "here", model) == 1
        assert infer(*given, f"file://{tmp_path}/there", model, cluster=cluster) == 1
    assert contents(tmp_path / "there") == contents(tmp_path / "here") and len(contents(tmp_path / "here")) == 24
    assert f"{url}/{photos.name}/broken.jpg: is broken or incomplete" in capsys.readouterr().err
