"""Work on many photos by a cluster: Ray's tasks and actors, behind two generators.

Ray places the work, restarts what a lost node did and moves results; here is only what our commands need of it. Nodes
need this package and the same folders (network storage, or URLs). Ray is imported where --cluster asks for it alone.
"""

import collections
import contextlib
import socket

from absl import flags

from glcic_tf.common import cli
from glcic_tf.common.errors import UserError, first_line

LOCAL = "local"
_ANSWER_SECONDS = 10
_TRIES = 4  # of one job, on nodes that are lost


def define_flags(unit):
    """Define --cluster and what goes with it; `unit`: what takes processors there, such as "part"."""
    flags.DEFINE_string("cluster", None, f"Spread over a Ray cluster: {LOCAL} (this machine), or ray://HOST:PORT.")
    flags.DEFINE_float("cluster_cpus", 1, f"Processors of the cluster that a {unit} takes.", 0.01)
    flags.DEFINE_float("cluster_gpus", 0, f"GPUs of the cluster that a {unit} takes.", 0)


def from_flags():
    """The cluster that the flags ask for, connected; None without --cluster. A context manager."""
    args = flags.FLAGS
    if not args.cluster:
        return contextlib.nullcontext()
    return connected(args.cluster, args.cluster_cpus, args.cluster_gpus)


@contextlib.contextmanager
def connected(address, cpus=1, gpus=0, show_output=False):
    """Connect to a cluster and yield it as `Cluster`.

    Args:
        address: "local": one of this machine's processors, ended afterwards; else what `ray.init` takes, such as
            "ray://host:10001".
        cpus, gpus: what each task and each worker takes; parts of one are possible.
        show_output: pass on what they print.

    Raises:
        UserError: Ray is not installed, or does not answer at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--cluster={address}: Ray is not installed; run: {cli.install_line('ray')}") from error
    _check_reachable(address)
    try:
        ray.init(None if address == LOCAL else address, log_to_driver=show_output, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"--cluster={address}: no Ray cluster answers there ({first_line(error)}).") from error
    try:
        found = ray.cluster_resources()
        if cpus > found.get("CPU", 0) or gpus > found.get("GPU", 0):
            raise UserError(
                f"--cluster_cpus={cpus:g}, --cluster_gpus={gpus:g}: the cluster has {found.get('CPU', 0):g} processors "
                f"and {found.get('GPU', 0):g} GPUs; ask for less."
            )
        yield Cluster(ray, cpus, gpus)
    finally:
        ray.shutdown()


class Cluster:
    """A connected cluster. Functions, arguments and results must be picklable; see `connected`."""

    def __init__(self, ray, cpus, gpus):
        self._ray, self._needs = ray, {"num_cpus": cpus, "num_gpus": gpus}

    def slots(self):
        """How many tasks run at once."""
        found, needs = self._ray.cluster_resources(), {"CPU": self._needs["num_cpus"], "GPU": self._needs["num_gpus"]}
        return max(1, int(min(found.get(kind, 0) / need for kind, need in needs.items() if need)))

    def tasks(self, function, calls):
        """Call a function with each tuple of arguments, on any node; again where a node is lost.

        Yields:
            (call, result), whichever is done first.

        Raises:
            UserError: one of the calls raised it, or was lost too often.
        """
        ray = self._ray
        remote = ray.remote(function).options(**self._needs, max_retries=_TRIES - 1)
        running = {remote.remote(*call): call for call in calls}
        try:
            while running:
                (done,), _ = ray.wait(list(running))
                call = running.pop(done)
                try:
                    yield call, ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, UserError) else error) from None
                except ray.exceptions.RayError as error:
                    raise UserError(f"--cluster: a task was lost {_TRIES} times ({first_line(error)}).") from error
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def workers(self, make, arguments, jobs):
        """Let workers do jobs, each made once by `make(*arguments)`, called with one job after the other.

        A job whose worker is lost goes to another one, which is called with `again=True`: the first may have got as far
        as to write its output. New workers are made only where none is left: a lost node took
        its processors with it.

        Yields:
            (job, result, error): whichever is done first; of the last two one is None: error is the text of a
            UserError that the job raised.

        Raises:
            UserError: no worker could be made.
        """
        ray = self._ray

        @ray.remote(**self._needs, max_restarts=0)
        class Worker:
            def begin(self):
                try:
                    self.work = make(*arguments)
                except UserError as error:
                    return str(error)
                return None

            def do(self, job, again):
                try:
                    return self.work(job, again=again), None
                except UserError as error:
                    return None, str(error)

        waiting, lost = collections.deque(enumerate(jobs)), collections.Counter()
        starting, busy, actors = {}, {}, set()

        def start():
            actor = Worker.remote()
            actors.add(actor)
            starting[actor.begin.remote()] = actor

        for _ in range(min(self.slots(), len(waiting))):
            start()
        try:
            while waiting or busy:
                if not actors:
                    start()
                (done,), _ = ray.wait([*starting, *busy])
                beginning = done in starting
                actor, (number, job) = (starting.pop(done), (None, None)) if beginning else busy.pop(done)
                try:
                    result = ray.get(done)
                except (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError) as error:
                    actors.discard(actor)
                    lost[number] += 1
                    if lost[number] < _TRIES:
                        waiting.extendleft([] if beginning else [(number, job)])
                    elif beginning:
                        raise UserError(f"--cluster: no worker starts ({first_line(error)}).") from error
                    else:
                        yield job, None, f"its worker was lost {_TRIES} times ({first_line(error)})"
                    continue
                if beginning and result is not None:
                    raise UserError(result)
                if beginning:
                    del lost[None]  # nodes come and go for days: only losses in a row say that no worker starts
                else:
                    yield job, *result
                if waiting:
                    number, job = waiting.popleft()
                    busy[actor.do.remote(job, lost[number] > 0)] = actor, (number, job)
                else:
                    actors.discard(actor)
                    ray.kill(actor)
        finally:
            for actor in actors:
                ray.kill(actor)


def _check_reachable(address):
    """Ask for a connection first: Ray would try again for minutes, and then say much."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == LOCAL:
        return
    try:
        if not (colon and host and port.isdecimal()):
            raise OSError("expected local, or ray://HOST:PORT")
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--cluster={address}: no Ray cluster answers there ({reason}).") from error
