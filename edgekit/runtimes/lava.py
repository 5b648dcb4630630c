"""Lava's fixed-point simulation of Loihi 2, in an isolated environment that `edgekit setup lava` builds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgekit import files, recipe
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, Missing
from edgekit.measurement import Progress
from edgekit.parts import Arrays, Runtime, Session

# Tried together on CPython 3.10.13 and 3.11.7; with numpy 2 Lava's convolution fails. Neither torch nor scikit-learn is
# needed for netx, so the two Lava wheels come without their dependencies.
PINS = ("numpy==1.26.4", "scipy==1.11.4", "h5py==3.11.0", "networkx==2.8.7", "asteval==0.9.33")
LAVA = ("lava-nc==0.10.0", "lava-dl==0.6.0")
PYTHONS = ((3, 11), (3, 10))
COMPLETE = ".complete"  # written last: without it an environment is half built
RUNNER = Path(__file__).parent / "_lava" / "runner.py"
SETUP_LIMIT_S = 1800.0
RUN_LIMIT = "EDGEKIT_LAVA_LIMIT_S"
RUN_LIMIT_S = 600.0
GRACE_S = 2.0  # after SIGTERM, in which Python's resource tracker frees Lava's shared memory
READOUT_SHIFT = 6  # Lava keeps a current << 6 as voltage


class Lava(Runtime):
    """Each sample is one time step of a running network. With probes the spikes of every layer come from a sink of its own.

    A run takes about 2 s to start and then milliseconds a sample: its time says nothing about the chip.
    """

    formats = ("lava",)
    most_scored = 500  # each takes tens of milliseconds
    simulates = "Loihi 2 fixed point"
    exact = True

    def version(self) -> str:
        """See Runtime.version."""
        return " with ".join(pin.replace("==", " ") for pin in LAVA)

    def ready(self) -> str:
        """See Runtime.ready."""
        folder = environment()
        if (folder / COMPLETE).is_file() and _python_of(folder).exists():
            return ""
        return "lava is not set up: run `edgekit setup lava`"

    def setup(self, progress: Progress) -> str:
        """Build the isolated environment; about half a minute and half a gigabyte. Does nothing when it is there."""
        folder = environment()
        if not self.ready():
            return f"lava was set up before, in {folder}"
        python = find_python()
        with files.folder_draft(folder) as draft:
            pip = [str(_python_of(draft)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            steps = {
                "make an environment": [python, "-m", "venv", str(draft)],
                "install numpy, scipy, h5py": [*pip, *PINS],
                "install lava": [*pip, "--no-deps", "--ignore-requires-python", *LAVA],
                "import lava": [str(_python_of(draft)), str(RUNNER), "check"],
            }
            said = ""
            for done, (what, command) in enumerate(steps.items()):
                progress(what, done, len(steps))
                said = _setup_step(what, command)
            # bin/pip and its like still name the draft, but only `bin/python` is ever used, and that may move.
            (draft / COMPLETE).write_text(said + "\n")
        progress("done", len(steps), len(steps))
        return f"lava is set up in {folder}: {said}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """See Runtime.open. Lava gives each part of each layer its own process; `threads` bounds those of numpy in each."""
        reason = self.ready()
        if reason:
            raise Missing(reason)
        details = recipe.fill(Details, bundle.manifest.details, f"{bundle.folder}: details")
        with files.scratch("lava") as folder:
            yield LavaSession(bundle, details, Path(folder), threads, probes)


@dataclass(frozen=True)
class Layer:
    """A population: its name and shape, (C, H, W) or (N,)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Details:
    """What exporters/lava.py writes into the bundle's details; documented there."""

    input_shape: tuple[int, ...]
    input_offset: int
    input_range: tuple[int, int]
    message_bits: int
    layers: tuple[Layer, ...]
    readout_scale: float


