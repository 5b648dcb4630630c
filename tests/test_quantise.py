"""Quantisation on a small classifier of real digits: the promise held on test data, a broken layer found and named."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit import examine, flow, qdq, registry
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.intake import Wishes
from edgekit.parts import Runtime
from edgekit.qdq import Choice
from edgekit.quantise import Trials
from edgekit.quantise_search import good_enough, quiet
from edgekit.verify import sqnr_db


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, trained on scikit-learn's digits; calibration.npz and test.npz, which share no image with its training."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    parts = {"train": slice(0, 1000), "calibration": slice(1000, 1300), "test": slice(1300, None)}
    for name in ("calibration", "test"):
        np.savez(folder / f"{name}.npz", image=images[parts[name]], labels=labels[parts[name]])

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 24, 3, padding=1), nn.Conv2d(24, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
            self.out = nn.Linear(32 * 4, 10)

        def forward(self, image):
            x = nn.functional.avg_pool2d(self.a(image.float() / 16).relu(), 2)
            x = self.c(self.b(x).relu()).relu()
            return self.out(nn.functional.avg_pool2d(x, 2).flatten(1))

    torch.manual_seed(0)
    net = Net()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 40)  # so that it settles, on whatever processor: rounding costs it little then
    x, y = torch.from_numpy(images[parts["train"]]), torch.from_numpy(labels[parts["train"]])
    for _ in range(40):
        for at in range(0, 1000, 50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[at : at + 50]), y[at : at + 50]).backward()
            optimiser.step()
        slower.step()
    dynamic = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 warns of its own code
        torch.onnx.export(net.eval(), (x[:2],), dynamo=True, input_names=["image"], output_names=["logits"], dynamic_shapes=dynamic,
                          external_data=False, verbose=False).save(folder / "model.onnx")  # fmt: skip
    return folder


def floats(digits: Path, out: Path, model: str = "model.onnx", calibration: str = "calibration.npz") -> Bundle:
    wishes = Wishes(test=str(digits / "test.npz"), calibration=str(digits / calibration))
    return flow.export(str(digits / model), "onnx", out, wishes)


def broken(digits: Path) -> str:
    """The same function with one channel of the second convolution 5,000 times as large; the name of that node."""
    model = onnx.load(digits / "model.onnx")
    weights = {t.name: t for t in model.graph.initializer}
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    for name, factor, at in ((convs[1].input[1], 5000, (3,)), (convs[1].input[2], 5000, (3,)), (convs[2].input[1], 1 / 5000, (slice(None), 3))):
        array = numpy_helper.to_array(weights[name]).copy()
        array[at] *= factor
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, digits / "broken.onnx")
    return str(convs[1].name)


def test_the_promise_is_kept_on_test_data_in_every_engine(digits: Path, tmp_path: Path):
    source = floats(digits, tmp_path / "f")
    assert source.manifest.model is not None and source.manifest.model.score > 0.95
    made = flow.calibrate(source.folder, "int8", tmp_path / "q")
    assert made.label == "onnx:int8"
    details = made.manifest.details["quantisation"]
    assert {row["form"].split()[1] for row in details["candidates"]} == {"U8S8", "S8S8"} and details["good"]
    assert all(row["latency_us"] > 0 for row in details["candidates"]) and details["slower"] == (details["int8_us"] >= details["float_us"])
    for engine in ("onnxruntime", "openvino"):
        found = examine.verify(made, engine)
        assert found.passed and found.sqnr_db is not None and found.sqnr_db > 15, found.failures
    vino = flow.export(made.folder, "openvino", tmp_path / "v")
    assert vino.label == "openvino:int8" and examine.verify(vino).passed


def test_integer_kernels_run_the_layers_and_the_pooling(digits: Path, tmp_path: Path):
    import onnxruntime as ort

    made = flow.calibrate(floats(digits, tmp_path / "f").folder, "minmax", tmp_path / "q")
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "seen.onnx"), 4
    ort.InferenceSession(str(made.graph()), options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "seen.onnx").graph.node]
    assert kinds.count("QLinearConv") == 5 and not {"Conv", "FusedConv", "AveragePool", "QLinearAveragePool"} & set(kinds), kinds


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse", "symmetric"])
def test_each_method_makes_a_bundle_of_its_own(digits: Path, tmp_path: Path, method: str):
    made = flow.calibrate(floats(digits, tmp_path / "f").folder, method, tmp_path / "q")
    assert made.label == f"onnx-{method}:int8" and examine.verify(made, "onnxruntime").passed
    assert flow.calibrate(tmp_path / "f", method, tmp_path / "again").sha256 != ""
    graphs = [onnx.load(b.graph()).SerializeToString(deterministic=True) for b in (made, open_bundle(tmp_path / "again"))]
    assert graphs[0] == graphs[1]  # the same samples, the same file


def test_the_symmetric_form_is_what_tensorrt_takes(digits: Path, tmp_path: Path):
    """Zero points 0, int8 alone, no DequantizeLinear of int32 biases."""
    made = flow.calibrate(floats(digits, tmp_path / "f").folder, "symmetric", tmp_path / "q")
    onnx.checker.check_model(str(made.graph()), full_check=True)
    graph = onnx.load(made.graph()).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    linear = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(linear) > 8
    for node in linear:
        zero = arrays[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any(), node.name
        assert node.op_type == "QuantizeLinear" or arrays.get(node.input[0], np.zeros(0, np.int8)).dtype == np.int8


def test_a_broken_layer_is_found_named_and_given_back(digits: Path, tmp_path: Path):
    name = broken(digits)
    source = floats(digits, tmp_path / "f", "broken.onnx")
    plain = examine.verify(flow.calibrate(source.folder, "minmax", tmp_path / "m"), "onnxruntime")
    made = flow.calibrate(source.folder, "int8", tmp_path / "q")
    found = examine.verify(made, "onnxruntime")
    assert plain.score is not None and found.score is not None and source.manifest.model is not None
    assert plain.score < source.manifest.model.score - 0.1  # it is broken indeed
    assert found.passed and found.score >= source.manifest.model.score - 0.01, found.failures
    details = made.manifest.details["quantisation"]
    assert name in details["given_back"] and name in details["float_nodes"]
    assert details["sensitivity"] == sorted(details["sensitivity"], key=lambda row: row["sqnr_db"])
    assert not (tmp_path / "q.search.json").exists()


def test_a_search_goes_on_where_it_was_stopped(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken(digits)
    source = floats(digits, tmp_path / "f", "broken.onnx")
    built: list[str] = []
    real = qdq.quantised

    def counted(model, ranges, choice):
        built.append(choice.name)
        if len(built) == 5 and stop:
            raise KeyboardInterrupt
        return real(model, ranges, choice)

    monkeypatch.setattr(qdq, "quantised", counted)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        flow.calibrate(source.folder, "int8", tmp_path / "q")
    assert not (tmp_path / "q").exists() and len(json.loads((tmp_path / "q.search.json").read_text())) == 4
    stop, first = False, len(built)
    resumed = flow.calibrate(source.folder, "int8", tmp_path / "q")
    after = len(built) - first
    built.clear()
    fresh = flow.calibrate(source.folder, "int8", tmp_path / "fresh")
    first_half, whole = (b.manifest.details["quantisation"] for b in (resumed, fresh))
    for key in ("form", "sqnr_db", "same_answers"):  # times differ from run to run, and near ties of kernels with them
        assert [row[key] for row in first_half["candidates"]] == [row[key] for row in whole["candidates"]]
    if first_half["form"] == whole["form"]:
        assert len(built) == after + 4 and (resumed.folder / "model.onnx").read_bytes() == (fresh.folder / "model.onnx").read_bytes()


def test_calibration_data_that_is_not_like_the_test_data_is_noticed(digits: Path, tmp_path: Path):
    with np.load(digits / "calibration.npz") as packed:
        np.savez(digits / "dim.npz", image=packed["image"] // 4, labels=packed["labels"])
    usual = flow.calibrate(floats(digits, tmp_path / "f").folder, "minmax", tmp_path / "q")
    dim = flow.calibrate(floats(digits, tmp_path / "df", calibration="dim.npz").folder, "minmax", tmp_path / "dq")
    assert not [n for n in usual.manifest.details["quantisation"]["notes"] if "not like the test data" in n]
    assert [n for n in dim.manifest.details["quantisation"]["notes"] if "not like the test data" in n]


def test_states_of_a_loop_stay_float_and_the_error_is_that_after_all_steps(small_run: Path, tmp_path: Path):
    source = flow.export(small_run / "train" / "t4", "onnx", tmp_path / "f")
    with quiet():
        trials = Trials(source)
        trial = trials.trial(Choice("minmax"))
    carried = {out for p in source.manifest.program.graph_phases() for out in p.carry}
    made = {o for n in trials.models["main"].graph.node if n.name in trials.always_float for o in n.output}
    assert carried and carried <= made
    quantised = trials.graphs(Choice("minmax"))["main"]
    producers = {o: n.op_type for n in quantised.graph.node for o in n.output}
    assert not {producers[c] for c in carried} & {"QuantizeLinear", "DequantizeLinear"}
    assert 0 < trial.sqnr_db < 200 and trial.same_answers is not None  # of the logits after four steps


def gated() -> onnx.ModelProto:
    """x / 2, conv, x * sigmoid(x), conv, 3 x + 1: what only sets the scale of an answer stands at both ends, a gate within."""
    helper, rng = onnx.helper, np.random.default_rng(0)
    arrays = {"half": np.float32(0.5), "three": np.float32(3), "one": np.float32(1),
              **{n: rng.normal(size=(4, 4, 3, 3)).astype(np.float32) / 6 for n in ("v", "w")}}  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["a"], name="before"), helper.make_node("Conv", ["a", "v"], ["b"], name="first", pads=[1] * 4),
        helper.make_node("Sigmoid", ["b"], ["g"], name="gate"), helper.make_node("Mul", ["b", "g"], ["c"], name="silu"),
        helper.make_node("Conv", ["c", "w"], ["d"], name="second", pads=[1] * 4), helper.make_node("Mul", ["d", "three"], ["e"], name="scaled"),
        helper.make_node("Add", ["e", "one"], ["y"], name="moved"),
    ]  # fmt: skip
    shapes = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ("batch", 4, 8, 8)) for n in ("x", "y")]
    made = helper.make_graph(nodes, "gated", shapes[:1], shapes[1:], [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def rounded_by(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes whose answers are rounded."""
    producers = {o: n.name for n in model.graph.node for o in n.output}
    return {producers[n.input[0]] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in producers}


