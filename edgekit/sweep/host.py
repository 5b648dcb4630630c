"""The compute-heavy work of a sweep, as functions that a dask worker runs: train, read, make, verify, estimate.

Each takes plain values and folders, and returns an Outcome, so that no error and no traceback is kept alive on a worker. Those
that open models run in a process of their own (`apart`, `verify`): engines die of models, and a worker that died with one would
take its neighbours along.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit import flow, intake, own_process, registry, roofline
from edgekit import target as targets
from edgekit.bundle import open_bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError, Unwritable
from edgekit.intake import Wishes
from edgekit.parts import Calibrator, Exporter, Runtime, Trained
from edgekit.recipe import fill
from edgekit.route import Step
from edgekit.verify_apart import verify_apart

LIMIT_S = 3600  # of all but training
PR_SET_PDEATHSIG = 1  # prctl(2): the signal for when the parent dies
EVERY = 10**9  # test samples: all that there are


@dataclass(frozen=True)
class Outcome:
    """What came of a piece of work. refused: it cannot be, and would not be tomorrow. again: it may go better the next time.
    device_gone: it was the device's fault, and it is not to be asked any more."""

    state: Literal["done", "refused", "failed"]
    result: Mapping[str, Any] | None = None
    error: str = ""
    again: bool = False
    device_gone: bool = False


def apart(name: str, *arguments: Any) -> Outcome:
    """Run one of these functions in a fresh process of this machine, which ends with this one."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgekit.sweep.host"], input=written(name, arguments), capture_output=True, check=False,
            env=own_process.environment(), timeout=None if name == "train" else LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome("failed", error=f"it took more than {LIMIT_S} s and was stopped")
    if done.returncode < 0:
        said = signal.Signals(-done.returncode).name
        return Outcome("failed", error=f"its process was ended by {said}" + ("; there may not be enough memory" if said == "SIGKILL" else ""))
    if done.returncode:
        last = next(iter(reversed(done.stderr.decode(errors="replace").strip().splitlines())), f"exit code {done.returncode}")
        return Outcome("failed", error=f"its process failed: {last}")
    return Outcome(**json.loads(done.stdout))


def train(recipe: str, out: str, steps: tuple[int, ...]) -> Outcome:
    """Train by a recipe into the folder `out`, or go on there: {"sources": {steps: {folder in out, sha256}}}; the key "" is
    the checkpoint to deploy. Steps that the recipe does not train are left out."""

    def work() -> dict[str, Any]:
        chosen = flow.train(recipe, Path(out))
        stages = {str(t): Path(out) / "train" / f"t{t}" for t in steps} or {"": chosen}
        folders = {t: f for t, f in stages.items() if f.is_dir()}
        return {"sources": {t: {"folder": str(f.relative_to(out)), "sha256": open_checkpoint(f).sha256} for t, f in folders.items()}}

    return outcome(work)


def read(source: str, wishes: Wishes) -> Outcome:
    """Look at a checkpoint or a model of the user's own: what `train` gives, without a folder."""
    return outcome(lambda: {"sources": {"": {"folder": "", "sha256": _trained(source, wishes).sha256}}})


def make(step: Step, source: str, wishes: Wishes, parent: str, out: str) -> Outcome:
    """One bundle in `out`, from a checkpoint or model (`source`) or from the bundle in `parent`: {sha256}."""

    def work() -> dict[str, Any]:
        trained = _trained(source, wishes) if step.accepts == "checkpoint" else None
        bundles = {step.accepts: open_bundle(parent)} if parent else {}
        return {"sha256": flow.make(step, trained, bundles, Path(out)).sha256}

    return outcome(work)


def verify(folder: str, runtime: str, score_limit: int | None) -> Outcome:
    """Verify and score, in a process of its own already. Refused when the answers are not the trained model's: no figure is given."""

    def work() -> dict[str, Any]:
        bundle = open_bundle(folder)
        limit = score_limit or registry.load(Runtime, runtime).most_scored or EVERY
        found = verify_apart(bundle, runtime, limit)
        if not found.golden_samples:  # nothing was compared
            raise EdgekitError(found.failures[0])
        if not found.passed:
            raise EdgekitError(f"not the trained model's answers, so not timed: {found.failures[0]}")
        return {"sha256": bundle.sha256, "verification": found.to_json()}

    return outcome(work)


def estimate(folder: str, target: str, precision: str) -> Outcome:
    """What one inference costs on a target that is not this machine, by its figures: {estimate}. It counts, and runs no engine."""
    return outcome(lambda: {"estimate": dataclasses.asdict(roofline.estimate(open_bundle(folder), targets.load(target), precision))})


def outcome(work: Callable[[], Mapping[str, Any]]) -> Outcome:
    """Do it; a sentence in place of an error."""
    try:
        return Outcome("done", work())
    except Unwritable as error:  # it can be done, once there is room
        return Outcome("failed", error=str(error))
    except EdgekitError as error:
        return Outcome("refused", error=str(error))
    except Exception as error:  # the sweep goes on without it, and says so
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        return Outcome("failed", error=f"{type(error).__name__}: {first[:300]}")


def written(name: str, arguments: Sequence[Any]) -> bytes:
    """A call as JSON: steps and wishes as their fields, an exporter or calibrator by the name of its kind."""

    def plain(value: Any) -> Any:
        if isinstance(value, Step):
            return {**vars(value), "kind": value.kind.__name__}
        return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value

    return json.dumps([name, *map(plain, arguments)]).encode()


def asked(text: bytes) -> Callable[[], Outcome]:
    """The call that `written` wrote: one of three functions of this file, and nothing else."""
    name, *arguments = json.loads(text)
    if name == "train":
        recipe, out, steps = arguments
        return lambda: train(recipe, out, tuple(steps))
    if name == "read":
        source, wishes = arguments
        return lambda: read(source, fill(Wishes, wishes, "wishes"))
    step, source, wishes, parent, out = arguments
    kinds: dict[str, type[Exporter] | type[Calibrator]] = {"Exporter": Exporter, "Calibrator": Calibrator}
    return lambda: make(Step(kinds[step["kind"]], step["part"], step["accepts"], step["label"]), source, fill(Wishes, wishes, "wishes"), parent, out)


def _trained(source: str, wishes: Wishes) -> Trained:
    if intake.is_own(source):
        return intake.read(source, wishes)
    return flow.load_trained(Path(source))


def _main() -> None:
    """What `apart` starts: a call on stdin, its Outcome on stdout; what libraries print goes to stderr."""
    with suppress(OSError, AttributeError):  # where there is no prctl, the process ends when its work is done
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    out = os.dup(1)
    os.dup2(2, 1)
    found = asked(sys.stdin.buffer.read())()
    with os.fdopen(out, "w", encoding="utf-8") as told:
        json.dump(dataclasses.asdict(found), told)


if __name__ == "__main__":
    _main()
