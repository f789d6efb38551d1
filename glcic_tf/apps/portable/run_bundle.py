"""Train on any device that JAX reaches, from a bundle, without TensorFlow."""

import contextlib
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from glcic_tf.apps.portable import feed, pjrt, state_files
from glcic_tf.apps.portable.bundle import Bundle
from glcic_tf.common import files, signals
from glcic_tf.common.errors import UserError
from glcic_tf.networks import initial_weights
from glcic_tf.training import health, phase_choice, stats


def run(
    bundle,
    data_dir,
    output,
    phase="all",
    minutes=None,
    steps=None,
    state=None,
    parts="all",
    bits=32,
    save_minutes=5.0,
    log_every_steps=50,
    threads=0,
    cache_gb=8.0,
    peak_tflops=None,
):
    """Train until the phase is over, from the newest state in `output` if there is one.

    Args:
        bundle: folder that `export` wrote.
        data_dir: folder of photos, or a tar of it.
        output: folder for `state/` and `stats.jsonl`; made if need be.
        phase: `completion`, `discriminator`, `joint`, or `all`: whatever is left.
        minutes, steps: stop after so many; None: no limit.
        state: folder of a state to begin with instead of the bundle's. What it lacks begins anew.
        parts, bits: what is saved, see `state_files.save`.
        save_minutes: how often.
        log_every_steps: how often a line is logged.
        threads: that make examples; 0: one for each core.
        cache_gb: decoded photos are kept in this much memory.
        peak_tflops: the device's peak, to log the share of it that is used.

    Returns:
        True if the phase is over, False if it stopped before.

    Raises:
        UserError: something given is missing, damaged or does not fit; or the loss is no longer a number.
    """
    begin = time.monotonic()
    opened = Bundle(bundle)
    output = Path(output)
    files.make_folder(output)
    saved = state_files.Saved(output / "state")
    arrays, position = _start(opened, saved, state)
    _check_belongs(opened, position)
    begun = position["stage"] is not None
    ends, init_from = phase_choice.phase_ends(opened.manifest["config"]), opened.manifest["config"]["init_from"]
    todo = phase_choice.stages_to_do(opened.stages, phase, position["step"], output, begun, init_from, ends)
    if todo:  # a run from a model file may leave out phases
        position["step"] = max(position["step"], todo[0].start)
    else:
        _log(f"nothing is left to do: step {position['step']}")
        return True
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(feed.folder(data_dir))
        photos = feed.find(opened.manifest, folder, max(stage.batch_size for stage in todo), cache_gb, _log)
        stopped = stack.enter_context(signals.stop_on_signals())
        pool = stack.enter_context(ThreadPoolExecutor(threads or os.cpu_count()))
        trainer = _Trainer(opened, photos, output, saved, arrays, position, pool)
        trainer.settings = SimpleNamespace(
            parts=parts, bits=bits, save_seconds=save_minutes * 60, log_every_steps=log_every_steps, peak=peak_tflops
        )
        last = todo[-1].end if steps is None else min(todo[-1].end, position["step"] + steps)
        until = math.inf if minutes is None else begin + minutes * 60
        for stage in todo:
            if trainer.step >= last or not trainer.train_stage(stage, last, until, stopped):
                _log(f"stopped and saved at step {trainer.step}; the same command goes on from there")
                return False
    _log(f"{'all' if phase == 'all' else f'the {phase} phase'} done: step {trainer.step}")
    return True


