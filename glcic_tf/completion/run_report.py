"""What became of each photo of a run, as lines of JSON: `glcic complete --report`."""

import json
import threading
from pathlib import Path

from glcic_tf.common import files, storage
from glcic_tf.common.errors import UserError


class RunReport:
    """Appends lines to a file as photos are done, so that a run that is stopped leaves what it did; thread-safe.

    Args:
        path: file; created with the folders above it, or added to. None: nothing is written.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path):
        if path:
            storage.check_local("--report", path, "copy it when it is complete")
        self._path, self._writing = path and Path(path), threading.Lock()
        if self._path:
            files.make_folder(self._path.parent)
            self._append("")

    def add(self, job, status, **fields):
        """Write the line of a job.

        Args:
            job: a folder.Job.
            status: "done", "skipped" or "failed".
            **fields: JSON values.
        """
        if self._path:
            line = {
                "file": files.printable(str(job.photo)),
                "output": files.printable(str(job.output)),
                "status": status,
                **fields,
            }
            self._append(json.dumps(line) + "\n")

    def _append(self, text):
        try:
            with self._writing, self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(f"--report={self._path}: cannot be written ({error.strerror}); choose another.") from error
