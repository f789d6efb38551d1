"""Several processes, the workers, that train one network together; the environment variable TF_CONFIG lists them."""

import contextlib
import functools
import json
import os
import re
import signal
import sys

import numpy as np
import tensorflow as tf

from glcic_tf.common.errors import UserError, first_line

_EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
_JOBS = ("chief", "worker")
# What TensorFlow raises in the remaining workers, depending on how they notice; an InternalError may have other causes.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class WorkerLost(Exception):
    """Another worker no longer answers. TensorFlow cannot go on in this process: see `start_over`."""


def multi_worker_strategy():
    """Make the strategy of all workers; waits until each of them does so. Nothing may have run in TensorFlow before.

    Raises:
        UserError: TF_CONFIG is missing or invalid, or this worker cannot listen on its address.
        WorkerLost: a worker went away meanwhile, or still belongs to a cluster that no longer exists.
    """
    check_tf_config(os.environ.get("TF_CONFIG", ""))
    implementation = tf.distribute.experimental.CommunicationImplementation
    # On GPUs TensorFlow chooses NCCL. Asking for logical devices would start the runtime too early.
    chosen = implementation.AUTO if tf.config.list_physical_devices("GPU") else implementation.RING
    options = tf.distribute.experimental.CommunicationOptions(implementation=chosen)
    try:
        with _default_ctrl_c():
            return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except _LOST as error:
        raise WorkerLost(f"the other workers cannot be reached ({first_line(error)})") from error
    except tf.errors.UnknownError as error:
        raise UserError(
            f"TF_CONFIG={os.environ['TF_CONFIG']}: this worker cannot listen on its address ({first_line(error)}); "
            "make sure that no other program uses the port."
        ) from error


def check_tf_config(text):
    """Check the value of TF_CONFIG; if it is wrong, TensorFlow would raise tracebacks or wait for ever.

    Raises:
        UserError: it is empty or not JSON, or does not say which worker this one is.
    """

    def refusal(found):
        return UserError(f"--strategy=multi_worker: TF_CONFIG {found}; expected JSON such as {_EXAMPLE}.")

    def expect(truth, found):
        if not truth:
            raise refusal(found)

    expect(text, "is not set")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise refusal(f"is not JSON ({error})") from error
    jobs = config.get("cluster") if isinstance(config, dict) else None
    expect(isinstance(jobs, dict) and jobs, "has no cluster")
    others = sorted(set(jobs) - set(_JOBS))
    expect(not others, f"has a job {', '.join(others)} in its cluster, which can only have workers and a chief")
    expect(all(isinstance(job, list) and job for job in jobs.values()), "has a job that is not a list of addresses")
    addresses = [address for job in jobs.values() for address in job]
    for address in addresses:
        port = address.rpartition(":")[2] if isinstance(address, str) and ":" in address else ""
        expect(port.isdecimal() and 0 < int(port) < 2**16, f"has the address {address!r}, which is not host:port")
    expect(len(set(addresses)) == len(addresses), "lists an address twice")
    task = config.get("task")
    expect(isinstance(task, dict), "has no task, so this worker does not know which one it is")
    kind, index = task.get("type"), task.get("index")
    known = isinstance(kind, str) and kind in jobs and str(index).isdecimal() and int(index) < len(jobs[kind])
    expect(known, f"has the task {kind} {index}, which is not in its cluster")


class Cluster:
    """The workers of a strategy, and what they tell each other; strategies of a single process have one worker.

    Attributes:
        workers: how many there are.
        index: which worker this one is; 0 is the chief, the only one that writes files.
    """

    def __init__(self, strategy):
        self.workers, self.index, self._strategy = 1, 0, strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            jobs = resolver.cluster_spec().as_dict()
            before = len(jobs.get("chief", [])) if resolver.task_type == "worker" else 0
            self.workers, self.index = sum(len(job) for job in jobs.values()), before + resolver.task_id

    @property
    def is_chief(self):
        """Whether this worker is the one that writes files."""
        return self.index == 0

    def exchange(self, values):
        """Send the others some numbers, and wait until all have sent theirs.

        Args:
            values: [n], finite; n is the same on all workers, who must all call this in the same order.

        Returns:
            float64 array [workers, n].

        Raises:
            WorkerLost: a worker does not answer.
        """
        values = np.asarray(values, np.float64)
        if self.workers == 1:
            return values[None]
        with self.watched():
            rows = self._all_reduce(tf.constant(values))
            return self._strategy.experimental_local_results(rows)[0].numpy()

    @functools.cached_property
    def _all_reduce(self):
        replicas = self._strategy.num_replicas_in_sync // self.workers  # of each worker

        def replica(values):
            context = tf.distribute.get_replica_context()
            number = tf.convert_to_tensor(context.replica_id_in_sync_group)
            first = tf.equal(number % replicas, 0)  # the first replica of its worker
            own_row = tf.one_hot(tf.where(first, number // replicas, -1), self.workers, dtype=tf.float64)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own_row[:, None] * values)

        return tf.function(lambda values: self._strategy.run(replica, args=(values,)), autograph=False)

    def leave(self):
        """Wait until all workers are here; nothing that they do together may follow."""
        self.exchange([0])
        with contextlib.suppress(WorkerLost):  # quicker workers may have ended by now: all have passed the line above
            self.exchange([0])

    @contextlib.contextmanager
    def watched(self):
        """Raise WorkerLost in place of what TensorFlow raises when another worker does not answer."""
        try:
            yield
        except tf.errors.OpError as error:
            collective = isinstance(error, tf.errors.InternalError) and "ollective" in str(error)
            if self.workers == 1 or not (isinstance(error, _LOST) or collective):
                raise
            reason = re.search(r"aborted by: (.*)", str(error))  # the first line often says nothing
            reason = reason[1][:200] if reason else first_line(error)
            raise WorkerLost(f"another worker was lost ({reason})") from error


def start_over():
    """Replace this process with a new one that has the same command line; never returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextlib.contextmanager
def _default_ctrl_c():
    """Let Ctrl-C end the process at once: Python would react only after TensorFlow has finished waiting."""
    try:
        previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