class _Trainer:
    """The state on the device, and what is written."""

    def __init__(self, bundle, photos, output, saved, arrays, position, pool):
        self.bundle, self.photos, self.output, self.saved, self.pool = bundle, photos, output, saved, pool
        self.step, self.position = position["step"], position
        self.arrays = {name: pjrt.put(array) for name, array in arrays.items()}
        config = bundle.manifest["config"]
        self.stats = stats.StatsFile(output / "stats.jsonl")
        self.seed, self.mirror = config["seed"], config["data"]["mirror"]

    def train_stage(self, stage, last, until, stopped):
        """Train what is left of a stage, as far as the limits allow; True if it is over."""
        entry = next(e for e in self.bundle.manifest["stages"] if e["stage"]["index"] == stage.index)
        self._enter(stage, entry)
        _log(f"stage {stage.name}: compiling for {pjrt.device().device_kind}")
        program = pjrt.Program(self.bundle.program(entry), f"stage {stage.name}")
        self._check(program, entry)
        if program.memory_bytes:
            _log(f"stage {stage.name}: a call takes {program.memory_bytes / 2**30:.2f} GB of memory")
        window, saved_at, pending = _Window(stage, program.flops, self.settings.peak), time.monotonic(), None
        end, per_call = min(stage.end, last), self.bundle.manifest["steps_per_call"]
        made = feed.calls(self.photos, stage, self.seed, self.mirror, self.step, end, per_call, self.pool)
        with contextlib.closing(made):
            while self.step < end:
                waiting = time.monotonic()
                n, inputs = next(made)
                idle = pending is None or pending["bad_step"].is_ready()
                window.waited += time.monotonic() - waiting if idle else 0.0
                results = self._call(program, entry, [*inputs, pjrt.put(np.int32(n))])
                self._finish(pending)  # the call before: the device has its next one already
                pending, self.step = results, self.step + n
                window.add({name: value for name, value in results.items() if name != "bad_step"}, n)
                now = time.monotonic()
                stop = bool(stopped) or now > until
                over = self.step >= end or stop
                if over or window.steps >= self.settings.log_every_steps:
                    self._finish(pending)
                    self._log_window(window, stage)
                    window.clear()
                if over or now - saved_at > self.settings.save_seconds:
                    self._finish(pending)
                    saving = time.monotonic()
                    self._save(stage)
                    saved_at = time.monotonic()
                    window.leave_out(saved_at - saving)
                if stop:
                    break
        return self.step >= stage.end

    def _enter(self, stage, entry):
        """Begin what a stage begins anew, and what the state lacks."""
        fresh = set(entry["fresh"]) if self.position["stage"] != stage.index else set()
        kept = {name for name in self.arrays if name.split("/", 1)[0] not in fresh}
        lacking = sorted({v["name"].split("/", 1)[0] for v in entry["variables"] if v["name"] not in kept} - {"step"})
        if lacking:
            _log(f"stage {stage.name}: begins anew: {', '.join(lacking)}")
        self.arrays = {name: self.arrays[name] for name in kept}
        for variable in entry["variables"]:
            if variable["name"] not in kept:
                self.arrays[variable["name"]] = pjrt.put(_first_value(variable))
        self.arrays["step"] = pjrt.put(np.int64(self.step))
        completion_stage = self.position["completion_stage"] if stage.phase == "discriminator" else stage.index
        self.position |= {"stage": stage.index, "phase": stage.phase, "completion_stage": completion_stage}

    def _check(self, program, entry):
        """Compare the state with what the program takes."""
        names = [variable["name"] for variable in entry["variables"]]
        parameters = program.parameters[len(entry["arguments"]) :]
        for name, (dtype, shape) in zip(names, parameters, strict=True):
            array = self.arrays[name]
            if tuple(array.shape) != shape or array.dtype != dtype:
                raise UserError(
                    f"the state's {name} is {array.dtype} {list(array.shape)}, but the program takes {dtype} "
                    f"{list(shape)}: they are not of one run; give the bundle that the state was made with."
                )

    def _call(self, program, entry, inputs):
        names = [variable["name"] for variable in entry["variables"]]
        outputs = program([*inputs, *(self.arrays[name] for name in names)])
        for result, parameter in entry["replaces"]:
            self.arrays[names[parameter - len(inputs)]] = outputs[result]
        return dict(zip(entry["results"], outputs, strict=False))

    def _finish(self, results):
        """Wait for a call, and stop if its loss was not finite; with a scaled loss that is part of the game."""
        if results is None:
            return
        bad_step = int(pjrt.get(results["bad_step"]))
        if not self._scales():
            health.check_loss(self.step, bad_step, None, self._last_good)

    def _scales(self):
        return [array for name, array in self.arrays.items() if name.endswith("_loss_scale/scale")]

    def _last_good(self):
        return f"the last saved state is kept in {self.saved.folder}"

    def _log_window(self, window, stage):
        scale = min((float(pjrt.get(array)) for array in self._scales()), default=None)
        health.check_loss(self.step, -1, scale, self._last_good)
        rates = {
            name.split("/", 1)[0]: pjrt.get(array)
            for name, array in self.arrays.items()
            if name.endswith("optimizer/learning_rate")
        }
        values = window.figures() | stats.optimizer_figures(rates, scale)
        self.stats.append(self.step, stage, values)
        _log(f"{stage.name}  step {self.step}/{stage.end}  {stats.shown(values)}")

    def _save(self, stage):
        arrays = {name: pjrt.get(array) for name, array in self.arrays.items() if name != "step"}
        networks = ((n, array) for n, array in arrays.items() if n.split("/", 1)[0] in state_files.NETWORKS)
        health.check_weights(self.step, networks, self._last_good)
        self.position |= {"step": self.step}
        self.saved.save(arrays, self.position, self.settings.parts, self.settings.bits)


