"""What a campaign makes of inputs that do harm: each is told and kept, and those after it are still tried."""

import os
import time
from types import SimpleNamespace

import campaign
import mutators
import pytest
from targets import Target

from glcic_tf.common.errors import UserError


def _refuse(folder):
    raise UserError("it has more than 5 of them")


def _leave_half(folder):
    (folder / ".1.part").write_bytes(b"half")


READERS = {
    "done": lambda folder: None,
    "refused": _refuse,
    "failed: traceback: ZeroDivisionError": lambda folder: 1 / 0,
    "failed: half-written": _leave_half,
    "failed: memory": lambda folder: bytearray(range(256)) * 80_000,
    "failed: crash: exit code -6": lambda folder: os.abort(),
    "failed: time: more than 5 s": lambda folder: time.sleep(60),
}


def find(name):
    """A target whose every input ends as its name says."""

    def spoil(made, folder, rng):
        (folder / "input").write_bytes(b"input")
        return folder

    return Target(
        name,
        lambda folder: None,
        spoil,
        lambda folder: None if mutators.sound else READERS[name](folder),
        small=1,
        max_bytes=8 * 10**6,
    )


@pytest.mark.parametrize("name", READERS)
def test_every_input_counts_and_failures_are_told_and_kept(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    if "time" in name:
        monkeypatch.setattr(campaign, "_GIVEN_UP_S", 5)  # a busy machine starts a process in less
    run = campaign.Run(name, find=find)
    run.run(2)
    worker = run._worker
    run.close()
    kind, _, why = name.partition(": ")
    assert run.counts == {kind: 2}
    assert all(found.startswith(why) for found in run.failures)
    assert [number for numbers in run.failures.values() for number in numbers] == ([0, 1] if why else [])
    assert len(capsys.readouterr().out.splitlines()) == (2 if why else 0)
    kept = sorted(path.name for path in tmp_path.glob("fuzz/*/*"))
    assert kept == (["0", "1"] if why else [])
    if why.startswith("time"):  # where it was is kept
        assert "test_campaign.py" in (tmp_path / "fuzz" / name / "0" / "stacks.txt").read_text()
    assert (worker is None) == why.startswith(("crash", "time"))  # the same process goes on after all others


def test_an_interrupted_campaign_keeps_its_counts_and_ends_in_good_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = campaign.Run("done", find=find)
    run.run(3)
    poll = run._ours.poll

    def interrupt(seconds):
        assert poll(seconds)  # it has done it, and waits for what becomes of it
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_ours", SimpleNamespace(send=run._ours.send, poll=interrupt))
    with pytest.raises(KeyboardInterrupt):
        run.run(9, first=3)
    run.close()
    assert run.counts == {"done": 3}
    assert run._worker.exitcode == 0
