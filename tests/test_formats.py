"""Every format of one trained network against the eager network, over all test images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgekit import examine, flow, registry, run_folder, verify
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import Broken, EdgekitError, NotEqual
from edgekit.files import load_tensors
from edgekit.measurement import Measurement
from edgekit.parts import Calibrator, Exporter, Runtime
from edgekit.process_run import Request


@pytest.fixture(scope="module")
def bundles(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    out = tmp_path_factory.mktemp("formats")
    trained = flow.load_trained(small_run)
    made: dict[str, Bundle] = {}
    for wish in ("openvino", "nir:int8"):
        for step in flow.route(wish):
            made[step.label] = flow.make(step, trained, made, out / step.label.replace(":", "-"))
    return made


@pytest.mark.parametrize(
    ("label", "runtime"),
    [("onnx:f32", "onnxruntime"), ("openvino:f32", "openvino"), ("nir:f32", "nir"), ("nir:f32", "reference")],
)
def test_float_formats_flip_no_spike_and_keep_the_logits_on_every_test_image(
    small_run: Path, bundles: dict[str, Bundle], label: str, runtime: str
) -> None:
    trained = flow.load_trained(small_run)
    images = trained.data.test_images  # type: ignore[attr-defined]
    golden = trained.answers(images)  # type: ignore[attr-defined]
    assert len(images) > 300
    with registry.find(Runtime, runtime).open(bundles[label], probes=True) as session:
        answers = session.run({"image": images})
    found = verify.compare(bundles[label], golden, answers)
    assert found["failures"] == ()
    assert found["spikes_compared"] == len(images) * (8 * 64 + 12 * 16 + 24)
    assert found["spike_flips"] == found["spike_flips_near"]
    assert found["output_max_abs"] <= 1e-5
    assert 0 < golden.probes["conv1"].mean() < 1


def test_the_score_through_a_runtime_is_the_trained_networks(bundles: dict[str, Bundle]) -> None:
    found = verify.verify(bundles["onnx:f32"], registry.find(Runtime, "onnxruntime"))
    assert found.passed
    assert found.score == found.score_reference
    assert found.score_samples == bundles["onnx:f32"].manifest.model.score_samples > 300
    assert found.score is not None and found.score > 0.8


def test_integers_are_exact_in_the_file_and_in_the_reference(bundles: dict[str, Bundle]) -> None:
    for runtime in ("nir", "reference"):
        found = verify.verify(bundles["nir:int8"], registry.find(Runtime, runtime))
        assert found.passed, found.failures
        assert found.exact_mismatches == 0


def test_the_onnx_file_is_one_file_of_the_promised_opset_with_named_inner_spikes(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["onnx:f32"]
    assert set(bundle.manifest.files) == {"model.onnx", "golden.safetensors", "bom.json"}
    proto = onnx.load(bundle.graph())
    assert [o.version for o in proto.opset_import if o.domain == ""] == [20]
    assert [o.name for o in proto.graph.output] == ["logits"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {m.key for m in proto.metadata_props} == {"edgekit", "checkpoint_sha256"}
    assert {n.op_type for n in proto.graph.node} & {"Greater", "Cast"} == {"Greater", "Cast"}
    inner = {v.name for v in proto.graph.value_info}
    assert set(bundle.manifest.probes) <= inner


def test_exporting_again_gives_the_same_graph(small_run: Path, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    again = flow.export(small_run, "onnx", tmp_path / "again")
    assert again.manifest.files["model.onnx"] == bundles["onnx:f32"].manifest.files["model.onnx"]


class _Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        self.seen += image.to(torch.float32).mean()
        return (image.to(torch.float32).flatten(1) + self.seen,)


def test_a_module_that_changes_its_buffers_is_refused_not_frozen(small_run: Path, tmp_path: Path) -> None:
    trained = flow.load_trained(small_run)
    trained.module = lambda graph: _Counting()  # type: ignore[method-assign]
    with pytest.raises(EdgekitError, match="changes its buffers"):
        registry.find(Exporter, "onnx").export(trained, tmp_path / "o", {"opset": 20})
    assert not (tmp_path / "o").exists()


def test_an_opset_that_torch_does_not_write_is_refused(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="opset 13 was asked for"):
        registry.find(Exporter, "onnx").export(flow.load_trained(small_run), tmp_path / "o", {"opset": 13})


def test_verify_finds_a_flipped_spike_a_moved_logit_and_a_wrong_integer(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["onnx:f32"]
    golden = bundle.golden()
    answers = {**golden.outputs, **golden.probes}
    assert verify.compare(bundle, golden, answers)["failures"] == ()
    flipped = {**answers, "conv1": golden.probes["conv1"].copy()}
    flipped["conv1"][2, 0, 3, 1] ^= 1
    found = verify.compare(bundle, golden, flipped)
    assert "the first is conv1[2, 0, 3, 1]" in found["failures"][0]
    assert (found["spike_flips"], found["spike_flips_near"], found["images_with_flips"]) == (1, 0, 1)
    position = int(np.ravel_multi_index((2, 0, 3, 1), golden.probes["conv1"].shape))
    near = dataclasses.replace(golden, near={**golden.near, "conv1": np.array([position])})
    assert verify.compare(bundle, near, flipped)["failures"] == ()  # decided by rounding: counted and named, not failed
    assert verify.compare(bundle, near, flipped)["flips"] == ("conv1[2, 0, 3, 1]",)
    moved = {**answers, "logits": golden.outputs["logits"] + np.float32(1e-3)}
    assert "'logits' differs by 0.001" in verify.compare(bundle, golden, moved)["failures"][0]
    integer = bundles["nir:int8"]
    golden = integer.golden()
    wrong = {n: a.copy() for n, a in golden.exact.items()}
    wrong["logits"][0, 0] = np.nextafter(wrong["logits"][0, 0], np.float32(9e9))
    assert verify.compare(integer, golden, wrong)["exact_mismatches"] == 1


def test_a_bundle_on_the_wrong_runtime_says_where_it_runs(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(EdgekitError, match="runtime 'nir' opens nir, but .* holds onnx; it runs on: .*onnxruntime, openvino"):
        examine.verify(bundles["onnx:f32"], "nir")


def test_a_graph_that_is_no_graph_is_one_sentence(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    for label, runtime in (("onnx:f32", "onnxruntime"), ("openvino:f32", "openvino"), ("nir:f32", "nir")):
        fake = tmp_path / label.replace(":", "-")
        fake.mkdir()
        bundle = bundles[label]
        (fake / bundle.manifest.graphs['main'].file).write_bytes(b"not a graph")
        with pytest.raises(Broken, match=str(fake)), registry.find(Runtime, runtime).open(dataclasses.replace(bundle, folder=fake)) as session:
            session.run({"image": np.zeros((1, 1, 8, 8), np.uint8)})


def test_profile_refuses_what_was_not_verified_and_measures_what_was(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["openvino:f32"]
    with pytest.raises(EdgekitError, match="no figure is given for a wrong answer"):
        examine.profile(bundle, Request("openvino"))
    assert examine.verify(bundle, "openvino", 0).passed
    found = examine.profile(bundle, Request("openvino", seconds=0.2, processes=2))
    assert found.samples >= 100 and found.pinned
    assert 0 < found.latency_min_ms <= found.latency_p50_ms <= found.latency_p90_ms
    assert found.load_ms > found.latency_p50_ms
    assert found.memory_peak_mb > 20
    assert found.energy_mj is None and found.energy_reason
    stored = open_bundle(bundle.folder).read_evidence("profile-openvino-1")
    assert stored is not None and Measurement.from_json(stored) == found
    rows = load_tensors(bundle.folder / "evidence" / "samples-openvino-1.safetensors")
    ms = [rows["wall_ns"][rows["process"] == i] / 1e6 for i in range(2)]
    assert sum(map(len, ms)) == found.samples and np.isclose(np.median([np.median(x) for x in ms]), found.latency_p50_ms)


def test_the_way_to_each_format_is_found_from_what_the_parts_say() -> None:
    ways = {wish: [s.label for s in flow.route(wish)] for wish in ("onnx", "openvino", "nir", "nir:int8", "lava")}
    assert ways["onnx"] == ["onnx:f32"]
    assert ways["openvino"] == ["onnx:f32", "openvino:f32"]
    assert ways["nir"] == ["nir:f32"]
    assert ways["lava"] == ["nir:f32", "nir:int8", "lava:int8"]
    with pytest.raises(EdgekitError, match="no format 'onxx'; there are: .*onnx"):
        flow.route("onxx")


def test_a_bundle_that_fails_is_told_at_the_end_and_not_timed(small_run: Path, tmp_path: Path) -> None:
    """One format wrong, the other right: the right one is finished, the wrong one has no figure, the flow ends in NotEqual."""
    trained = flow.load_trained(small_run)
    out = tmp_path / "run"
    flow.make(flow.route("onnx")[0], trained, {}, out / "bundles" / "onnx-f32").write_evidence(
        "verify-onnxruntime",
        {**verify.Verification("onnxruntime", 1.0, 1.0, 0, None, None, 0, None, None, None, 0, ("'logits' differs",)).to_json()},
    )
    bundles = flow.deploy(small_run, out, ("onnx", "openvino"), seconds=0.05, processes=1, score_limit=0)
    with pytest.raises(NotEqual, match=r"onnx:f32 on onnxruntime: 'logits' differs"):
        flow.require_all(bundles, out)
    evidence = {b.label: {p.name for p in (b.folder / "evidence").iterdir()} for b in bundles}
    assert not any(name.startswith("profile") for name in evidence["onnx:f32"])
    assert {"verify-openvino.json", "profile-openvino-1.json", "profile-openvino-all.json"} <= evidence["openvino:f32"]


def test_a_format_that_cannot_say_the_model_is_named_and_the_others_are_made(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrator = type(registry.load(Calibrator, "loihi"))

    def refuse(*_: object) -> Bundle:
        raise EdgekitError("layer 'conv1' does not fit")

    monkeypatch.setattr(calibrator, "calibrate", refuse)
    bundles = flow.deploy(small_run, tmp_path, ("onnx", "lava"), seconds=0.05, processes=1, score_limit=0, allow_missing=True)
    assert [b.label for b in bundles] == ["onnx:f32", "nir:f32"]
    with pytest.raises(EdgekitError, match=r"lava:int8: it is made from nir:int8.*layer 'conv1' does not fit.*there are: onnx:f32, nir:f32"):
        flow.require_all(bundles, tmp_path)
    assert "nir:int8 was not made: layer 'conv1' does not fit" in run_folder.read_run(tmp_path).notes


def test_what_is_no_spiking_network_of_one_timestep_is_not_deployed_to_nir_and_lava_unasked(small_run):
    stages = {int(p.name[1:]): p for p in (small_run / "train").glob("t[0-9]*") if p.is_dir() and p.name[1:].isdigit()}
    assert flow.usual_formats(str(small_run), False) == ("onnx", "openvino", "nir", "lava")
    for steps, folder in stages.items():
        assert ("lava" in flow.usual_formats(str(folder), False)) == (steps == 1)
    assert max(stages) > 1
    assert flow.usual_formats("model.onnx", False) == ("onnx", "openvino")
