"""What a report lets one decide between: candidates from bundles, the front, the verdict, and what of it is only estimated."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re

import pytest
from report_fixture import (
    bundle_rows,
    check,
    device_estimates,
    estimate,
    horowitz,
    metered,
    sample_run,
    simulated,
    sweep_run,
    timing,
)

from edgekit.candidate import Candidate, Quantity
from edgekit.measurement import Load
from edgekit.report import candidates, choice, energy_tables
from edgekit.report.data import BundleRow

ORT = "onnxruntime 1.32.0"


def bundle(**other: object) -> BundleRow:
    base = dataclasses.replace(bundle_rows()[0], measurements=(), estimates=(), device_estimates=(), layers=())
    return dataclasses.replace(base, **other)


def only(row: BundleRow) -> Candidate:
    (found,) = candidates.of_bundles((row,))
    return found


def test_latency_is_the_best_that_can_be_relied_on_and_a_noisy_one_only_where_there_is_no_other() -> None:
    valid, faster, noisy = timing(ORT, 0.4, 1), timing(ORT, 0.3, 0), timing(ORT, 0.2, 2, verdict="NOISY")
    best = only(bundle(measurements=(valid, noisy, faster))).latency_ms
    assert best is not None and (best.value, best.kind) == (faster.latency_p50_ms, "measured")
    assert (best.low, best.high) == (faster.latency_p50_low_ms, faster.latency_p50_high_ms)
    assert best.note == "p50 of 5 processes, all cores"
    alone = only(bundle(measurements=(noisy,)))
    assert alone.verdict == "NOISY" and alone.latency_ms is not None and alone.latency_ms.note.endswith("2 threads, NOISY")


def test_each_engine_is_a_candidate_and_a_scenario_other_than_single_is_no_latency() -> None:
    stream = timing("openvino 2026.4.1", 1.0, 1, load=Load("stream", period_ms=20.0))
    found = candidates.of_bundles((bundle(measurements=(timing(ORT, 0.4, 1), stream)),))
    assert [c.name for c in found] == ["mnist_t1 onnx:f32 on host, onnxruntime", "mnist_t1 onnx:f32 on host, openvino"]
    assert found[0].latency_ms is not None and found[1].latency_ms is None
    assert "timed as stream only, not one inference at a time" in found[1].notes


def test_energy_is_a_meters_reading_else_an_estimated_power_over_the_measured_time() -> None:
    prices, device = horowitz(5100.0), device_estimates(0.4, "f32")
    read = only(bundle(measurements=(timing(ORT, 0.4, 1, **metered(0.4)),), estimates=prices, device_estimates=device[3:])).energy_mj
    assert read is not None and (read.kind, read.estimated) == ("measured", False) and read.low < read.value < read.high
    host = dataclasses.replace(device[3], latency_ms=0.8, latency_ms_high=4.0, energy_mj_low=0.01, energy_mj=2.0, energy_mj_high=40.0)
    estimated = only(bundle(measurements=(timing(ORT, 0.4, 1),), estimates=prices, device_estimates=(host,))).energy_mj
    assert estimated is not None and (estimated.kind, estimated.note) == ("spec-estimate", "roofline 1, its power over the measured time")
    assert (estimated.low, estimated.value, estimated.high) == pytest.approx((0.01, 2.5 * 0.4, 10 * 0.4), rel=0.05)
    # What arithmetic alone would cost in another chip says nothing of this machine.
    assert only(bundle(measurements=(timing(ORT, 0.4, 1),), estimates=prices)).energy_mj is None
    none = only(bundle(measurements=(timing(ORT, 0.4, 1),)))
    assert none.energy_mj is None and any("no meter: needs read access" in n for n in none.notes)


def test_a_simulator_has_no_latency_and_the_prices_of_its_chip() -> None:
    chips = (*horowitz(19.0, "horowitz45-int8"), estimate("loihi1-sanafe", 7900.0, 11020.0, 12200.0, True),
             estimate("loihi2", None, None, None, True, "no energy per operation was published"))  # fmt: skip
    found = candidates.of_bundles((bundle(measurements=(simulated("lava-nc 0.10.0", 318.0),), estimates=chips),))
    assert [c.target for c in found] == ["loihi1-sanafe", "loihi2"] and all(c.latency_ms is None and c.verdict == "SIMULATED" for c in found)
    assert found[0].energy_mj is not None and found[0].energy_mj.value == pytest.approx(11020.0 / 1e6)
    assert found[1].energy_mj is None and "no energy per operation was published" in found[1].notes


def test_a_target_that_ran_is_measured_and_the_others_are_estimates() -> None:
    found = candidates.of_bundles((bundle(measurements=(timing(ORT, 0.4, 1),), device_estimates=device_estimates(0.4, "f32")),))
    kinds = {c.target: c.latency_ms.kind for c in found if c.latency_ms}
    assert kinds == {"host": "measured", "jetson-orin-nano": "spec-estimate", "raspberry-pi-5": "spec-estimate", "intel-n100": "spec-estimate"}
    n100 = next(c for c in found if c.target == "intel-n100")
    assert n100.energy_mj is None and "no power figure with a source" in n100.notes


def test_quality_is_the_score_over_the_most_samples_and_wrong_answers_have_none() -> None:
    few = check(ORT, score=0.99, score_samples=200)
    many = check("openvino 2026", score=0.96, score_samples=10_000)
    row = bundle(measurements=(timing(ORT, 0.4, 1),), verifications=(few, many))
    assert only(row).quality == 0.96 and only(row).notes[0] == "score over 10,000 samples, openvino"
    wrong = dataclasses.replace(row, verifications=(dataclasses.replace(many, passed=False),))
    assert only(wrong).quality is None and only(wrong).notes[0] == "no score: its answers are wrong"


def test_an_imported_time_is_of_its_device_and_says_so() -> None:
    elsewhere = dataclasses.replace(timing("trtexec", 1.5, 1), kind="imported", device="Orin Nano, 15 W", process_p50_ms=(), latency_p50_low_ms=None)
    found = only(bundle(imported=(elsewhere, ), verifications=()))
    assert found.latency_ms is not None and (found.latency_ms.kind, found.target) == ("imported", "Orin Nano, 15 W")
    assert found.latency_ms.low < found.latency_ms.value < found.latency_ms.high and "no interval between processes" in found.latency_ms.note


def test_candidates_that_would_have_one_name_keep_apart() -> None:
    row = bundle(measurements=(timing(ORT, 0.4, 1),))
    assert [c.name for c in candidates.of_bundles((row, row))] == ["mnist_t1 onnx:f32 on host, onnxruntime", "mnist_t1 onnx:f32 on host, onnxruntime (2)"]


def drawn_at_random(seed: int, count: int = 40) -> tuple[Candidate, ...]:
    """Costs that overlap, qualities that tie, missing costs and simulators."""
    draw = random.Random(seed)
    made = []
    for i in range(count):
        middle, spread = draw.uniform(0.1, 2.0), draw.choice((0.0, 0.02, 0.4))
        kind = draw.choice(("measured", "counter", "imported", "spec-estimate", "calibrated-estimate"))
        cost = Quantity(middle, middle * (1 - spread), middle * (1 + spread), kind)
        base = sweep_run().candidates[i]
        made.append(dataclasses.replace(
            base, name=f"c{i}", quality=draw.choice((0.9, 0.91, 0.92, 0.95, None)), latency_ms=draw.choice((cost, cost, None)), energy_mj=cost,
            verdict=draw.choice(("VALID", "NOISY", "SIMULATED")),
        ))  # fmt: skip
    return tuple(made)


@pytest.mark.parametrize("seed", range(8))
def test_the_front_marks_are_those_of_brute_force(seed: int) -> None:
    """Written out once more, from the definition: nobody is as good and certainly cheaper, or better and certainly not dearer."""
    found = drawn_at_random(seed)
    marks = choice.front_marks(found)
    for cost, unit in (("latency_ms", "ms"), ("energy_mj", "mJ")):
        there = [c for c in found if c.quality is not None and getattr(c, cost) is not None and not (unit == "ms" and c.verdict == "SIMULATED")]
        beaten = set()
        for a, b in itertools.permutations(there, 2):
            x, y = getattr(a, cost), getattr(b, cost)
            if (a.quality >= b.quality and x.high < y.low) or (a.quality > b.quality and x.high <= y.low):
                beaten.add(b.name)
        assert {n for n, m in marks.items() if unit in m.split(", ")} == {c.name for c in there} - beaten
        assert beaten and len(beaten) < len(there)


def test_the_verdict_names_best_and_cheapest_and_keeps_readings_from_estimates() -> None:
    best, latency, energy, known, doubtful = choice.sentences(sweep_run())
    assert re.fullmatch(r"Best quality: digits_t5 onnx:f32 on host, openvino, 96\.9 % accuracy, 0\.1\d+ ms \(measured\); 4 others reach the same\.", best)
    reading, alone = latency.split("; ")
    assert reading.startswith("Cheapest within 1 point of it by latency: digits_t3 onnx:int8 on host, openvino, 96.1 %, 0.0") and "(measured, NOISY)" in reading
    assert alone.startswith("by estimate alone digits_t3 onnx:int8 on jetson-agx-orin") and "cannot be told from it" in alone
    assert "Different rules of estimating are not held against each other" in energy and "measured" not in energy
    assert known.endswith("latency 45 only estimated, 30 measured, 15 none (15 of them simulated); energy 90 only estimated.")
    assert doubtful.startswith("NOISY: digits_t3 onnx:f32 on host, openvino")


def test_within_one_point_means_one_point() -> None:
    base, other = [c for c in sweep_run().candidates if c.verdict == "VALID"][:2]
    assert base.latency_ms and other.latency_ms
    cheap = Quantity(0.001, 0.001, 0.001, "measured")
    for quality, named in ((0.9001, True), (0.8999, False)):
        pair = (dataclasses.replace(base, quality=0.91), dataclasses.replace(other, quality=quality, latency_ms=cheap))
        said = choice.sentences(sweep_run(candidates=pair))[1]
        assert ("0.00100 ms" in said) == named


def test_overlapping_intervals_are_not_told_apart() -> None:
    base, other = [c for c in sweep_run().candidates if c.verdict == "VALID"][:2]
    for high, told in ((1.2, True), (1.04, False)):
        pair = (dataclasses.replace(base, quality=0.9, latency_ms=Quantity(1.0, 0.9, high, "measured")),
                dataclasses.replace(other, quality=0.9, latency_ms=Quantity(1.1, 1.05, 1.3, "measured")))  # fmt: skip
        assert ("1 other cannot be told from it" in choice.sentences(sweep_run(candidates=pair))[1]) == told


def test_names_are_short_where_they_stay_apart_and_whole_where_not() -> None:
    run = sample_run()
    short = choice.short_names(run.candidates)
    assert "onnx:f32 on host, onnxruntime" in short.values() and not any(s.startswith("mnist_t1") for s in short.values())
    twins = tuple(dataclasses.replace(c, format="onnx", precision="f32", target="host", runtime="x") for c in run.candidates[:2])
    assert choice.short_names(twins) == {c.name: c.name for c in twins}


def test_an_estimate_is_held_against_the_measurement_where_both_are_there() -> None:
    row = bundle(measurements=(timing(ORT, 0.4, 1, latency_p50_ms=0.4),), device_estimates=device_estimates(0.5, "f32"))
    table = energy_tables.device_estimates(sample_run(bundles=(row,)))
    host = next(r for r in table.rows if r[1].text == "host")
    assert [c.text for c in host[-2:]] == ["0.400", "1.0 x"]  # 0.8 x 0.5 ms estimated
    assert {r[-1].text for r in table.rows if r[1].text != "host"} == {"-"}
