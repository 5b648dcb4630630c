"""Kill real commands of edgekit at random moments, run them again to their end, and compare with an undisturbed run; benchmarks/kill.json.

    python benchmarks/kill.py [--kills deploy=75 sweep=80 ...] [--seed 10] [--work FOLDER] [--more]

A kill is SIGKILL to the whole process group, at a moment drawn uniformly from the duration of an undisturbed run. Each begins with a
fresh folder of the same name (paths are part of some keys). The command is the real `edgekit.cli.main`, in a process forked from one that
has only imported libraries: kills then lie in the work, and not half of them in `import torch`. What it starts itself is started as always.
`--more` goes on from what benchmarks/kill.json holds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from sweep_models import model  # noqa: E402 - the checkout's own, put on the path above

OUT = ROOT / "benchmarks" / "kill.json"
MARK = "EDGEKIT_KILL_MARK"  # in the environment of all that a command starts, whatever group or session it is in
LIMIT_S = 600
GONE_S = 15  # for what is in a session of its own to see that its parent is gone
NOT_OURS = (".ses", "torchinductor_root", "dask-scratch-space")  # what onnxruntime, torch and dask keep in the folder for temporary files
LITTER = (".draft-*", ".lock-*", "*.part", "*.search.json")

RECIPE = """
family = "iir_snn"
schedule = [2, 1]
[network]
name = "custom"
layers = [4, "A"]
hidden = [16]
[ann]
epochs = 3
batch_size = 64
learning_rate = 0.01
[snn]
epochs = 2
batch_size = 64
learning_rate = 0.005
"""
SWEEP = """
targets = ["raspberry_pi_5"]
here = true
[[models]]
file = "m.onnx"
wishes = { test = "m.npz" }
[profile]
seconds = 0.05
processes = 1
energy_seconds = 0.0
"""

# What may differ between two undisturbed runs, and so is not compared: a pattern of paths in the folder -> fields that are left out.
# "*": of such a file it is compared that it is there, and for JSON which fields it has. All other files are compared byte for byte.
MEASURED: dict[str, tuple[str, ...]] = {
    "train/*.timing.json": ("seconds",),
    "train/result.json": ("rows[].seconds",),
    "train/*.state/state.json": ("history[].seconds",),
    "bundles/*/evidence/profile-*.json": ("*",),
    "bundles/*/evidence/samples-*.safetensors": ("*",),
    "bundles/*/evidence/layers-*.json": ("*",),
    "bundles/*/evidence/device-estimate.json": ("*",),
    "report/*": ("*",),
    "sweep.json": ("*",),
    "ledger.sqlite": ("*",),
}


@dataclass(frozen=True)
class Task:
    """A command, what it needs in the folder before, and the folder that it writes."""

    name: str
    arguments: tuple[str, ...]
    out: str
    needs: tuple[str, ...]


TASKS = {
    t.name: t
    for t in (
        *(Task(name, ("deploy", "trained/train/t1", "--out", "run", "--formats", formats, "--seconds", "0.05", "--processes", "1",
                      "--score-limit", "20", "--json"), "run", ("trained",))
          for name, formats in (("deploy", "nir"), ("deploy-onnx", "onnx"), ("deploy-many", "openvino,nir,nir:int8"))),
        Task("sweep", ("sweep", "plan.toml", "--out", "swept", "--workers", "1", "--json"), "swept", ("m.onnx", "m.npz", "plan.toml")),
        Task("train", ("train", "small.toml", "--out", "run", "--json"), "run", ("small.toml",)),
    )
}  # fmt: skip


class Work:
    """A folder to work in: `given` is copied to `cycle` before each command."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cycle, self.given = folder, folder / "cycle", folder / "given"
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.temp = folder / "tmp"

    def environment(self) -> dict[str, str]:
        """One thread, a cache and a folder for temporary files of its own."""
        own = {"EDGEKIT_CACHE": str(self.folder / "cache"), "TMPDIR": str(self.temp), "OMP_NUM_THREADS": "1", MARK: self.mark}
        return {**os.environ, "PYTHONPATH": str(ROOT), **own}

    def prepare(self) -> None:
        """Train the checkpoint that deploy and sweep begin with."""
        self.given.mkdir(parents=True)
        self.temp.mkdir()
        (self.given / "small.toml").write_text(RECIPE)
        (self.given / "plan.toml").write_text(SWEEP)
        model(self.given, "m")
        self.cycle.mkdir()
        (self.cycle / "small.toml").write_text(RECIPE)
        if self.finish(Task("", ("train", "small.toml", "--out", "trained", "--json"), "trained", ()))[0]:
            sys.exit((self.folder / "stderr").read_text())
        (self.cycle / "trained").rename(self.given / "trained")

    def fresh(self, task: Task) -> None:
        """The folder as it is before the command."""
        shutil.rmtree(self.cycle, ignore_errors=True)
        shutil.rmtree(self.temp)
        self.temp.mkdir()
        self.cycle.mkdir()
        for name in task.needs:
            source = self.given / name
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, self.cycle / name)

    def start(self, task: Task) -> int:
        """The command, in a group of its own; what it says goes to files. Its process id."""
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            os.setsid()
            os.chdir(self.cycle)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
            os.environ.update(self.environment())
            tempfile.tempdir = None
            sys.argv = ["edgekit", *task.arguments]
            from edgekit.cli import main as edgekit

            code = edgekit()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def finish(self, task: Task) -> tuple[int, float]:
        """(exit code, seconds) of the command, run to its end."""
        begun = time.monotonic()
        code = ended(self.start(task), LIMIT_S)
        if code is None:
            sys.exit(f"{task.name} does not end; see {self.folder}")
        return code, time.monotonic() - begun

    def left(self) -> list[str]:
        """Commands of the processes that it started and that still run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"{MARK}={self.mark}".encode() in path.read_bytes().split(b"\0"):
                    found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200])
            except OSError:
                continue
        return found


def warm() -> None:
    """Import, and do nothing else, so that no thread is forked away."""
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"})
    import importlib

    for name in ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nir", "h5py", "altair", "jinja2", "sklearn.datasets", "distributed",
                 "cryptography", "lightning_fabric", "lightning_fabric.strategies.ddp", "safetensors.torch", "rich.console", "rich.table",
                 "edgekit.flow", "edgekit.train", "edgekit.sweep.flow", "edgekit.report.html", "edgekit.cli.sweep"):  # fmt: skip
        importlib.import_module(name)


def killed_at(work: Work, task: Task, moment_s: float) -> bool:
    """Start the command and kill it after so long; False when it was quicker."""
    child = work.start(task)
    if ended(child, moment_s) is not None:
        return False
    with suppress(ProcessLookupError):  # it had no time to make its group
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def ended(child: int, limit_s: float) -> int | None:
    """The exit code, or None when it is not over after so long."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(0.002, max(0.0, until - time.monotonic())))
    return None


