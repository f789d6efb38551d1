"""The answers of a study, in an SQLite file in its folder: each is on the disk before the next picture is shown."""

import contextlib
import secrets
import sqlite3
import threading
import time
from pathlib import Path

from glcic_tf.apps.study import manifest
from glcic_tf.common.errors import UserError

MAX_PARTICIPANTS = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, practice INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS participants (
  number INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, joined REAL NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
  participant INTEGER NOT NULL REFERENCES participants, item TEXT NOT NULL REFERENCES items,
  natural INTEGER NOT NULL, milliseconds REAL, given REAL NOT NULL, PRIMARY KEY (participant, item));
"""


class Answers:
    """The answers of a study. May be used from several threads, and by several processes.

    Args:
        folder: of the study.
        study: its `manifest.Study`.

    Raises:
        UserError: the file cannot be written, is damaged or belongs to another study.
    """

    def __init__(self, folder, study):
        self._path = Path(folder) / manifest.ANSWERS
        self._study = study
        self._lock = threading.Lock()
        with _one_line(self._path):
            self._db = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")  # reading does not wait for writing
                self._db.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut
                self._db.execute("PRAGMA foreign_keys = ON")
                self._db.executescript(_SCHEMA)
                items = [(item.id, item in study.practice) for item in study.all_items().values()]
                with self._transaction() as db:
                    if not db.execute("SELECT 1 FROM items").fetchone():
                        db.executemany("INSERT INTO items VALUES (?, ?)", items)
                    found = set(db.execute("SELECT id, practice FROM items"))
                if found != set(items):
                    raise UserError(f"{self._path}: holds answers to another study; move it away to begin anew.")
            except BaseException:
                self._db.close()
                raise

    def close(self):
        """Close the file."""
        with self._lock:
            self._db.close()

    def join(self, name):
        """Add a participant.

        Args:
            name: that nobody has yet.

        Returns:
            A random token that stands for them; None if the name is taken.

        Raises:
            OverflowError: there are MAX_PARTICIPANTS.
        """
        token = secrets.token_urlsafe(24)
        with self._transaction() as db:
            if db.execute("SELECT count(*) FROM participants").fetchone()[0] >= MAX_PARTICIPANTS:
                raise OverflowError
            row = (token, name, time.time())
            done = db.execute("INSERT OR IGNORE INTO participants (token, name, joined) VALUES (?, ?, ?)", row)
            return token if done.rowcount else None

    def participant(self, token):
        """(number, name) of the participant with this token, or None."""
        with self._lock:
            query = "SELECT number, name FROM participants WHERE token = ?"
            return self._db.execute(query, (token,)).fetchone()

    def answered(self, number):
        """Ids of the items that a participant has answered, as a dict of id -> whether they said natural."""
        with self._lock:
            rows = self._db.execute("SELECT item, natural FROM answers WHERE participant = ?", (number,)).fetchall()
        return {item: bool(natural) for item, natural in rows}

    def add(self, number, item, natural, milliseconds):
        """Write an answer to the disk. Of several to one item the first counts.

        Args:
            number: of the participant.
            item: id of an item.
            natural: bool.
            milliseconds: response time, or None if it is not known.

        Returns:
            Whether it was the first.
        """
        with self._transaction() as db:
            row = (number, item, bool(natural), milliseconds, time.time())
            return db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", row).rowcount == 1

    @contextlib.contextmanager
    def _transaction(self):
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise


def read(folder):
    """Read what was answered, also while a server runs.

    Returns:
        (participants, rows): the numbers of all who joined, as a list, and a list of (participant, item, natural,
        milliseconds) in the order of participants and answers; both empty if nobody ever joined.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / manifest.ANSWERS
    if not path.exists():
        return [], []
    with _one_line(path), contextlib.closing(sqlite3.connect(path, timeout=30)) as db:
        participants = [number for (number,) in db.execute("SELECT number FROM participants ORDER BY number")]
        rows = db.execute("SELECT participant, item, natural, milliseconds FROM answers ORDER BY participant, rowid")
        return participants, [(number, item, bool(natural), ms) for number, item, natural, ms in rows]


@contextlib.contextmanager
def _one_line(path):
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(f"{path}: cannot be used ({error}); check the folder's permissions and the file.") from error
