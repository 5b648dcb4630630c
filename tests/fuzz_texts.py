"""Fuzz targets of the TOML that people write and pass on (recipe, target, fleet, sweep), and of checkpoints and trainings."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from fuzz_base import PLACE, ROOT, File, Target, mutated_json

from edgekit import files, fleet, flow, recipe, registry, target, training_state
from edgekit.checkpoint import MANIFEST, WEIGHTS
from edgekit.errors import EdgekitError
from edgekit.parts import Family
from edgekit.run_folder import read_run
from edgekit.sweep import plan as sweeps

FLEET = b"""[[devices]]
name = "pi"
target = "raspberry_pi_5"
ssh = "ssh://pi@[fe80::1%eth0]:2222"
host_key = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
runner = "cpp"
work_dir = "~/edgekit"
wait_s = 60

[[devices]]
name = "here"
meter = "none"
limit_s = 5.5
"""
SWEEP = b"""name = "digits"
precisions = ["f32", "int8"]
runtimes = ["onnxruntime", "openvino"]
variants = ["", "fused"]
targets = ["raspberry_pi_5"]
every_device = true
score_limit = 5
attempts = 2

[[models]]
recipe = "m.toml"
steps = [1, 2]

[[models]]
file = "m.onnx"
name = "own"
[models.wishes]
states = {h_next = "h"}
chunks = {x = {axis = 1, window = 4, hop = 2}}
sizes = {n = 3}
tolerance = 0.001

[profile]
seconds = 0.5
processes = 2