def facts(folder: Path) -> dict[str, Any]:
    """What is compared: a value for each file."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink()):
        name = str(path.relative_to(folder))
        if name.endswith(("-wal", "-shm")):
            continue  # of SQLite, whose last reader may leave them
        fields = next((f for pattern, f in MEASURED.items() if fnmatch(name, pattern) or fnmatch(name, f"models/*/{pattern}")), None)
        if name == "ledger.sqlite":
            found[name] = ledger(path)
        elif fields is None:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".json":
            data = json.loads(path.read_text())
            found[name] = shape(data) if fields == ("*",) else without(data, fields)
        else:
            found[name] = "there" if path.stat().st_size else "empty"
    return found


def shape(data: Any) -> Any:
    """The fields of a JSON value, three deep, without what they hold."""
    if not isinstance(data, dict):
        return None
    return {k: sorted(v) if isinstance(v, dict) else isinstance(v, list) for k, v in data.items()}


def without(data: Any, fields: tuple[str, ...]) -> Any:
    """JSON without some fields; "rows[].seconds": of each row."""
    for field in fields:
        inner, rows, last = field.rpartition("[].")
        for row in data[inner] if rows else [data]:
            row.pop(last, None)
    return data


def ledger(path: Path) -> Any:
    """What was to be done and what became of it; that no two runs overlapped."""
    with sqlite3.connect(path) as db:
        jobs = sorted(db.execute("SELECT key, kind, what, state FROM jobs").fetchall())
        runs = db.execute("SELECT device, key FROM runs WHERE outcome = 'done'").fetchall()
    return [[*job] for job in jobs], sorted([*run] for run in runs)


def trouble(work: Work, task: Task, want: dict[str, Any], code: int) -> list[str]:
    """Whatever is not as after the undisturbed run."""
    said = (work.folder / "stderr").read_text(errors="replace").strip().splitlines()
    found = [f"exit code {code}: {said[-1] if said else ''}"] if code else []
    got = facts(work.cycle / task.out)
    found += [f"{n}: differs" for n in sorted({*got} & {*want}) if json.dumps(got[n], sort_keys=True) != json.dumps(want[n], sort_keys=True)]
    found += [f"{n}: missing" for n in sorted({*want} - {*got})] + [f"{n}: too much" for n in sorted({*got} - {*want})]
    litter = [p for pattern in LITTER for place in (work.cycle, work.folder / "cache") for p in place.rglob(pattern)]
    found += [f"left behind: {p.relative_to(work.folder)}" for p in (*litter, *(p for p in work.temp.iterdir() if p.name not in NOT_OURS))]
    return found + [f"still runs: {c}" for c in work.left()]


def not_whole(folder: Path) -> list[str]:
    """Bundles and checkpoints that are there right after the kill, and cannot be opened."""
    from edgekit.bundle import open_bundle
    from edgekit.checkpoint import open_checkpoint
    from edgekit.errors import EdgekitError

    found = []
    opens: tuple[tuple[str, Callable[[Path], Any]], ...] = (("bundle.json", open_bundle), ("checkpoint.json", open_checkpoint))
    for name, reader in opens:
        for path in (p for p in folder.rglob(name) if ".draft-" not in str(p)):
            try:
                reader(path.parent)
            except EdgekitError as error:
                found.append(f"not whole after the kill: {error}")
    return found


def undisturbed(work: Work, task: Task) -> tuple[dict[str, Any], float]:
    """What it gives, and how long it takes. It is run until two runs in turn agree, or the comparison itself would be wrong."""
    work.fresh(task)
    code, _ = work.finish(task)  # the cache of what this machine can do is made here
    before = facts(work.cycle / task.out)
    work.fresh(task)
    again, seconds = work.finish(task)
    said = (work.folder / "stderr").read_text(errors="replace").strip()
    if code or again or trouble(work, task, before, again):
        sys.exit(f"{task.name}, undisturbed: exit codes {code} and {again}, {trouble(work, task, before, again)}: {said[-500:]}")
    return before, seconds


def cycle(work: Work, task: Task, want: dict[str, Any], moment_s: float) -> dict[str, Any] | None:
    """One kill and the run after it; None when the command was quicker than the kill."""
    work.fresh(task)
    if not killed_at(work, task, moment_s):
        return None
    until = time.monotonic() + GONE_S
    while (left := work.left()) and time.monotonic() < until:
        time.sleep(0.1)
    found = [f"still runs {GONE_S} s after the kill: {c}" for c in left] + not_whole(work.cycle / task.out)
    there = sum(1 for p in work.cycle.rglob("*") if p.is_file() and task.out in p.parts)
    code, seconds = work.finish(task)
    found += trouble(work, task, want, code)
    return {"killed_after_s": round(moment_s, 3), "files_then": there, "rerun_s": round(seconds, 2), "trouble": found}


def row_of(task: Task, seconds: float, kept: list[dict[str, Any]]) -> dict[str, Any]:
    """What the JSON says of one command."""
    return {
        "task": task.name, "command": "edgekit " + " ".join(task.arguments), "undisturbed_s": round(seconds, 2), "kills": len(kept),
        "reruns_equal": sum(not c["trouble"] for c in kept), "troubles": [c for c in kept if c["trouble"]],
        "kills_without_a_file_yet": sum(not c["files_then"] for c in kept), "cycles": kept,
    }  # fmt: skip


def save(out: Path, rows: dict[str, dict[str, Any]], seed: int) -> None:
    """Write what is known so far."""
    from edgekit import __version__

    data = {
        "what": "SIGKILL to the process group at uniform moments of an undisturbed run; the same command again; everything compared",
        "not_compared": {k: list(v) for k, v in MEASURED.items()}, "also_checked": ["bundles and checkpoints right after the kill", "exit code",
        "no draft, lock, part or scratch folder left", "no process left"], "seed": seed, "edgekit": __version__, "system": platform.platform(),
        "cores": os.cpu_count(), "rows": [rows[n] for n in TASKS if n in rows],
    }  # fmt: skip
    text = json.dumps(data, indent=1)
    out.write_text(re.sub(r'\{\s+"killed_after_s":[^{}]*\}', lambda m: " ".join(m[0].split()), text) + "\n")  # a cycle a line


def main() -> int:
    """The rows, one kill after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", nargs="*", default=["deploy=85", "deploy-onnx=30", "deploy-many=5", "sweep=80", "train=30"])
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--more", action="store_true")
    given = parser.parse_args()
    warm()
    rows = {r["task"]: r for r in json.loads(given.out.read_text())["rows"]} if given.more and given.out.exists() else {}
    work = Work(given.work or Path(tempfile.mkdtemp(prefix="edgekit-kill-")))
    work.prepare()
    wanted = {name: int(count) for name, _, count in (wish.partition("=") for wish in given.kills)}
    kept = {name: rows[name]["cycles"] if name in rows else [] for name in wanted}
    calm: dict[str, tuple[dict[str, Any], float]] = {}
    chance = random.Random(f"{given.seed} {sum(map(len, kept.values()))}")
    while name := max((n for n in wanted if len(kept[n]) < wanted[n]), key=lambda n: 1 - len(kept[n]) / wanted[n], default=""):
        task = TASKS[name]
        if name not in calm:
            calm[name] = undisturbed(work, task)
            print(f"{name}: {calm[name][1]:.1f} s undisturbed, {len(calm[name][0])} files compared", flush=True)
        done = cycle(work, task, calm[name][0], chance.random() * calm[name][1])
        if done is None:
            continue
        kept[name].append(done)
        rows[name] = row_of(task, calm[name][1], kept[name])
        save(given.out, rows, given.seed)
        print(f"{name} {len(kept[name])}: killed after {done['killed_after_s']} s, {done['trouble'] or 'equal'}", flush=True)
    shutil.rmtree(work.folder, ignore_errors=True)
    return 1 if any(r["troubles"] for r in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
