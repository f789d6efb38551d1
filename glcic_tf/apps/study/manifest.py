"""What a study is: study.json, which tells the truth about each picture and is never served."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

from glcic_tf.common.errors import UserError

FILE = "study.json"
PICTURES = "pictures"
ANSWERS = "answers.sqlite"
REAL, COMPLETED = "real", "completed"
MAX_ITEMS = 2000  # pictures that count, and practice: bounds the memory of prepare, and people's patience
_FORMAT = 1
_ID = re.compile(r"[0-9a-f]{16}")


@dataclasses.dataclass(frozen=True)
class Item:
    """One picture.

    Attributes:
        id: 16 hexadecimal digits, the name of its file.
        kind: REAL or COMPLETED.
        method: what completed it; None for REAL.
        photo: the photo's name below the folder of photos.
    """

    id: str
    kind: str
    method: str | None
    photo: str


@dataclasses.dataclass(frozen=True)
class Study:
    """A prepared study.

    Attributes:
        title: what is shown, in a few words.
        seed: decides each participant's order.
        methods: names, in the order of the report.
        items: tuple of `Item` that count.
        practice: tuple of `Item` that do not.
    """

    title: str
    seed: int
    methods: tuple
    items: tuple
    practice: tuple

    def all_items(self):
        """Every `Item` by its id."""
        return {item.id: item for item in (*self.practice, *self.items)}

    def order(self, participant):
        """The order that a participant sees: the practice items, and then the items shuffled for them, as a list.

        Args:
            participant: number of the participant.
        """
        return [*self.practice, *sorted(self.items, key=lambda item: digest(self.seed, participant, item.id))]


def digest(*parts):
    """64 hexadecimal digits that depend on all parts alone: sorting by them shuffles alike on every machine."""
    # surrogateescape: names of files need not be valid UTF-8.
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()


def write(study, folder):
    """Write study.json."""
    content = {"format": _FORMAT, **dataclasses.asdict(study)}
    (Path(folder) / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(folder):
    """Read and check study.json.

    Returns:
        `Study`; every picture that it names is there.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise UserError(f"--study={folder}: holds no {FILE}; make a study with: glcic study prepare")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            raise ValueError("another format")
        for key in ("items", "practice"):
            content[key] = tuple(_item(entry) for entry in content[key])
        content["methods"] = tuple(content["methods"])
        study = Study(**content)
        _check(study)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged or of another version ({error}); prepare the study again.") from error
    missing = [id for id in study.all_items() if not (Path(folder) / PICTURES / f"{id}.png").is_file()]
    if missing:
        raise UserError(f"{folder}/{PICTURES}/{missing[0]}.png: is missing; prepare the study again.")
    return study


def _item(entry):
    item = Item(**entry)
    if not isinstance(item.id, str) or not _ID.fullmatch(item.id) or item.kind not in (REAL, COMPLETED):
        raise ValueError(f"an item is {entry}")
    return item


def _check(study):
    if len(study.all_items()) != len(study.items) + len(study.practice) or not study.items:
        raise ValueError("no items, or one twice")
    if not isinstance(study.seed, int) or any(
        i.kind == COMPLETED and i.method not in study.methods for i in study.items
    ):
        raise ValueError("a method that is not listed")
