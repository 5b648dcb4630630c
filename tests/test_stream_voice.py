"""Streaming voice conversion as a family: trained small on generated speech, exported with all its state, run on real engines."""

from __future__ import annotations

import dataclasses
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_decider import reweighted

from edgekit import flow, recipe, registry, verify
from edgekit.bundle import Bundle, open_bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.models import _stream_voice_options as options
from edgekit.models._voice import deploy, quality, scored
from edgekit.models._voice.bundled import bundled_of
from edgekit.models._voice.deploy import DELAY
from edgekit.models._voice.spectra import HOP
from edgekit.models._voice.trained import inputs_of_voice
from edgekit.models._voice.whole import Voice, Whole
from edgekit.parts import Calibrator, Runtime, Session

TINY = Path(__file__).parent.parent / "examples" / "stream_voice_tiny.toml"
ENGINES = [("onnx", "onnxruntime"), ("openvino", "openvino"), ("onnx", "cpp")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the smallest recipe, trained once a session, whichever process comes first."""
    import fcntl

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "stream_voice"
    shared.mkdir(exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two processes with two threads each train ten times slower on two cores
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "run" / "train" / "result.json").exists():
            flow.train(TINY, shared / "run")
    torch.set_num_threads(threads)
    return shared / "run"


@pytest.fixture(scope="module")
def bundles(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    out = tmp_path_factory.mktemp("bundles")
    checkpoint = run / "train" / "converter"
    onnx = flow.export(checkpoint, "onnx", out / "onnx")
    return {"onnx": onnx, "openvino": flow.export(onnx.folder, "openvino", out / "openvino")}


@pytest.fixture(scope="module")
def whole(run: Path) -> Whole:
    return bundled_of(open_checkpoint(run / "train" / "converter")).whole(0.0)


@pytest.fixture(scope="module")
def spoken(run: Path, whole: Whole) -> tuple[np.ndarray, Voice]:
    """(six seconds of several speakers, a voice)."""
    facts = open_checkpoint(run / "train" / "converter").facts
    sources, targets = scored.material(facts["recipe"], "test")
    return np.concatenate([s.samples for s in sources])[: 6 * 16000], whole.voice(targets[0].samples)


def ready(engine: str) -> Runtime:
    runtime = registry.load(Runtime, engine)
    if runtime.ready():
        pytest.skip(runtime.ready())
    return runtime


@pytest.mark.parametrize(("fmt", "engine"), ENGINES)
def test_any_piece_gives_the_whole_recordings_codes_and_sound(
    bundles: dict[str, Bundle], whole: Whole, spoken: tuple[np.ndarray, Voice], fmt: str, engine: str
) -> None:
    """20, 40, 80 ms and pieces of chance, frame by frame on an engine, against torch over the whole recording at once."""
    samples, voice = spoken
    speech, codes = whole.stream(voice, samples)
    sizes = np.random.default_rng(0).integers(1, 3000, 40).tolist()
    with ready(engine).open(bundles[fmt]) as session:
        for pieces in ([320], [640], [1280], sizes):
            found = session.run_pieces({"audio": samples[None], **inputs_of_voice(voice)}, pieces)
            assert np.array_equal(found["codes"][0], codes), f"{engine}, pieces of {pieces[:3]}"
            assert np.abs(found["speech"][0] - speech).max() < 1e-5


@pytest.mark.parametrize(("fmt", "engine"), ENGINES)
def test_a_muted_microphone_leaves_no_trace(bundles: dict[str, Bundle], whole: Whole, spoken: tuple[np.ndarray, Voice], fmt: str, engine: str) -> None:
    """Samples of exactly 0 have no pitch and no spectrum; what is said after them is said as ever."""
    samples, voice = spoken
    muted = np.concatenate([samples[:16000], np.zeros(16000, np.float32), samples[16000:32000]])
    speech, codes = whole.stream(voice, muted)
    with ready(engine).open(bundles[fmt]) as session:
        found = session.run({"audio": muted[None], **inputs_of_voice(voice)})
    assert np.isfinite(speech).all() and np.array_equal(found["codes"][0], codes)
    assert np.abs(found["speech"][0] - speech).max() < 1e-5 and np.abs(speech[-8000:]).max() > 1e-3


@pytest.mark.parametrize(("fmt", "engine"), ENGINES)
def test_every_bundle_and_the_preparation_in_it_is_verified(bundles: dict[str, Bundle], fmt: str, engine: str) -> None:
    found = verify.verify(bundles[fmt], ready(engine), 3)  # conversions of the score
    assert found.passed, found.failures
    assert found.output_max_abs is not None and found.output_max_abs < 1e-5 and found.score is not None
    assert list(found.prepares) == ["voice"]


@pytest.mark.parametrize(("fmt", "engine"), ENGINES)
def test_what_comes_later_changes_nothing_before(bundles: dict[str, Bundle], spoken: tuple[np.ndarray, Voice], fmt: str, engine: str) -> None:
    """Output k + DELAY belongs to input k, and a frame must be whole: input from t on may change outputs from t + DELAY - latency on."""
    samples, voice = spoken
    with ready(engine).open(bundles[fmt]) as session:
        before = session.run({"audio": samples[None], **inputs_of_voice(voice)})["speech"][0]
        for t in (8000, 8001, 8319, 20011):
            other = samples.copy()
            other[t:] = np.random.default_rng(t).standard_normal(len(samples) - t).astype(np.float32) * 0.1
            after = session.run({"audio": other[None], **inputs_of_voice(voice)})["speech"][0]
            first = int((before != after).argmax())
            assert first >= t // HOP * HOP  # the frame that t lies in comes out with it: nothing of before is given out later than this
            assert first < t + DELAY + 3 * HOP  # and it does change something soon


def test_the_delay_is_that_of_the_manifest(bundles: dict[str, Bundle], whole: Whole) -> None:
    """A voice's own codec sounds, DELAY later, where the source sounded: loudness of both, as envelopes, fits best there."""
    stream = bundles["onnx"].manifest.program.stream
    assert stream is not None and stream.joins["speech"].delay == DELAY == scored.DELAY == deploy.LOOK_AHEAD * HOP + HOP // 2


@pytest.mark.parametrize(
    ("codec", "network", "temperature"),
    [
        ({"kind": "waveform", "width": 2}, {}, 0.0),
        ({}, {"order": "interleaved", "history": True, "predictor": "discrete"}, 0.7),
        pytest.param({}, {"history": True, "predictor": "discrete"}, 0.0, marks=pytest.mark.slow),
        pytest.param({}, {"order": "interleaved", "pitch": "predicted"}, 0.7, marks=pytest.mark.slow),
    ],
)  # fmt: skip
@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_every_structure_streams_as_it_was_computed_at_once(
    run: Path, tmp_path: Path, codec: dict[str, Any], network: dict[str, Any], temperature: float, engine: str
) -> None:
    """Untrained: the structures that recipes may choose, exported and run against torch over the whole recording."""
    from edgekit.checkpoint import save_checkpoint
    from edgekit.models._voice.bundled import Bundled, facts_of
    from edgekit.models._voice.codec import codec_of
    from edgekit.models._voice.converter import Converter
    from edgekit.models._voice.features import Running
    from edgekit.models._voice.semantic import SemanticEncoder

    torch.manual_seed(1)
    trained = open_checkpoint(run / "train" / "converter")
    shape = {"kind": "source-filter", "width": 8, "levels": 2, "entries": 8, **codec}
    made: Any = codec_of(**shape)
    made.quantiser.learn(torch.randn(1, 100, 24))
    structure = options.Structure(width=16, layers=2, heads=2, hidden=16, window=16, **network)
    net = Bundled(Running(), SemanticEncoder(10), made, Converter(structure, made.quantiser.books)).eval()
    recipe = {**trained.facts["recipe"], "temperature": temperature, "network": dataclasses.asdict(structure)}
    save_checkpoint(tmp_path / "converter", net, {**trained.facts, **facts_of(net, shape), "recipe": recipe})
    bundle = flow.export(tmp_path / "converter", "onnx", tmp_path / "onnx")
    source = bundle if engine == "onnxruntime" else flow.export(bundle.folder, "openvino", tmp_path / "openvino")
    found = verify.verify(source, ready(engine), 0)
    assert found.passed, found.failures


def test_a_voice_by_the_preparation_is_the_voice_in_torch(bundles: dict[str, Bundle], whole: Whole, spoken: tuple[np.ndarray, Voice]) -> None:
    samples, _ = spoken
    with registry.find(Runtime, "onnxruntime").open(bundles["onnx"].preparation("voice")) as session:
        found = session.run({"target": samples[None, : 2 * 16000]})
    expected = inputs_of_voice(whole.voice(samples[: 2 * 16000]))
    assert np.array_equal(found["target_tokens"], expected["target_tokens"])
    assert np.abs(found["target_said"] - expected["target_said"]).max() < 1e-5


@pytest.mark.parametrize("frames", [4, 30, 99, 300])
def test_recordings_of_any_length_make_a_voice(bundles: dict[str, Bundle], whole: Whole, spoken: tuple[np.ndarray, Voice], frames: int) -> None:
    samples, _ = spoken
    voice = whole.voice(np.resize(samples, frames * HOP))
    with registry.find(Runtime, "onnxruntime").open(bundles["onnx"]) as session:
        found = session.run({"audio": samples[None, :16000], **inputs_of_voice(voice)})
    speech, codes = whole.stream(voice, samples[:16000])
    assert np.array_equal(found["codes"][0], codes) and np.abs(found["speech"][0] - speech).max() < 1e-5


def test_there_are_no_clicks_where_frames_meet(bundles: dict[str, Bundle], spoken: tuple[np.ndarray, Voice]) -> None:
    samples, voice = spoken
    with registry.find(Runtime, "onnxruntime").open(bundles["onnx"]) as session:
        speech = session.run({"audio": samples[None], **inputs_of_voice(voice)})["speech"][0]
    borders = range(2 * HOP, len(speech) - HOP, HOP)
    assert quality.border_click(speech, borders) < 1.5
    clicked = speech.copy()
    clicked[5 * HOP :] += 3 * np.abs(np.diff(speech, 2)).max()  # the test would notice one, whichever way the sound bends there
    assert quality.border_click(clicked, borders) > 1.5 * quality.border_click(speech, borders)
    assert quality.dc_offset(speech) < 0.05 and quality.clipped_share(speech) == 0


@pytest.mark.slow
def test_int8_keeps_the_promises_of_its_codes_on_every_engine_and_wrong_weights_do_not(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    part = registry.find(Calibrator, "int8")
    made = part.calibrate(bundles["onnx"], tmp_path / "int8", part.options)
    found = made.manifest.details["quantisation"]
    assert found["good"] and set(found["graphs"]) == {"encoder", "language", "predictor"} and set(found["left_float"]) == {"prompt", "decoder"}
    for name in ("decoder", "prompt"):
        assert made.graph(name).read_bytes() == bundles["onnx"].graph(name).read_bytes()
    assert made.preparation("voice").sha256 == bundles["onnx"].preparation("voice").sha256
    forms = {"onnx": made, "openvino": flow.export(made.folder, "openvino", tmp_path / "ov")}
    for fmt, engine in ENGINES:
        said = verify.verify(forms[fmt], ready(engine))
        assert said.passed and said.score is not None and said.same_share is not None and said.same_share > 0.7, (engine, said.failures)
    for graph in ("encoder", "language", "predictor", "decoder"):
        wrong = open_bundle(reweighted(made, tmp_path / graph, {graph: 1}))
        assert verify.verify(wrong, ready("onnxruntime"), 0).failures, graph


def pushed(session: Session, voice: Voice, seconds: float, seed: int = 0) -> int:
    """Push noise second by second; the largest resident memory of this process in kB afterwards."""
    session.begin(inputs_of_voice(voice))
    noise = np.random.default_rng(seed).standard_normal((1, 16000)).astype(np.float32) * 0.05
    for _ in range(int(seconds)):
        session.push({"audio": noise})
    session.close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
def test_ten_minutes_take_no_more_memory_than_ten_seconds(bundles: dict[str, Bundle], spoken: tuple[np.ndarray, Voice]) -> None:
    with registry.find(Runtime, "onnxruntime").open(bundles["onnx"], threads=1) as session:
        short = pushed(session, spoken[1], 10)
        start = time.process_time()
        assert pushed(session, spoken[1], 600) - short < 2000  # kB
        assert time.process_time() > start


def test_a_stage_on_the_way_is_no_model(run: Path) -> None:
    with pytest.raises(EdgekitError, match="'encoder' of seed 0, one stage of the training; give the folder converter"):
        flow.load_trained(run / "train" / "encoder-0")


def test_a_second_run_trains_nothing_again(run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run / "train").glob("*-0/checkpoint.json")}
    assert len(before) == 4
    assert flow.train(TINY, run) == run / "train" / "converter"
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_every_recipe_in_the_examples_can_be_read_and_the_ablations_differ_by_nothing_else() -> None:
    found = {p.stem: recipe.read(p).values for p in TINY.parent.glob("stream_voice*.toml")}
    read = {n: recipe.fill(options.Options, {k: v for k, v in r.items() if k != "deploy"}, n) for n, r in found.items()}
    assert set(read) == {"stream_voice", "stream_voice_tiny", "stream_voice_ablations"}
    plain, ablated = read["stream_voice"], read["stream_voice_ablations"]
    assert ablated.ablations and dataclasses.replace(ablated, ablations=()) == plain
    # Each is another training than the recipe's own, or run in another way.
    assert all(options.variant(plain, name) != plain for name in ablated.ablations)


def test_recipes_that_cannot_be_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="synthetic must be above 0"):
        options.Data(synthetic=0)
    with pytest.raises(ValueError, match="width must be a multiple of twice the heads, found 30"):
        options.Structure(width=30)
    with pytest.raises(ValueError, match="temperature is of what is drawn: network.pitch 'predicted' or network.predictor 'discrete'"):
        options.Options(options.options_of(recipe.read(TINY).values).training, temperature=0.5)
    with pytest.raises(ValueError, match="history is a share from 0 to 1, found 2"):
        options.Hiding(history=2)


def test_every_ablation_changes_one_thing(run: Path) -> None:
    own = options.options_of(open_checkpoint(run / "train" / "converter").facts["recipe"])
    base = dataclasses.replace(own, ablations=())
    for name in options.ABLATIONS:
        changed = options.variant(own, name)
        assert dataclasses.replace(changed, network=base.network, hiding=base.hiding) == base
    assert options.variant(own, "interleaved").network.order == "interleaved"
    with pytest.raises(ValueError, match="ablations are of .*, found 'luck'"):
        dataclasses.replace(own, ablations=("luck",))
