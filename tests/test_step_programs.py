"""Every kind of program gives its golden answers on every engine: in Python, in C++, and on emulated aarch64."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import program_fixture
import pytest

from edgekit import data, examine, flow, registry
from edgekit.bundle import Bundle, open_bundle
from edgekit.parts import Runtime

ENGINES = ("onnxruntime", "openvino", "cpp", "cpp_openvino", "cpp_aarch64_a53", "cpp_aarch64_a76")


@pytest.fixture(scope="session")
def made(small_run: Path):
    """name -> bundle, made when first asked for and shared by all processes of the session."""

    def find(name: str) -> Bundle:
        for wanted in program_fixture.needs(name):
            if data.folder(wanted) is None:
                pytest.skip(f"no data: {wanted} is not on this machine")
        folder = small_run.parent / "programs"
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return open_bundle(program_fixture.make(name, folder, small_run))

    return find


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", program_fixture.NAMES)
def test_the_golden_answers_come_out(made, name: str, engine: str):
    reason = registry.load(Runtime, engine).ready()
    if reason:
        pytest.skip(reason)
    bundle = made(name)
    found = examine.verify(bundle, engine, 0)
    assert found.passed, found.failures
    assert found.output_max_abs is not None and found.output_max_abs <= 1e-5
    if bundle.manifest.probes:
        assert found.spikes_compared > 1000 and found.spike_flips == found.spike_flips_near
    if bundle.manifest.program.stream:
        assert found.pieces_equal == 4


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "cpp"])
def test_a_loop_and_its_fused_graph_answer_alike(made, tmp_path: Path, engine: str):
    reason = registry.load(Runtime, engine).ready()
    if reason:
        pytest.skip(reason)
    loop = made("snn_t4")
    fused = flow.export(loop.folder, "onnx-fused", tmp_path / "fused")
    assert examine.verify(fused, engine, 0).passed
    assert fused.manifest.program.runs_once and fused.label == "onnx-fused:f32"
    part = registry.find(Runtime, engine)
    with part.open(loop) as one, part.open(fused) as other:
        inputs = loop.golden().inputs
        np.testing.assert_allclose(one.run(inputs)["logits"], other.run(inputs)["logits"], atol=1e-6)


def test_one_command_prints_the_table_of_all(made):
    bundles = [made(n) for n in ("snn_t4", "diffusion")]
    command = [sys.executable, "-m", "edgekit", "verify", "--all-runtimes", "--json", *(str(b.folder) for b in bundles)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {(Path(v["bundle"]).name, v["engine"]) for v in found["verifications"]}
    ready = {n for n in ENGINES if not registry.load(Runtime, n).ready()}
    assert found["passed"] and rows == {(b.folder.name, n) for b in bundles for n in ready}
    assert set(found["not_ready"]) == set(ENGINES) - ready


def test_the_manifest_and_its_schema_agree(made):
    import jsonschema

    schema = json.loads((Path(__file__).parent.parent / "docs" / "bundle.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("snn_t1", "snn_t4", "diffusion"):
        manifest = json.loads((made(name).folder / "bundle.json").read_text())
        jsonschema.validate(manifest, schema)
        for path in objects(manifest):
            wrong = json.loads(json.dumps(manifest))
            at(wrong, path)["surprise"] = 1
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, schema)


def objects(value, path=()):
    """Paths of the objects of a manifest whose fields the format fixes."""
    fixed = not path or path[-1] not in ("recipe", "options", "tools", "details", "files", "output_max_abs", "sqnr_db", "same_share", "graphs", "states",
                                         "inputs", "outputs", "carry", "collect", "feeds", "joins")  # fmt: skip
    if isinstance(value, dict):
        if fixed:
            yield path
        for key, inner in value.items():
            if key not in ("recipe", "options"):
                yield from objects(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from objects(inner, (*path, i))


def at(value, path):
    for key in path:
        value = value[key]
    return value