def test_what_does_not_lie_between_weights_stays_float_and_with_weights_only_the_gates_too(tmp_path: Path):
    model = gated()
    assert qdq.around_weights(model) == {"before", "scaled", "moved"}
    onnx.save(model, tmp_path / "gated.onnx")
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(1).normal(size=(40, 4, 8, 8)).astype(np.float32))
    source = flow.export(str(tmp_path / "gated.onnx"), "onnx", tmp_path / "f", Wishes(calibration=str(tmp_path / "samples.npz")))
    with quiet():
        trials = Trials(source)
        every, lean = (trials.graphs(Choice("minmax", only_weights=o))["main"] for o in (False, True))
    # What goes into a convolution is rounded, whoever makes it; what it makes is, so that an engine runs it in integers.
    assert rounded_by(every) == {"before", "first", "gate", "silu", "second"} and rounded_by(lean) == {"before", "first", "silu", "second"}
    assert Choice("minmax", only_weights=True).name == "minmax U8S8 (weights only)"


def test_average_pooling_becomes_a_depthwise_convolution_of_the_same_values(digits: Path):
    import onnxruntime as ort

    raw = (digits / "model.onnx").read_bytes()
    made = qdq.prepared(raw)
    assert "AveragePool" in [n.op_type for n in onnx.load_from_string(raw).graph.node]
    assert "AveragePool" not in [n.op_type for n in made.graph.node]
    x = np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8)).astype(np.uint8)
    a, b = (ort.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {"image": x})[0] for m in (raw, made.SerializeToString()))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_signal_to_noise_is_its_definition():
    rng = np.random.default_rng(0)
    y = rng.normal(size=1000).astype(np.float32)
    assert sqnr_db(y, y) == 200
    assert sqnr_db(y, y * 1.1) == pytest.approx(20, abs=1e-3)
    assert sqnr_db(y, np.zeros_like(y)) == pytest.approx(0)
    assert sqnr_db(3 * y, 3 * y * 1.01) == pytest.approx(sqnr_db(y, y * 1.01), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "came without data to calibrate with; export the model again with --calibration"),
        (["--calibration", "few.npz"], "4 samples are too few to calibrate with"),
        (["--calibration", "wrong.npz"], "lacks image; it holds pixels"),
        (["--calibration", "shape.npz"], "the model takes uint8 ['batch', 1, 8, 8]"),
        (["--test", "shape.npz"], "lacks labels"),
        (["--test", "absent.npz"], "is no .npz of arrays"),
    ],
)
def test_bad_data_is_one_sentence(digits: Path, tmp_path: Path, arguments: list[str], says: str):
    np.savez(tmp_path / "few.npz", image=np.zeros((4, 1, 8, 8), np.uint8))
    np.savez(tmp_path / "wrong.npz", pixels=np.zeros((40, 1, 8, 8), np.uint8))
    np.savez(tmp_path / "shape.npz", image=np.zeros((40, 1, 9, 8), np.uint8))
    command = [sys.executable, "-m", "edgekit", "export", str(digits / "model.onnx"), "--format", "onnx:int8", "--out", "q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and says in " ".join(done.stderr.split()) and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "q").exists()


def test_a_model_without_layers_to_quantise_is_told_so(tmp_path: Path):
    from onnx import TensorProto, helper

    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4])] for n in "xy"]
    graph = helper.make_graph([helper.make_node("LpNormalization", ["x"], ["y"])], "g", *values)
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    np.savez(tmp_path / "c.npz", x=np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    source = flow.export(str(tmp_path / "m.onnx"), "onnx", tmp_path / "f", Wishes(calibration=str(tmp_path / "c.npz")))
    with pytest.raises(EdgekitError, match="no convolution or matrix product with constant weights"):
        flow.calibrate(source.folder, "int8", tmp_path / "q")
    assert not (tmp_path / "q").exists()


def test_a_score_is_the_share_of_labels(digits: Path, tmp_path: Path):
    """Against plain numpy; the labels are read for the score alone."""
    bundle = floats(digits, tmp_path / "f")
    with np.load(digits / "test.npz") as packed, registry.find(Runtime, "onnxruntime").open(bundle) as session:
        right = (session.run({"image": packed["image"]})["logits"].argmax(1) == packed["labels"]).mean()
    assert bundle.manifest.model is not None and bundle.manifest.model.score == pytest.approx(float(right))
    assert "the first 32 and 3 samples of calibration.npz" in bundle.manifest.golden.inputs_from


def test_good_enough_asks_for_both():
    from edgekit.quantise import Trial

    choice = Choice("minmax")
    assert good_enough(Trial(choice, 25, 0.995), 0.01) and good_enough(Trial(choice, 25, None), 0.01)
    assert not good_enough(Trial(choice, 25, 0.98), 0.01) and not good_enough(Trial(choice, 15, 1.0), 0.01)


def test_a_deploy_of_ones_own_model_makes_times_and_scores_every_form(digits: Path, tmp_path: Path):
    command = [sys.executable, "-m", "edgekit", "deploy", str(digits / "model.onnx"), "--out", str(tmp_path / "run"), "--seconds", "0.05",
               "--test", str(digits / "test.npz"), "--calibration", str(digits / "calibration.npz"), "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {b["label"]: b for b in json.loads(done.stdout)["bundles"]}
    assert set(rows) == {"onnx:f32", "onnx:int8", "openvino:f32", "openvino:bf16", "openvino:int8"}
    assert all(b["verifications"][0]["score"] > 0.95 and b["measurements"] for b in rows.values())
    assert (tmp_path / "run" / "report" / "page.html").is_file()


def test_a_network_of_several_steps_in_int8_runs_in_openvino_with_its_states_outside(small_run: Path, tmp_path: Path):
    """OpenVINO 2026.4 cannot compile quantised graphs with states of its own; edgekit keeps them then."""
    made = flow.export(small_run / "train" / "t4", "openvino:int8", tmp_path / "t4")
    found = examine.verify(made, "openvino", 0)
    assert found.passed and found.sqnr_db is not None and found.sqnr_db > 10


def test_what_lies_within_half_a_step_of_a_range_is_not_outside_of_it():
    from onnx import TensorProto, helper
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("x", "y")]
    model = helper.make_model(helper.make_graph([helper.make_node("Neg", ["x"], ["y"], name="n")], "g", value[:1], value[1:]))
    ends = {"x": (np.float32(0), np.float32(1)), "y": (np.float32(-1), np.float32(0))}
    ranges = TensorsData(CalibrationMethod.MinMax, {n: (np.asarray(lo), np.asarray(hi)) for n, (lo, hi) in ends.items()})
    found = qdq.clip_rates(model, ranges, [{"x": np.array([0.5, 1.0, 1.0 + 0.4 / 255, 1.0 + 0.6 / 255], np.float32)}])
    assert found == {"x": 0.25, "y": 0.25}


def test_copies_of_a_shared_bias_take_no_other_tensors_name(tmp_path: Path):
    """onnxruntime's quantiser calls the copies of 'val_4' val_40, val_41, ...: here those are tensors of the graph."""
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    shape = ["batch", 4, 6, 6]
    nodes, last = [], "x"
    for i in range(4):
        nodes.append(helper.make_node("Conv", [last, f"w{i}", "val_4"], [f"val_4{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]))
        last = f"val_4{i}"
    weights = [numpy_helper.from_array(rng.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6, f"w{i}") for i in range(4)]
    bias = numpy_helper.from_array(rng.standard_normal(4).astype(np.float32), "val_4")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", last)]
    raw = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [*weights, bias]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path, inputs, values = tmp_path / "m.onnx", tmp_path / "x.npz", rng.standard_normal((40, 4, 6, 6)).astype(np.float32)
    onnx.save(raw, path)
    np.savez(inputs, x=values)
    made = flow.export(str(path), "onnx:int8", tmp_path / "int8", wishes=Wishes(example=str(inputs), calibration=str(inputs)))
    graph = onnx.load(made.folder / made.manifest.graphs["main"].file).graph
    assert any(n.op_type == "DequantizeLinear" and "val_4" in n.output[0] for n in graph.node)
    assert examine.verify(made, "onnxruntime", 0).passed
