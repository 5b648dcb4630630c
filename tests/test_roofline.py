"""Estimates for devices follow their formulas, say what went in, narrow with measurements, and never pass silently over a gap."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time

import numpy as np
import pytest
from onnx import helper
from toy_bundles import bundle, graph, tensor

from edgekit import flow, registry, roofline
from edgekit import target as targets
from edgekit.counting import Costs, PhaseCosts, costs_of, one_sample
from edgekit.counting.graph import GraphCosts
from edgekit.counting.nodes import NodeCosts
from edgekit.device_estimate import DeviceEstimate
from edgekit.estimate import count, price, prices_of
from edgekit.measurement import Load, Measurement
from edgekit.parts import Runtime
from edgekit.program import Phase, Program, value
from edgekit.recipe import fill
from edgekit.roofline import Measured, compared, efficiency, error, estimate, limits
from edgekit.roofline.efficiency import Known, fit
from edgekit.roofline.probe import Probe
from edgekit.signature import Signature

MIB = 1 << 20


def costs(macs: int = 500_000, *, precision: str = "f32", weights: int = 4000, moved: int = 9000, edge: int = 1000, live: int = 2000, calls: int = 1,
          inside: int | None = None, more: int = 0) -> Costs:  # fmt: skip
    """A program of one product node (and one other, where there are `more` operations)."""
    node = NodeCosts("n", "Conv", precision, macs, macs if inside is None else inside, 2 * macs, moved - weights - 500, weights, 500)
    other = (NodeCosts("o", "Relu", "f32", 0, 0, more, 0, 0, 0),) if more else ()
    made = GraphCosts((node, *other), edge // 2, edge - edge // 2, weights, live, {})
    return Costs("inference", (PhaseCosts("main", calls, made),), 0, ())


def device(text: str = "", **figures: float) -> targets.Target:
    units = {"compute": "GOP/s", "bandwidth": "GB/s", "memory": "MiB", "on_chip": "KiB", "flash": "KiB", "power": "W", "launch": "us", "cores": "cores"}
    rows = [
        f'[[figures]]\nname = "{n}"\nvalue = {float(v)}\nunit = "{next(u for k, u in units.items() if n.startswith(k))}"\nsource = "data sheet, page 4"\ngrade = "specified"\n'
        for n, v in figures.items()
    ]
    head = "" if "kind" in text else 'kind = "gpu"\n'
    given = text + ("" if "runtimes" in text else 'runtimes = ["onnxruntime"]\n') + ("" if "precisions" in text else 'precisions = ["f32"]\n')
    return targets.read(f'label = "d"\n{head}{given}meter = "none"\n' + "\n".join(rows), "d", "d.toml")


def ms(found: DeviceEstimate) -> tuple[float, float, float]:
    assert found.latency_ms_low is not None, found.latency_reason
    assert found.latency_ms is not None
    assert found.latency_ms_high is not None
    return found.latency_ms_low, found.latency_ms, found.latency_ms_high


def test_where_arithmetic_limits_low_is_operations_over_the_peak():
    """10^6 operations at 1000 GOP/s take 1 us; 5000 bytes at 100 GB/s take 0.05 us."""
    low, mid, high = ms(estimate(costs(), device(compute_f32=1000, bandwidth=100), "f32"))
    assert low == pytest.approx(1e-3)
    most_overhead = (100 + 20) / 1e3  # assumed for a GPU: a call and one node
    assert high == pytest.approx(1e-3 / 0.05 + most_overhead)
    assert mid == pytest.approx(math.sqrt(1e-3 / 0.7 * high))


def test_where_memory_limits_low_is_bytes_over_the_bandwidth():
    """8 MB of weights and 1 kB of inputs and outputs at 1 GB/s; nothing is known of what stays on the chip."""
    found = estimate(costs(weights=8_000_000, moved=9_000_000), device(compute_f32=1e6, bandwidth=1), "f32")
    assert ms(found)[0] == pytest.approx(8_001_000 / 1e9 * 1e3)
    assert found.bytes_moved == 9_000_000
    assert any("no on-chip memory" in n for n in found.notes)


def test_weights_that_fit_the_chip_are_not_read_again():
    big = device(compute_f32=1e6, bandwidth=1, on_chip_memory=1024)
    small = device(compute_f32=1e6, bandwidth=1, on_chip_memory=100)
    model = costs(weights=500_000, moved=900_000, calls=3)
    assert ms(estimate(model, big, "f32"))[0] == pytest.approx(3 * 1000 / 1e6)  # inputs and outputs of three runs
    assert ms(estimate(model, small, "f32"))[0] == pytest.approx(3 * 501_000 / 1e6)
    assert "fit the chip" in estimate(model, big, "f32").inputs["bytes from memory"]
    cpu = device('kind = "cpu"\n', compute_f32=1e6, bandwidth=1, on_chip_memory=1024)
    assert "0 B" in estimate(model, cpu, "f32").inputs["bytes from memory"]  # its inputs lie in the cache too


def test_products_on_padding_are_in_the_count_but_not_in_the_least_time():
    found = estimate(costs(inside=250_000), device(compute_f32=1000, bandwidth=100), "f32")
    assert ms(found)[0] == pytest.approx(0.5e-3)
    assert found.operations == 1_000_000


def test_low_mid_and_high_are_in_order_and_everything_missing_has_a_reason():
    """Over all targets that edgekit brings, all precisions, and models of every size."""
    models = [costs(), costs(10**10, weights=10**8, moved=3 * 10**8, live=10**7), costs(3, weights=12, moved=600), costs(precision="int8"), costs(0)]
    given = none = 0
    for name in targets.names():
        device_ = targets.load(name)
        if device_.here or device_.probed:
            continue
        for model in models:
            for precision in ("f32", "f16", "bf16", "int8"):
                found = estimate(model, device_, precision)
                for three, reason in (
                    ((found.latency_ms_low, found.latency_ms, found.latency_ms_high), found.latency_reason),
                    ((found.energy_mj_low, found.energy_mj, found.energy_mj_high), found.energy_reason),
                ):
                    assert (None in three) == bool(reason), (name, precision, found)
                    if None not in three:
                        low, mid, high = (x for x in three if x is not None)
                        assert 0 <= low <= mid <= high < math.inf
                        given += 1
                    none += None in three
                if not found.latency_reason:
                    assert all(text.endswith(")") and "(" in text for text in found.inputs.values()), found.inputs  # each with its grade
                assert found.kind == "spec-estimate"
                assert fill(DeviceEstimate, json.loads(json.dumps(dataclasses.asdict(found))), "estimate") == found
    assert given > 100
    assert none > 100


def test_a_precision_that_a_target_has_no_peak_for_gives_no_figure():
    found = estimate(costs(precision="int8"), device(compute_f32=1000, bandwidth=100), "int8")
    assert found.latency_ms is None
    assert found.latency_reason.startswith("no peak for int8")
    assert "peaks that are known: f32" in found.latency_reason
    assert found.energy_reason.startswith("no time, so no energy")


def test_an_int8_model_is_not_estimated_as_float():
    found = estimate(costs(precision="int8"), device(compute_f32=1000, compute_int8=4000, bandwidth=100), "f32")
    assert found.latency_reason == "the model multiplies in int8; it is estimated at int8, not at f32"


def test_a_float_graph_at_another_precision_is_said_to_be_so():
    target = device(compute_f32=1000, compute_f16=2000, compute_int8=4000, bandwidth=1)
    model = costs(weights=8_000_000, moved=9_000_000)
    times = {p: ms(estimate(model, target, p))[0] for p in ("f32", "f16", "int8")}
    assert times["f32"] == pytest.approx(2 * times["f16"])
    assert times["f32"] == pytest.approx(4 * times["int8"])
    assert "as if all of it were in int8" in estimate(model, target, "int8").notes[0]
    assert not any("as if" in n for n in estimate(model, target, "f32").notes)


def test_tf32_may_make_f32_faster_and_the_range_holds_both():
    plain, faster = (ms(estimate(costs(10**9), device(compute_f32=1000, bandwidth=100, **more), "f32")) for more in ({}, {"compute_tf32": 8000}))
    assert faster[0] == pytest.approx(plain[0] / 8)
    assert faster[2] == plain[2]


def test_a_model_that_does_not_fit_is_refused():
    target = device('kind = "mcu"\n', compute_f32=1, bandwidth=1, memory=1, flash=100)
    assert estimate(costs(weights=MIB), target, "f32").latency_reason == "it does not fit: weights of 1,024 KiB, and flash of 100 KiB"
    assert estimate(costs(live=2 * MIB), target, "f32").latency_reason == "it does not fit: it needs 2,048 KiB, and memory is 1,024 KiB"
    assert estimate(costs(), target, "f32").latency_ms is not None


def test_launches_that_a_target_states_are_counted_and_others_are_assumed_and_said_so():
    told = estimate(costs(calls=10), device(compute_f32=1000, bandwidth=100, launch_overhead=7), "f32")
    assert ms(told)[2] == pytest.approx(10 * 1e-3 / 0.05 + (10 * 100 + 10 * 7) / 1e3)
    assert told.inputs["launch_overhead"] == "7 us; data sheet, page 4 (specified)"
    assert told.inputs["call_overhead"].endswith("(assumed)")
    assert told.inputs["efficiency"].endswith("(assumed)")
    assert told.inputs["compute_f32"] == "1000 GOP/s; data sheet, page 4 (specified)"


def test_one_thread_has_its_share_of_the_cores():
    target = device('kind = "cpu"\n', on_chip_memory=1024, compute_f32=1000, bandwidth=100, cores=4)
    assert ms(estimate(costs(10**9), target, "f32", threads=1))[0] == pytest.approx(4 * ms(estimate(costs(10**9), target, "f32"))[0])
    unknown = device('kind = "cpu"\n', compute_f32=1000, bandwidth=100)
    assert any("all cores" in n for n in estimate(costs(), unknown, "f32", threads=1).notes)


def test_another_runtime_may_use_another_part_of_the_device():
    target = device('kind = "gpu"\nruntimes = ["tensorrt", "onnxruntime"]\nruns_on = {onnxruntime = "cpu"}\n', compute_f32=1000, compute_f32_cpu=10, bandwidth=100)
    gpu, cpu = (ms(estimate(costs(10**9), target, "f32", runtime=r))[0] for r in ("tensorrt", "onnxruntime"))
    assert cpu == pytest.approx(100 * gpu)


def test_energy_lies_between_idle_power_and_the_highest():
    model = costs(10**9)
    found = estimate(model, device(compute_f32=1000, bandwidth=100, power_idle=2, power_typical=5, power_max=10), "f32")
    low, mid, high = ms(found)
    assert found.energy_mj_low == pytest.approx(2 * low)
    assert found.energy_mj == pytest.approx(5 * mid)
    assert found.energy_mj_high == pytest.approx(10 * high)


def test_without_idle_power_the_least_energy_is_arithmetic_and_memory_in_7_nm():
    found = estimate(costs(10**9, weights=8_000_000, moved=10**7), device(compute_f32=1000, bandwidth=100, power_max=10), "f32")
    assert found.energy_mj_low == pytest.approx((1.31e9 + 8_001_000 * 31.25) / 1e9)
    assert found.energy_mj == pytest.approx(math.sqrt(found.energy_mj_low * (found.energy_mj_high or 0)))


def test_without_power_and_prices_there_is_no_energy():
    found = estimate(costs(), device(compute_f32=1000, bandwidth=100), "f32")
    assert found.energy_mj is None
    assert found.energy_reason.startswith("no power figure")


def test_a_cpu_that_states_no_power_takes_what_so_many_cores_take():
    """4 cores at 0.1, 4 and 30 W; a power that is stated is believed."""
    model = costs(1000, weights=4000, moved=8000)
    found = estimate(model, device('kind = "cpu"\n', on_chip_memory=1024, compute_f32=1000, bandwidth=100, cores=4), "f32")
    low, mid, high = ms(found)
    assert (found.energy_mj_low, found.energy_mj, found.energy_mj_high) == pytest.approx((1.31e-6, 16 * mid, 120 * high))  # 1.31 pJ a product is more than 0.4 W x low
    timed = found.energy(measured_ms=2 * mid)
    assert timed is not None and (timed.value, timed.low, timed.high) == pytest.approx((32 * mid, 1.31e-6, 240 * mid)) and timed.estimated
    assert "each of 4 cores" in found.inputs["power of the cores"] and "(assumed)" in found.inputs["power of the cores"]
    one = estimate(model, device('kind = "cpu"\n', on_chip_memory=1024, compute_f32=1000, bandwidth=100, cores=4), "f32", threads=1)
    assert one.energy_mj_high == pytest.approx(30 * ms(one)[2])
    stated = estimate(model, device('kind = "cpu"\n', on_chip_memory=1024, compute_f32=1000, bandwidth=100, cores=4, power_typical=6), "f32")
    assert (stated.energy_mj, stated.energy_mj_high) == pytest.approx((6 * mid, 120 * high))
    most = estimate(model, device('kind = "cpu"\n', on_chip_memory=1024, compute_f32=1000, bandwidth=100, cores=4, power_max=10), "f32")
    assert most.energy_mj_high == pytest.approx(10 * high) and "power of the cores" not in most.inputs
    assert "no power figure" in estimate(model, device('kind = "cpu"\n', compute_f32=1000, bandwidth=100), "f32").energy_reason  # cores unknown


def test_loihi_2_has_no_energy_and_loihi_1_has_that_of_its_events(small_run, tmp_path):
    pytest.importorskip("nir")
    from edgekit import spiking_net

    made = flow.export(small_run / "train" / "t1", "nir", tmp_path / "nir")
    second = estimate(made, targets.load("loihi2_sim"), "int8")
    assert second.energy_mj is None
    assert second.energy_reason.startswith("not available: no energy per operation was published for Loihi 2")
    assert second.latency_ms is None
    first = estimate(made, targets.load("loihi1"), "int8")
    net, golden = spiking_net.load(made.folder / "spiking_net.safetensors"), made.golden()
    own = [price(count(net, {p.name: golden.probes[p.name] for p in net.populations if p.spiking}), prices_of(n), True)
           for n in ("loihi1-davies2018", "loihi1-sanafe")]  # fmt: skip
    assert first.energy_mj == pytest.approx((own[0].energy_nj or 0) / 1e6)
    assert first.energy_mj_low == pytest.approx(min(e.energy_nj_low or 0 for e in own) / 1e6)
    assert first.energy_mj_high == pytest.approx(max(e.energy_nj_high or 0 for e in own) / 1e6)
    dense = estimate(costs(), targets.load("loihi1"), "int8")
    assert "paid by events" in dense.energy_reason
    assert "not available" in estimate(made, targets.load("akida_akd1000"), "int8").energy_reason


def measurement(latency_ms: float, **more) -> Measurement:
    plain = {"runtime": "onnxruntime 1.32.0", "device": "board 7", "threads": 0, "target": "d", "verdict": "VALID"} | more
    return Measurement(
        pinned=False, load_ms=1.0, first_run_ms=1.0, warm_up_runs=1, latency_p50_ms=latency_ms, latency_p90_ms=None, latency_min_ms=latency_ms,
        samples=10, preempted_samples=0, latency_undisturbed_p50_ms=None, memory_peak_mb=None, **plain,
    )  # fmt: skip


def measured(name: str, macs: int, efficiency_: float, precision: str = "f32", engine: str = "onnxruntime", **more) -> Measured:
    """A model that reaches this share of 1000 GOP/s."""
    model = costs(macs)
    return Measured(name, name * 8, precision, engine, model, measurement(2 * macs / 1e9 / efficiency_, **more))


DEVICE = {"compute_f32": 1000, "bandwidth": 1e6}


def test_three_measured_models_narrow_the_range():
    others = [measured("a", 10**8, 0.30), measured("b", 10**9, 0.33), measured("c", 10**7, 0.36)]
    found = estimate(costs(10**9), device(**DEVICE), "f32", others)
    low, mid, high = ms(found)
    assert found.kind == "calibrated-estimate"
    assert mid == pytest.approx(2.0 / 0.33)
    wide = ms(estimate(costs(10**9), device(**DEVICE), "f32"))
    assert wide[0] < low < mid < high < wide[2]
    assert any("off by a factor of 1." in n for n in found.notes)
    assert "0.3 to 0.36 (median 0.33)" in found.inputs["efficiency"]


@pytest.mark.parametrize(
    "other",
    [
        {"threads": 1}, {"engine": "cpp"}, {"target": "e"}, {"verdict": "NOISY"}, {"kind": "imported"},
        {"load": Load("offline", 64)}, {"precision": "int8"},
    ],
)  # fmt: skip
def test_what_was_measured_otherwise_is_no_help(other):
    others = [measured("a", 10**8, 0.30), measured("b", 10**9, 0.33), measured("c", 10**7, 0.36, **other)]
    found = estimate(costs(10**9), device(**DEVICE), "f32", others)
    assert found.kind == "spec-estimate"
    assert any("2 measured models are too few" in n for n in found.notes)


def test_models_of_two_boards_are_not_mixed():
    others = [measured("a", 10**8, 0.3), measured("b", 10**9, 0.3), measured("c", 10**7, 0.31), measured("d", 10**7, 0.6, device="board 8")]
    found = estimate(costs(10**9), device(**DEVICE), "f32", others)
    assert any("2 devices; those on 'board 7'" in n for n in found.notes)
    assert ms(found)[1] == pytest.approx(2.0 / 0.3)


def test_a_model_is_never_estimated_from_its_own_measurement(tmp_path):
    data, _ = graph((tensor("x", 4, 64),), (tensor("y", 4, 64),), [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((64, 64), np.float32)})
    signature = Signature((tensor("x", 4, 64),), (tensor("y", 4, 64),))
    own = bundle(tmp_path / "own", {"main": (data, signature)}, signature, Program((Phase(inputs={"x": value("x")}, outputs={"y": "y"}),)))
    others = [measured("a", 10**8, 0.3), measured("b", 10**9, 0.3)]
    took = ms(estimate(own, device(**DEVICE), "f32"))[0] / 0.3  # as if it fitted the others well
    itself = Measured("own", own.sha256, "f32", "onnxruntime", costs_of(own), measurement(took))
    assert estimate(own, device(**DEVICE), "f32", [*others, itself]).kind == "spec-estimate"
    assert estimate(itself.costs, device(**DEVICE), "f32", [*others, itself]).kind == "spec-estimate"
    assert estimate(own, device(**DEVICE), "f32", [*others, dataclasses.replace(itself, sha256="another")]).kind == "calibrated-estimate"


def test_measured_models_too_far_apart_narrow_nothing():
    found = fit([Known("a", 0.01, 1), Known("b", 0.9, 1), Known("c", 0.2, 1)])
    assert (found.low, found.high, found.fitted) == (*efficiency.UNTUNED, False)
    assert "too far apart" in found.notes[0]


def test_the_next_model_lies_in_the_fitted_range_nine_times_in_ten():
    """Models drawn from a log-normal: the interval of the fit holds the next one as often as it says."""
    rng = np.random.default_rng(5)
    inside = total = 0
    for _ in range(4000):
        drawn = np.exp(rng.normal(-1.5, 0.1, 5))
        found = fit([Known("m", float(e), 1.0) for e in drawn[:4]])
        assert found.fitted
        inside += found.low <= drawn[4] <= found.high
        total += 1
    assert 0.88 < inside / total < 0.92


def test_leaving_one_out_is_told_as_the_factor_by_which_it_is_off():
    """Guessed by the median of the other two: 0.275 for 0.2, 0.25 for 0.25, 0.225 for 0.3."""
    found = fit([Known("a", 0.2, 1), Known("b", 0.25, 1), Known("c", 0.3, 1)])
    assert found.notes[1].endswith("off by a factor of 1.33 (median), 1.38 (most)")


def test_an_estimate_is_held_against_what_was_measured():
    found = estimate(costs(10**9), device(**DEVICE), "f32")
    low, mid, high = ms(found)
    assert low < mid
    inside, outside = error(found, measurement(mid / 2)), error(found, measurement(2 * high))
    assert inside is not None
    assert outside is not None
    assert (inside.ratio, inside.inside, outside.inside) == (pytest.approx(2.0), True, False)
    told = compared(found, measurement(mid / 2))
    assert told.notes[-1].endswith("estimated / measured = 2.00, inside low to high")
    none = estimate(costs(precision="int8"), device(compute_f32=1, bandwidth=1), "int8")
    assert error(none, measurement(1.0)) is None
    assert compared(none, measurement(1.0)) == none


def test_stored_profiles_are_read_as_measured_models(tmp_path):
    data, _ = graph((tensor("x", 4, 64),), (tensor("y", 4, 64),), [helper.make_node("Relu", ["x"], ["y"])])
    signature = Signature((tensor("x", 4, 64),), (tensor("y", 4, 64),))
    own = bundle(tmp_path / "own", {"main": (data, signature)}, signature, Program((Phase(inputs={"x": value("x")}, outputs={"y": "y"}),)))
    assert roofline.evidence_of(own) == []
    own.write_evidence("profile-onnxruntime-all", measurement(0.5).to_json())
    own.write_evidence("profile-cpp_openvino-1-poisson", measurement(0.7, runtime="edgekit-run 0.1.0 with openvino").to_json())
    other, found = roofline.evidence_of(own)
    assert (other.engine, found.engine) == ("cpp_openvino", "onnxruntime")
    assert (found.sha256, found.precision, found.measurement.latency_p50_ms, found.costs.operations) == (own.sha256, "f32", 0.5, 256)


def test_this_machine_is_estimated_by_what_was_measured_on_it(monkeypatch):
    told = {
        "roof": {"threads": 1, "compute_gops": {"f32": 100.0}, "bandwidth_gb_s": 20.0, "how": {"f32": "numpy matmul"}}, "call_us": 3.0, "node_us": 0.5,
        "processor": "p", "instructions": [], "cores": 2, "pressure": None, "versions": {}, "made": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    monkeypatch.setattr(limits, "roof_probe", lambda threads: fill(Probe, told, "probe"))
    found = estimate(costs(10**8), targets.load("host"), "f32", threads=1)
    assert ms(found)[0] == pytest.approx(2.0 / 1.1)  # a roof from below may be too low by a tenth
    assert found.inputs["compute_f32"] == "100 GOP/s; numpy matmul, measured here 2026-01-01T00:00:00Z (measured)"
    assert estimate(costs(), targets.load("host"), "bf16").latency_reason.startswith("no peak for bf16: no engine here multiplies in bf16")
    known = [Measured(n, n * 8, "f32", "onnxruntime", costs(m), measurement(2 * m / 1e8 / e, target="host", threads=1)) for n, m, e in (("a", 10**8, 0.5), ("b", 10**9, 0.52), ("c", 10**10, 0.54))]
    assert estimate(costs(10**8), targets.load("host"), "f32", known, threads=1).kind == "calibrated-estimate"


def test_a_target_that_stands_for_other_machines_gives_no_figure_here():
    foreign = next(t for t in map(targets.load, ("host_x86_64", "host_aarch64")) if t.architecture != limits.machine_probe.machine().architecture)
    assert "its figures are measured on it" in estimate(costs(), foreign, "f32").latency_reason


@pytest.mark.slow  # it compares clocks: a roof that is measured while others use the machine is too low for what runs later
@pytest.mark.parametrize("threads", [1, 0])
def test_what_models_take_on_this_machine_lies_in_the_range(threads, tmp_path, monkeypatch):
    """A property, not a timing: the range spans a factor of 20 and more, and the quickest of many runs is compared."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    models = {
        "tiny": ([("MatMul", 4, 4)], 1), "product": ([("MatMul", 512, 512)], 64), "deep": ([("MatMul", 64, 64), ("Relu", 0, 0)] * 20, 8),
        "waves": ([("Sin", 0, 0)] * 8, 4096),
    }  # fmt: skip
    for name, (layers, rows) in models.items():
        width = next((n for _, n, _ in layers if n), 64)
        nodes, constants, x = [], {}, "x"
        for i, (kind, n, m) in enumerate(layers):
            out = "y" if i == len(layers) - 1 else f"v{i}"
            if n:
                constants[f"w{i}"] = rng.normal(size=(n, m)).astype(np.float32) / math.sqrt(n)
            nodes.append(helper.make_node(kind, [x, f"w{i}"] if n else [x], [out]))
            x = out
        data, _ = graph((tensor("x", rows, width),), (tensor("y", rows, width),), nodes, constants)
        signature = Signature((tensor("x", rows, width),), (tensor("y", rows, width),))
        made = bundle(tmp_path / name, {"main": (data, signature)}, signature, Program((Phase(inputs={"x": value("x")}, outputs={"y": "y"}),)))
        with registry.find(Runtime, "onnxruntime").open(made, threads=threads) as session:
            once = session.bind(one_sample(made))
            times = []
            for _ in range(60):
                start = time.perf_counter()
                once()
                times.append(1e3 * (time.perf_counter() - start))
        low, _, high = ms(estimate(made, targets.load("host"), "f32", threads=threads))
        assert min(times) < high, name
        assert statistics.median(times) > 0.7 * low, name  # where others used the machine while its roof was measured
