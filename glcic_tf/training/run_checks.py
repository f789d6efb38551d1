"""What must hold before a run goes on: its config is the one that it began with, and all workers do the same."""

import hashlib
import json
import logging
import time

import numpy as np

from glcic_tf.common.errors import UserError
from glcic_tf.training.stages import contradictions

_logger = logging.getLogger(__name__)
_SHARED_FOLDER_SECONDS = 120.0  # a network disk may take so long to show on all machines what one of them wrote


def check_config(meta, resolved, workdir):
    """Raise UserError if a config, as a nested dict, contradicts the one in a checkpoint's notes."""
    found = contradictions(meta["config"], resolved, meta["step"])
    if found:
        shown = "; ".join(f"config.{field} was {then!r}, is {now!r}" for field, then, now in found[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise UserError(
            f"{workdir} holds a run at step {meta['step']} with another config: {shown}{more}. "
            "Give the same config to resume it, or another --workdir to start anew."
        )


def agree(run, phase):
    """Make sure that all workers train the same, from the same checkpoint on; wait if their folder is slow.

    Raises:
        UserError: they were started with different configs, or do not share the run's folder.
        cluster.WorkerLost: one does not answer.
    """
    if run.cluster.workers == 1:
        return
    free = {"data": run.resolved["data"] | {"workers": None}}
    digest = hashlib.sha256(json.dumps([phase, run.resolved | free]).encode()).hexdigest()
    deadline = time.monotonic() + _SHARED_FOLDER_SECONDS
    while True:
        given, found, late = run.cluster.exchange([int(digest[:12], 16), run.step, time.monotonic() > deadline]).T
        check_equal(given, "was started with another config or --phase; give all workers the same command")
        if np.all(found == found[0]):
            break
        if np.any(late):
            steps = f"finds another newest checkpoint in --workdir={run.workdir} ({found.astype(int).tolist()})"
            check_equal(found, f"{steps}; give all workers one folder on a disk that they share")
        time.sleep(1)
        run.find_checkpoint()
    _logger.info("%d workers with %d replicas", run.cluster.workers, run.strategy.num_replicas_in_sync)


def check_equal(told, problem):
    """Raise UserError if a worker sent another number than the chief; `told`: [workers]."""
    others = np.flatnonzero(told != told[0])
    if others.size:
        raise UserError(f"--strategy=multi_worker: worker {others[0]} of {len(told)} {problem}.")
