"""The command line as users call it: one process a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def edgekit(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "edgekit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False, timeout=300)


VERBS = ["demo", "train", "export", "calibrate", "verify", "profile", "import-measurement", "deploy", "sign", "check-signature", "report", "parts", "targets", "doctor", "data", "setup"]


def test_help_lists_the_verbs_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['edgekit', '--help']\n"
        "from edgekit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'onnx', 'onnxruntime', 'openvino', 'rich'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert all(verb in done.stdout for verb in VERBS)
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json_and_its_line_in_the_list_is_its_own(verb: str) -> None:
    done = edgekit(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fly",), "no command 'fly'; there are: demo, train"),
        (("train", "nowhere.toml"), "no recipe at nowhere.toml"),
        (("verify", "nowhere"), "no bundle in nowhere"),
        (("export", "nowhere", "--format", "onnx", "--out", "x"), "no checkpoint in nowhere"),
        (("report", "nowhere"), "nothing to report in nowhere"),
        (("data", "fetch", "imagenet"), "no data set 'imagenet'; there are: cifar10, ett, mnist"),
        (("setup", "onnxruntime"), "needs no set-up beyond pip"),
        (("setup", "lova"), "no runtime 'lova'; there are: aotinductor, cpp"),
        (("deploy", "nowhere", "--formats", "onxx"), "no format 'onxx'; there are"),
        (("profile", "nowhere", "--threads", "-1"), "--threads"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = edgekit(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_tables_of_parts_targets_doctor_and_data_are_one_json_document_each() -> None:
    parts = json.loads(edgekit("parts", "--json").stdout)
    assert {"onnx", "openvino", "nir", "lava"} <= {p["name"] for p in parts if p["kind"] == "exporter"}
    assert {"onnxruntime", "openvino", "reference", "lava"} <= {p["name"] for p in parts if p["kind"] == "runtime"}
    assert json.loads(edgekit("targets", "--json").stdout)[0]["name"]
    assert "onnxruntime" in json.loads(edgekit("doctor", "--json").stdout)["runtimes"]
    assert {d["name"] for d in json.loads(edgekit("data", "--json").stdout)} == {"mnist", "cifar10", "ett"}


def test_export_verify_profile_report_by_hand(small_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "nir8"
    exported = edgekit("export", small_run, "--format", "nir:int8", "--out", out, "--json")
    assert exported.returncode == 0, exported.stderr
    facts = json.loads(exported.stdout)
    assert facts["precision"] == "int8" and (out / "model.nir").exists()
    verified = edgekit("verify", out, "--runtime", "reference", "--json")
    assert json.loads(verified.stdout)["exact_mismatches"] == 0
    profiled = edgekit("profile", out, "--runtime", "reference", "--seconds", "0.1", "--json")
    assert json.loads(profiled.stdout)["latency_p50_ms"] > 0
    human = edgekit("verify", out, "--runtime", "nir", "--score-limit", "50")
    assert human.returncode == 0 and "verified" in human.stdout and "integers  0 differ" in human.stdout


def test_a_wrong_answer_ends_with_exit_code_1(small_run: Path, tmp_path: Path) -> None:
    """A bundle whose graph answers something else, resealed so that its hashes are right."""
    import numpy as np

    from edgekit import flow
    from edgekit.bundle import files, open_bundle

    bundle = flow.export(small_run, "onnx", tmp_path / "b")
    golden = bundle.golden()
    golden.outputs["logits"][0, 0] += np.float32(0.5)  # type: ignore[index]
    golden.save(bundle.folder / "golden.safetensors")
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    manifest["files"]["golden.safetensors"] = files.sha256_of(bundle.folder / "golden.safetensors")
    (bundle.folder / "bundle.json").write_text(json.dumps(manifest))
    done = edgekit("verify", open_bundle(bundle.folder).folder, "--score-limit", "0")
    assert done.returncode == 1
    assert "NOT EQUAL" in done.stdout and "'logits' differs by 0.5" in done.stdout
    refused = edgekit("profile", bundle.folder)
    assert refused.returncode == 2 and "has not passed" in refused.stderr


def test_an_ann_is_not_exported_and_a_longer_network_is_no_nir(small_run: Path, tmp_path: Path) -> None:
    for stage, form, word in (("ann", "onnx", "the ANN"), ("t4", "nir", "has 4 timesteps")):
        done = edgekit("export", small_run / "train" / stage, "--format", form, "--out", tmp_path / "x")
        assert done.returncode == 2
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    recipe = ROOT / "examples" / "iir_snn_mnist.toml"
    done = edgekit("train", recipe, "--out", tmp_path / "r", EDGEKIT_DATA=str(tmp_path), EDGEKIT_CACHE=str(tmp_path / "c"))
    assert done.returncode == 2
    assert "edgekit data fetch mnist" in done.stderr and "EDGEKIT_DATA" in done.stderr
