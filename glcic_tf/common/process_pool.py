"""A pool of processes for work in libraries that may crash."""

import contextlib
import multiprocessing

import cv2
from pebble import ProcessPool

from glcic_tf.common import signals


@contextlib.contextmanager
def process_pool(processes):
    """Yield pebble's ProcessPool: a process that dies takes only its own task with it (pebble.ProcessExpired).

    The processes have one OpenCV thread each, and leave Ctrl-C to this one. On an exception, all that was scheduled
    is dropped.
    """
    context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
    with ProcessPool(processes, initializer=cv2.setNumThreads, initargs=(1,), context=context) as pool:
        try:
            with signals.interrupt_ignored():
                pool.schedule(int)  # starts the processes
            yield pool
        except BaseException:
            pool.stop()  # or leaving would wait for all that was scheduled
            raise