[[devices]]
name = "pi5"
target = "raspberry_pi_5"
ssh = "ssh://pi@192.168.1.20"
"""


def as_toml(data: Any) -> str:
    """Plain values as TOML: the outermost as keys, all within as inline tables. What TOML cannot say is left out."""
    if not isinstance(data, dict):
        return "x = " + _value(data)
    return "".join(f"{_key(k)} = {_value(v)}\n" for k, v in data.items() if v is not None)


def _value(data: Any) -> str:
    if isinstance(data, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in data.items() if v is not None) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(_value(v) for v in data if v is not None) + "]"
    return json.dumps(data, ensure_ascii=False) if isinstance(data, str | bool | int) else repr(data)


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _tomls(seeds: tuple[bytes, ...]) -> Callable[[int, random.Random], bytes]:
    plain = [tomllib.loads(raw.decode()) for raw in seeds]
    return lambda which, rng: as_toml(mutated_json(plain[which], rng)).encode("utf-8", "surrogatepass")


def _plain(path: Path) -> bytes:
    """A file without its comments, of which mutations say little."""
    return b"\n".join(line.partition(b"  #")[0] for line in path.read_bytes().splitlines() if line.strip() and not line.startswith(b"#"))


def _recipes(stack: ExitStack) -> Target:
    file, known = File(".toml", stack), {}

    def read(raw: bytes) -> None:
        found = recipe.read(file.of(raw))
        if found.family not in known:
            try:
                known[found.family] = registry.load(Family, found.family).options()
            except EdgekitError:
                known[found.family] = None
        if known[found.family] is not None:
            recipe.fill(known[found.family], {k: v for k, v in found.values.items() if k != "deploy"}, PLACE)

    names = ("iir_snn_digits", "few_step_tiny", "tpgn_generated", "time_stepping_tiny", "stream_voice_tiny", "fvdm_tiny")
    seeds = tuple(_plain(ROOT / "examples" / f"{n}.toml") for n in names)
    return Target(read, seeds, _tomls(seeds))


def _targets(stack: ExitStack) -> Target:
    file = File(".toml", stack)
    seeds = tuple(_plain(ROOT / "targets" / f"{n}.toml") for n in ("raspberry_pi_5", "jetson_xavier_nx", "host_x86_64"))
    return Target(lambda raw: target.load(file.of(raw)), seeds, _tomls(seeds))


def _fleets(stack: ExitStack) -> Target:
    file = File(".toml", stack)

    def read(raw: bytes) -> None:
        for device in fleet.read(file.of(raw)):
            fleet.find(device.name, file.path)
            if device.address is not None:  # what is shown is read again
                assert fleet.parse(device.address.shown) == device.address

    return Target(read, (FLEET,), _tomls((FLEET,)))


def _sweeps(stack: ExitStack) -> Target:
    file = File(".toml", stack)
    (file.folder / "m.onnx").write_bytes(b"x")

    def read(raw: bytes) -> None:
        sweeps.read(file.of(raw))  # the file itself is there, and is the recipe that its first model names

    return Target(read, (SWEEP,), _tomls((SWEEP,)))


def _checkpoints(stack: ExitStack) -> Target:
    """The manifest of a checkpoint, of which everything that a family reads hangs; hashes of the weights are right, unless they were changed."""
    import torch

    from edgekit.checkpoint import save_checkpoint
    from edgekit.models import _iir_snn_options
    from edgekit.models._iir_snn_options import build, images_of, options_of

    known = functools.cache(_iir_snn_options.load_images)  # the images do not hang on the file, and are most of its time
    stack.enter_context(mock.patch.object(_iir_snn_options, "load_images", known))

    folder = File("", stack).folder / "c"
    options = options_of(recipe.read(ROOT / "examples" / "iir_snn_digits.toml").data)
    told = json.loads(files.canonical_json(dataclasses.asdict(options)))
    torch.manual_seed(0)
    net = build(options, images_of(options), spiking=True)
    save_checkpoint(folder, net, {"family": "iir_snn", "name": "n", "recipe": told, "steps": 1, "key": "0" * 64, "row": {"score": 0.5}})
    seed = (folder / MANIFEST).read_bytes()
    plain = json.loads(seed)

    def inside(which: int, rng: random.Random) -> bytes:
        made = mutated_json(plain["facts"], rng)
        return json.dumps({**plain, "facts": made}).encode("utf-8", "surrogatepass")

    def read(raw: bytes) -> None:
        (folder / MANIFEST).write_bytes(raw)
        flow.load_trained(folder)

    assert hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() == plain["weights_sha256"]
    return Target(read, (seed,), inside)


STATE = json.dumps({
    "format_version": training_state.FORMAT_VERSION, "identity": "i", "finished": True, "history": [{"loss": 0.5}], "best_epoch": 1, "steps": 7,
    "files": {r: None for r in training_state.ROLES},
}).encode()  # fmt: skip
RESULT = json.dumps({
    "deploy": "t1", "score_name": "accuracy", "test_samples": 10, "pictures": [],
    "rows": [{"label": "T=1", "role": "stage", "steps": 1, "score": 0.5, "validation": None, "epochs": 3, "seconds": 1.5, "spikes_per_neuron": {}, "estimates": []}],
    "tables": [{"title": "t", "columns": ["a", "b"], "rows": [["x", 1], [None, 0.5]], "caption": "c"}],
}).encode()  # fmt: skip


def _states(stack: ExitStack) -> Target:
    """state.json of a training that is gone on with; result.json and refused.json of a run folder."""
    out = File("", stack).folder
    (out / "train").mkdir()

    def read(raw: bytes) -> None:
        (out / "state.json").write_bytes(raw)
        (out / "train" / "result.json").write_bytes(raw)
        (out / "refused.json").write_bytes(raw)
        refused = []
        for reading in (lambda: training_state.read(out, "i"), lambda: flow.load_trained(out), lambda: read_run(out)):
            try:
                reading()
            except EdgekitError as error:
                refused.append(error)
        if len(refused) == 3:
            raise refused[0]

    return Target(read, (STATE, RESULT), lambda which, rng: json.dumps(mutated_json(json.loads((STATE, RESULT)[which]), rng)).encode())


TARGETS = {"recipe": _recipes, "target": _targets, "fleet": _fleets, "sweep": _sweeps, "checkpoint": _checkpoints, "state": _states}