class _Window(stats.Window):
    """Also the device's speed; its time is that on the clock, since calls overlap."""

    def __init__(self, stage, flops, peak_tflops):
        self.stage, self.flops, self.peak = stage, flops, peak_tflops
        super().__init__(lambda result: float(pjrt.get(result)))

    def clear(self):
        super().clear()
        self.begin = time.monotonic()

    def leave_out(self, seconds):
        """Do not count so much of the time, as when a state was saved."""
        self.begin += seconds

    def figures(self):
        """All of them, by name."""
        values = self.means()
        self.seconds = time.monotonic() - self.begin
        values |= self.speed(self.stage.batch_size)
        if self.flops:
            values["tflops"] = self.flops * self.steps / self.seconds / 1e12
            if self.peak:
                values["peak_share"] = values["tflops"] / self.peak
        return values


def _start(bundle, saved, state):
    """The arrays to begin with and their position: from the output, from --state, from the bundle, or none."""
    found = saved.latest(_log)
    if found:
        _log(f"goes on from step {found[1]['step']}")
        return found
    manifest = bundle.manifest
    if state is not None:
        return state_files.load(state)
    if manifest["state"]:
        return state_files.load(bundle.folder / "state")
    kept = ("config", "mean_pixel", "photos", "fingerprint")
    return {}, {name: manifest[name] for name in kept} | {
        "step": 0,
        "stage": None,
        "phase": None,
        "completion_stage": None,
    }


def _check_belongs(bundle, position):
    theirs, ours = position.get("config"), bundle.manifest["config"]
    if theirs != ours:
        names = sorted(name for name in {*(theirs or {}), *ours} if (theirs or {}).get(name) != ours.get(name))
        raise UserError(
            f"{bundle.folder}: the state is of a run with another config ({', '.join(names[:5])}); give the bundle "
            "that it was made with, or another --output."
        )


def _first_value(variable):
    shape, first = tuple(variable["shape"]), variable["first"]
    if "draw" in first:
        path = variable["name"].split("/", 1)[1]
        return initial_weights.draw(path, shape, first["draw"]).astype(variable["dtype"])
    if "values" in first:
        return np.array(first["values"], variable["dtype"]).reshape(shape)
    return np.full(shape, first["constant"], variable["dtype"])


def _log(message):
    print(f"{time.strftime('%H:%M:%S')}  {message}", file=sys.stderr, flush=True)
