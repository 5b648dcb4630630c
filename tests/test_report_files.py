"""What a report is read from and written to: evidence of a run folder, Markdown, traces for Perfetto, and the command."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from report_fixture import bundle_rows, device_estimates, layer_profile, metered, picture, sample_run, sweep_run, timing

from edgekit import files, report, run_folder
from edgekit.bundle import (
    Allowed,
    Bundle,
    Golden,
    GoldenNote,
    GraphFile,
    Lineage,
    Manifest,
    Model,
    new_bundle,
    open_bundle,
)
from edgekit.cli.report import command
from edgekit.errors import Broken
from edgekit.program import once
from edgekit.report import markdown, perfetto, profile_charts
from edgekit.signature import Signature, Tensor

SIGNATURE = Signature((Tensor("x", "float32", ("batch", 3)),), (Tensor("y", "float32", ("batch", 1)),))


def small_bundle(out: Path) -> Bundle:
    model = Model("iir_snn", {"seed": 0}, "cd" * 32, "accuracy", 0.9, 10, steps=3)
    manifest = Manifest(
        "small_t3", "onnx", "f32", SIGNATURE, {"main": GraphFile("model.onnx", SIGNATURE)}, once(("x",), ("y",)), GoldenNote("hand", "hand"), model,
        Allowed({"y": 1e-5}), Lineage("export test", "ab" * 32, {}, {"onnx": "1"}),
    )  # fmt: skip
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with new_bundle(out, manifest, [Golden({"x": x}, {"y": x[:, :1]})]) as draft:
        (draft / "model.onnx").write_bytes(b"graph")
    return open_bundle(out)


def rows(count: int = 30, processes: int = 3, overlap: bool = False) -> dict[str, np.ndarray]:
    """Samples of processes that ran one after the other, each sample 100 us, every seventh preempted."""
    step = 40_000 if overlap else 130_000
    start = 5_000_000_000 + np.concatenate([p * 1_000_000_000 + step * np.arange(count) for p in range(processes)])
    wall = np.full(len(start), 100_000)
    return {
        "process": np.repeat(np.arange(processes), count), "start_ns": start.astype(np.int64), "wall_ns": wall.astype(np.int64),
        "cpu_ns": (wall - 1000).astype(np.int64), "preempted": (np.arange(len(start)) % 7 == 0).astype(np.uint8),
    }  # fmt: skip


@pytest.fixture
def run_of_a_bundle(tmp_path: Path) -> Path:
    """A run folder with one bundle and every sort of evidence about it."""
    out = tmp_path / "run"
    bundle = small_bundle(out / "bundles" / "onnx-f32")
    bundle.write_evidence("verify-onnxruntime", {**dataclasses.asdict(bundle_rows()[0].verifications[0]), "more": 1})
    bundle.write_evidence("profile-onnxruntime-1", timing("onnxruntime 1.32.0", 0.4, 1, **metered(0.4)).to_json())
    bundle.write_evidence("profile-onnxruntime-all", timing("onnxruntime 1.32.0", 0.3, 0).to_json())
    bundle.write_evidence("layers-onnxruntime-1", {"profile": dataclasses.asdict(layer_profile("onnxruntime 1.32.0"))})
    bundle.write_evidence("device-estimate", {"estimates": [dataclasses.asdict(e) for e in device_estimates(0.4, "f32")]})
    for name, facts in (("samples-onnxruntime-1", {"bundle_sha256": bundle.sha256}), ("samples-onnxruntime-all", {"bundle_sha256": "of another"})):
        files.write_tensors(bundle.folder / "evidence" / f"{name}.safetensors", rows(), facts)
    return out


def test_a_run_folder_is_read_with_its_layers_estimates_and_candidates(run_of_a_bundle: Path) -> None:
    run = run_folder.read_run(run_of_a_bundle)
    (row,) = run.bundles
    assert row.layers == (layer_profile("onnxruntime 1.32.0"),) and row.device_estimates == device_estimates(0.4, "f32")
    assert (row.model, row.steps) == ("small_t3", 3)
    assert [c.name for c in run.candidates] == [
        "small_t3 onnx:f32 on host, onnxruntime", "small_t3 onnx:f32 on jetson-orin-nano", "small_t3 onnx:f32 on raspberry-pi-5",
        "small_t3 onnx:f32 on intel-n100",
    ]  # fmt: skip
    assert run.candidates[0].energy_mj is not None and run.candidates[0].energy_mj.kind == "measured"


def test_a_picture_beside_the_result_is_read_with_it(run_of_a_bundle: Path) -> None:
    drawn = picture("Four calls")
    told = {"title": drawn.title, "file": drawn.file, "caption": drawn.caption}
    files.write_text(run_of_a_bundle / "train" / "result.json", files.canonical_json({"deploy": "t", "pictures": [told]}))
    files.write_bytes(run_of_a_bundle / "train" / drawn.file, drawn.content())
    assert run_folder.read_run(run_of_a_bundle).pictures == (drawn,)


def test_evidence_of_another_bundle_is_not_read(run_of_a_bundle: Path) -> None:
    path = run_of_a_bundle / "bundles/onnx-f32/evidence/layers-onnxruntime-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "bundle_sha256": "of another"}))
    assert run_folder.read_run(run_of_a_bundle).bundles[0].layers == ()
    samples = run_folder.read_samples(run_of_a_bundle)
    assert set(samples) == {("bundles/onnx-f32", 0)}  # those of `all` carry another bundle's hash
    assert np.array_equal(samples["bundles/onnx-f32", 0]["wall_ns"], rows()["wall_ns"])


def test_a_sweep_is_read_from_its_report_and_a_broken_one_says_what_to_do(tmp_path: Path) -> None:
    report.write(sweep_run(), tmp_path / "sweep" / "report")
    assert run_folder.read_run(tmp_path / "sweep") == sweep_run()
    (tmp_path / "sweep/report/report.json").write_text("{")
    with pytest.raises(Broken, match="run the sweep again"):
        run_folder.read_run(tmp_path / "sweep")


def test_the_command_writes_the_folder_and_the_files_asked_for(run_of_a_bundle: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(run_of_a_bundle), "--markdown", str(tmp_path / "m.md"), "--perfetto", str(tmp_path / "t.json")])
    assert done.exit_code == 0 and "Candidates" in done.output and "page: " in done.output
    assert {p.name for p in (run_of_a_bundle / "report").iterdir()} == {"report.json", "report.md", "trace.json", "page.html"}
    assert (tmp_path / "m.md").read_text() == (run_of_a_bundle / "report/report.md").read_text()
    assert (tmp_path / "t.json").read_text() == (run_of_a_bundle / "report/trace.json").read_text()
    slices = [e for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if e.get("cat") == "sample"]
    assert len(slices) == 90 and sum(e["name"] == "preempted sample" for e in slices) == 13


def test_markdown_on_stdout_is_nothing_but_markdown(run_of_a_bundle: Path) -> None:
    done = CliRunner().invoke(command, [str(run_of_a_bundle), "--markdown", "-"])
    assert done.exit_code == 0 and done.output.startswith("# run\n") and not (run_of_a_bundle / "report").exists()
    both = CliRunner().invoke(command, [str(run_of_a_bundle), "--markdown", "-", "--json"])
    assert both.exit_code == 2 and "choose one" in both.output


def test_markdown_marks_the_front_and_every_estimate() -> None:
    run = sweep_run()
    lines = [line for line in report.as_markdown(run).splitlines() if line.startswith("| ")]
    head, align, *body = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len(body) == 90 and len(head) == len(align) == 9 and head[:4] == ["candidate", "front", "accuracy %", "p50 ms"]
    assert all((row[0].startswith("**") and row[0].endswith("**")) == bool(row[1]) for row in body)
    for row in body:
        for cell in (row[3], row[5]):
            assert cell.startswith(r"\~") == ("(estimate)" in cell)
    assert sum("(simulated)" in row[3] for row in body) == 15


@pytest.mark.parametrize(
    ("name", "written"),
    [("a|b", r"a\|b"), ("*b*", r"\*b\*"), ("<b>", r"\<b\>"), ("[x](y)", r"\[x\](y)"), ("~1", r"\~1"), ("https://x.org", r"https:\//x.org"), ("a\n# b", r"a \# b")],
)  # fmt: skip
def test_markup_in_a_name_is_escaped(name: str, written: str) -> None:
    assert markdown.escaped(name) == written


def events(samples: Any = None, **other: Any) -> list[dict[str, Any]]:
    measured = timing("onnxruntime 1.32.0", 0.4, 1, **metered(0.4), **other)
    row = dataclasses.replace(bundle_rows()[0], measurements=(measured,), layers=(layer_profile("onnxruntime 1"),))
    run = sample_run(bundles=(row,))
    return list(json.loads(report.trace(run, {(row.folder, 0): samples} if samples else None))["traceEvents"])


def test_a_trace_holds_phases_layers_counters_and_a_track_for_each_process() -> None:
    found = events(rows())
    named = {e["args"]["name"]: (e["pid"], e["tid"]) for e in found if e["ph"] == "M"}
    assert {"process 1", "process 2", "process 3", "one inference, layer after layer"} <= set(named)
    spans = {e["name"]: e["dur"] for e in found if e.get("cat") == "phase"}
    assert spans["load"] == 41_300.0 and spans["inferences"] == 3_000_000.0
    counters = {e["name"] for e in found if e["ph"] == "C"}
    assert counters == {"CPU pressure", "clock", "temperature", "power VDD_IN", "power VDD_CPU_GPU_CV", "power VDD_SOC"}
    layers = [e for e in found if e.get("cat") == "layer"]
    assert [e["name"] for e in layers] == [x.name for x in layer_profile("x").layers]
    assert sum(e["dur"] for e in layers) == pytest.approx(sum(x.time_us for x in layer_profile("x").layers))
    first = min(e["ts"] for e in found if e.get("cat") == "sample")
    assert first == 0.0  # each measurement has a clock that begins at 0


def test_a_trace_keeps_the_rules_of_the_format() -> None:
    """Threads have a number of their own over all processes, complete events of a thread do not overlap, counters are numbers."""
    for found in (events(rows()), events(rows(overlap=True)), events()):
        threads: dict[int, set[int]] = defaultdict(set)
        for e in found:
            assert e["ph"] in "XCMbe" and e["pid"] > 0 and e["tid"] > 0
            threads[e["tid"]].add(e["pid"])
            if e["ph"] == "C":
                assert all(isinstance(v, (int, float)) for v in e["args"].values())
        assert all(len(pids) == 1 for pids in threads.values())
        slices: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for e in found:
            if e["ph"] == "X":
                slices[e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
        for spans in slices.values():
            assert all(a[1] <= b[0] + 1e-2 for a, b in zip(sorted(spans), sorted(spans)[1:], strict=False))


def test_samples_that_queue_are_asynchronous_events_in_pairs() -> None:
    found = [e for e in events(rows(overlap=True)) if e.get("cat") == "sample"]
    assert {e["ph"] for e in found} == {"b", "e"}
    pairs: dict[str, list[str]] = defaultdict(list)
    for e in found:
        pairs[e["id"]].append(e["ph"])
    assert len(pairs) == 90 and all(p == ["b", "e"] for p in pairs.values())


def test_a_long_measurement_gives_the_first_samples_only() -> None:
    many = rows(count=perfetto.MOST // 2, processes=3)
    assert sum(e.get("cat") == "sample" for e in events(many)) == perfetto.MOST


def test_a_long_trace_is_thinned_without_losing_its_peaks() -> None:
    values = [(float(i), 0.0 if i != 7_777 else 9.0) for i in range(20_000)] + [(20_000.0, None)]
    kept = list(profile_charts.thinned(values))
    assert len(kept) <= 2 * profile_charts.PARTS and (7777.0, 9.0) in kept and [t for t, _ in kept] == sorted(t for t, _ in kept)
    assert list(profile_charts.thinned(values[:10])) == values[:10]