class LavaSession(Session):
    """A lava bundle, run by one child process a call."""

    def __init__(self, bundle: Bundle, details: Details, folder: Path, threads: int, probes: bool) -> None:
        self.bundle, self.details, self.folder = bundle, details, folder
        self.threads, self.probes = threads, probes

    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        """image uint8 (N, ...) -> `logits` float32 (N, classes); with probes also uint8 (N, *shape) per spiking layer."""
        signature = self.bundle.manifest.signature
        signature.check_inputs(inputs)
        k = self._integers(inputs[signature.inputs[0].name])
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            given, out = Path(name) / "given.npz", Path(name) / "out"
            out.mkdir()
            np.savez(given, k=k, message_bits=self.details.message_bits, spikes=self.probes)
            model = str(self.bundle.graph().absolute())
            python = str(_python_of(environment()))
            run_child(
                [python, "-u", str(RUNNER), model, str(given), str(out)],
                f"lava on bundle '{self.bundle.manifest.name}' ({len(k)} samples)",
                run_limit_s(),
                f"; give it fewer samples, or more time with {RUN_LIMIT}",
                self.threads,
            )
            membrane = np.load(out / "v.npy", allow_pickle=False)
            current = (membrane >> READOUT_SHIFT).reshape(len(k), -1).astype(np.float64)
            result = {signature.outputs[0].name: (current * self.details.readout_scale).astype(np.float32)}
            if self.probes:
                for number, layer in enumerate(self.details.layers[:-1]):
                    spikes = np.load(out / f"spikes_{number}.npy", allow_pickle=False)
                    result[layer.name] = spikes.reshape(len(k), *layer.shape)
        return result

    def _integers(self, image: np.ndarray) -> np.ndarray:
        k = image.astype(np.int32).reshape(len(image), *self.details.input_shape) - self.details.input_offset
        if not len(k):
            raise EdgekitError("lava was given no samples; give it at least one")
        low, high = self.details.input_range
        if k.min() < low or k.max() > high:
            # The accumulators were checked for this range only; beyond it they may wrap.
            offset = self.details.input_offset
            raise EdgekitError(
                f"the input runs from {image.min()} to {image.max()}, but this network was made for "
                f"{low + offset}..{high + offset}"
            )
        return k


def environment() -> Path:
    """Where the isolated environment for these pins is, or will be."""
    cache = os.environ.get("EDGEKIT_CACHE")
    root = Path(cache) if cache else Path.home() / ".cache" / "edgekit"
    return root.absolute() / f"lava-{files.hash_of([*PINS, *LAVA])[:12]}"


def find_python() -> str:
    """A Python of a version that Lava runs on: this one, or the first on PATH; Missing when there is none."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        path = shutil.which(f"python{major}.{minor}")
        # A version manager's shim may be on PATH without the Python behind it.
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False, timeout=60).returncode == 0:
            return path
    here = ".".join(map(str, sys.version_info[:2]))
    raise Missing(f"lava runs on python 3.11 or 3.10, this is {here} and PATH has neither; install python3.11 with its venv module")


def run_limit_s() -> float:
    """Seconds that one run may take."""
    text = os.environ.get(RUN_LIMIT, "")
    try:
        limit_s = float(text) if text else RUN_LIMIT_S
    except ValueError:
        limit_s = 0.0
    if not limit_s > 0:
        raise EdgekitError(f"{RUN_LIMIT} is a number of seconds above 0, found '{text}'")
    return limit_s


def run_child(command: list[str], what: str, limit_s: float, late: str = "", threads: int = 0) -> str:
    """Run a command of the isolated environment and return what it printed; all its processes are gone afterwards.

    Raises EdgekitError, one sentence, when it takes longer than `limit_s` (`late` says what to do then), dies, or ends
    with an exception.
    """
    # Files, not pipes: a process left behind by a dead child would keep a pipe open, and us waiting.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_clean_environment(threads),
            start_new_session=True,  # Lava forks; the group is ended as one
        )
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise EdgekitError(f"{what} took longer than {limit_s:g} s and was ended{late}") from None
        finally:
            _end_group(child)
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; most likely memory ran out: give it fewer samples" if name == "SIGKILL" else ""
            raise EdgekitError(f"{what} was killed by {name}{hint}")
        if code:
            raise EdgekitError(f"{what} failed: {_last_line(err)}")
        out.seek(0)
        return out.read().decode(errors="replace").strip()


def _end_group(child: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + GRACE_S
    with suppress(ProcessLookupError, PermissionError):  # raised when nobody is left
        os.killpg(child.pid, signal.SIGTERM)
        while _lives(child.pid) and time.monotonic() < end_s:
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _lives(group: int) -> bool:
    """Whether a process of the group still runs. os.killpg(group, 0) would count the dead that init has yet to reap."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended just now
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return True
    return False


def _clean_environment(threads: int) -> Mapping[str, str]:
    # PYTHONPATH and its like would bring another numpy into the isolated environment.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    kept |= {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if threads:
        kept |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    return kept


def _setup_step(what: str, command: list[str]) -> str:
    try:
        return run_child(command, f"`{Path(command[0]).name} {' '.join(command[1:])}`", SETUP_LIMIT_S)
    except EdgekitError as error:
        raise EdgekitError(f"could not {what}: {error}; mend that and run `edgekit setup lava` again") from None


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


PART = Lava()
