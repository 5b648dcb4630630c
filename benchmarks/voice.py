"""Voice conversion as a user runs it: trained and judged, deployed, timed chunk by chunk; kept as JSON, drawn into docs/stream_voice.md.

    python benchmarks/voice.py train RECIPE [--out runs/NAME]     benchmarks/NAME.json; goes on where it was stopped
    python benchmarks/voice.py speed BUNDLE...                    one pinned core, C++ and Python: a chunk of 20 ms, and where its time goes
    python benchmarks/voice.py stream BUNDLE...                   chunks of any size against torch at once, what comes later, ten minutes, clicks
    python benchmarks/voice.py kept BUNDLE...                     rounded bundles beside float ones: what each engine keeps of codes and digits
    python benchmarks/voice.py page
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from diffusion import BEGIN, END, command, device, rows, train

from edgekit import files, registry
from edgekit.bundle import Bundle, Golden, open_bundle
from edgekit.models._voice.corpora import HOP, RATE_HZ
from edgekit.models._voice.quality import border_click, clipped_share, dc_offset
from edgekit.parts import Runtime, Session
from edgekit.sound import write_wav

HERE = Path(__file__).parent
ROOT = HERE.parent
CHUNK_MS = 20.0
CHANGES = 12
PIECES = {
    "20 ms": [HOP], "40 ms": [2 * HOP], "80 ms": [4 * HOP], "of chance": np.random.default_rng(0).integers(1, 3000, 40).tolist(),
}  # fmt: skip


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["train", "speed", "stream", "kept", "page"])
    parser.add_argument("source", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.verb == "page":
        page()
        return 0
    if not given.source or (given.verb == "train" and len(given.source) > 1):
        parser.error("train needs a recipe, speed, stream and kept one or several bundles")
    if given.verb == "train":
        recipe = given.source[0]
        name, found = recipe.stem, train(recipe, given.out or Path("runs") / recipe.stem)
    else:
        name, found = f"stream_voice_{given.verb}", {"speed": speed, "stream": stream, "kept": kept}[given.verb](given.source)
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


def speed(bundles: list[Path]) -> dict[str, Any]:
    """One pinned thread: CPU time of a chunk in the C++ runner's own loop, and where the time goes on ONNX Runtime from Python."""
    told, graphs = [], []
    for folder in bundles:
        bundle = open_bundle(folder)
        if bundle.manifest.format == "onnx":
            command("verify", str(folder), "--runtime", "cpp", "--score-limit", "0")
            told.append({"bundle": folder.name, "runtime": "cpp", **chunks(bundle)})
        engine = "onnxruntime" if bundle.manifest.format == "onnx" else "openvino"
        command("verify", str(folder), "--runtime", engine, "--score-limit", "0")
        timed, _ = command("profile", str(folder), "--runtime", engine, "--threads", "1", "--seconds", "10", "--layers")
        usual = {f"p{p['percent']:g}": p["value_ms"] for p in timed["percentiles_undisturbed"]}
        told.append({"bundle": folder.name, "runtime": engine, "cpu_p50_ms": usual.get("p50"), "cpu_p99_ms": usual.get("p99"),
                     "real_time_factor": usual["p50"] / CHUNK_MS, "preempted_share": timed["preempted_samples"] / timed["samples"]})  # fmt: skip
        graphs += [[folder.name, engine, g["name"], round(g["time_us"] / 1000, 3), round(g["share"], 3)] for g in timed["layers"]["graphs"]]
    columns = list(told[0])
    return {
        "command": "python benchmarks/voice.py speed BUNDLE...", "machine": device(),
        "tables": [
            {
                "title": "A chunk of 20 ms on one pinned thread", "columns": columns, "rows": [[_short(r.get(c)) for c in columns] for r in told],
                "caption": "cpp: CPU time of the thread, of all chunks. Others: time of chunks that nothing interrupted. real time factor: the "
                "mean CPU time (cpp), or the median, over 20 ms.",
            },
            {
                "title": "Where a chunk's time goes", "columns": ["bundle", "runtime", "graph", "ms a chunk", "share"], "rows": graphs,
                "caption": "A clock around each graph's calls, from Python, while the stream runs.",
            },
        ],
    }  # fmt: skip


def chunks(bundle: Bundle) -> dict[str, float]:
    """CPU times of chunks in the runner's own loop, 20 s on one pinned thread."""
    with tempfile.TemporaryDirectory() as name, registry.find(Runtime, "cpp").open(bundle, threads=1) as session:
        runner: Any = session
        runner.call(["--profile", "20", "--samples", f"{name}/samples.safetensors", "--pin", "auto"])
        found = files.load_tensors(Path(name) / "samples.safetensors")
    cpu = found["cpu_ns"] / 1e6
    p50, p99 = np.quantile(cpu, [0.5, 0.99])
    return {
        "cpu_p50_ms": float(p50), "cpu_p99_ms": float(p99), "real_time_factor": float(cpu.mean()) / CHUNK_MS,
        "preempted_share": float(found["preempted"].mean()),
    }  # fmt: skip


def stream(bundles: list[Path]) -> dict[str, Any]:
    """The golden answers, which torch computed over whole recordings, against every engine fed in pieces; and what else a stream must keep."""
    pieces, later, sound = [], [], []
    for folder in bundles:
        bundle = open_bundle(folder)
        goldens = bundle.goldens()
        for engine in engines(bundle):
            with registry.find(Runtime, engine).open(bundle, threads=1) as session:
                for name, sizes in PIECES.items():
                    found = [(g, session.run_pieces(dict(g.inputs), sizes)) for g in goldens]
                    same = all(np.array_equal(f["codes"], g.outputs["codes"]) for g, f in found)
                    pieces.append([folder.name, engine, name, same, _short(max(_far(f, g.outputs) for g, f in found))])
                later.append([folder.name, engine, *_later(session, goldens[0])])
                said = session.run(dict(goldens[0].inputs))["speech"][0]
            borders = range(2 * HOP, len(said) - HOP, HOP)
            sound.append([folder.name, engine, *map(_short, (border_click(said, borders), dc_offset(said), clipped_share(said)))])
    return {
        "command": "python benchmarks/voice.py stream BUNDLE...", "machine": device(),
        "tables": [
            {"title": "Pieces against the whole recording in torch", "columns": ["bundle", "runtime", "pieces", "codes equal", "largest difference"],
             "rows": pieces, "caption": "Over all golden inputs: held-out speech, voices of held-out speakers."},
            {"title": "What comes later", "columns": ["bundle", "runtime", "changes tried", "frames changed too early", "frames that answer"],
             "rows": later, "caption": "Other input from a sample on: no frame given out before that sample may change, and one soon after must."},
            {"title": "Ten minutes through a pipe", "columns": ["bundle", "resident after 10 s, MB", "after 600 s, MB", "CPU s"],
             "rows": [[f.name, *map(_short, piped(f))] for f in bundles if open_bundle(f).manifest.format == "onnx"],
             "caption": "edgekit-run --pcm."},
            {"title": "Sound at the borders of frames", "columns": ["bundle", "runtime", "click", "offset", "clipped"], "rows": sound,
             "caption": "click: the largest bend at a border over what as many samples elsewhere reach; about 1 where none is heard. offset: mean "
             "over root mean square. clipped: share of samples at full scale."},
        ],
    }  # fmt: skip


def engines(bundle: Bundle) -> tuple[str, ...]:
    """The engines on which a bundle is run here."""
    return ("onnxruntime", "cpp") if bundle.manifest.format == "onnx" else ("openvino",)


def kept(bundles: list[Path]) -> dict[str, Any]:
    """What `edgekit verify` says of each bundle on its engines: codes, the rest up to the first other code, digits after conversion."""
    lines = []
    for folder in bundles:
        for engine in engines(open_bundle(folder)):
            told, _ = command("verify", str(folder), "--runtime", engine)
            lines.append([
                folder.name, engine, told["passed"], _short(told["score"]), _short(told["score_reference"]), told["score_samples"],
                _short(told["same_share"]), size(folder),
            ])  # fmt: skip
    return {
        "command": "python benchmarks/voice.py kept BUNDLE...", "machine": device(),
        "tables": [{
            "title": "What rounding keeps", "rows": lines,
            "columns": ["bundle", "runtime", "verified", "digits", "in torch, float", "of", "codes alike", "MB of graphs"],
            "caption": "digits: understood after conversion through that engine, all of the score. codes alike: the smallest share over the golden "
            "recordings, where codes may differ.",
        }],
    }  # fmt: skip


def size(folder: Path) -> float:
    """MB of the graphs of a bundle and their weights, the preparation left out."""
    return round(sum(p.stat().st_size for p in folder.iterdir() if p.suffix in {".onnx", ".xml", ".bin"}) / 1e6, 2)


def _far(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    return float(np.abs(found["speech"] - wanted["speech"]).max())


def _later(session: Session, golden: Golden) -> list[int]:
    """(changes, frames changed that came before the change, changes that were answered within four frames)."""
    inputs = dict(golden.inputs)
    audio, before = inputs["audio"], session.run(inputs)["speech"][0]
    rng, early, answered = np.random.default_rng(1), 0, 0
    for t in rng.integers(HOP, audio.shape[1] - 8 * HOP, CHANGES):
        other = audio.copy()
        other[:, t:] = rng.standard_normal(audio.shape[1] - t).astype(np.float32) * 0.1
        differs = session.run({**inputs, "audio": other})["speech"][0] != before
        early += int(differs[: t // HOP * HOP].any())
        answered += int(differs[t // HOP * HOP : t + 7 * HOP].any())
    return [CHANGES, early, answered]


def piped(folder: Path) -> tuple[float, float, float]:
    """(resident MB after 10 s of sound, after 600 s, CPU seconds of it all) of the C++ runner, fed the golden speech again and again."""
    golden = open_bundle(folder).golden()
    with tempfile.TemporaryDirectory() as name, registry.find(Runtime, "cpp").open(open_bundle(folder)) as session:
        sound, voice = Path(name) / "t.wav", Path(name) / "t.voice"
        write_wav(sound, golden.inputs["audio"][0], RATE_HZ)
        command("run", str(folder), "--make-voice", str(sound), "--output", str(voice))
        runner: Any = session
        process = subprocess.Popen(
            [*runner._command, str(folder), "--voice", str(voice), "--pcm"], env=runner._environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        data = np.rint(np.clip(golden.inputs["audio"][0], -1, 1) * 32767).astype("<i2")
        second = 2 * RATE_HZ
        every = np.resize(data, 600 * RATE_HZ).tobytes()
        assert process.stdin is not None
        process.stdin.write(every[: 10 * second])
        process.stdin.flush()
        early = _settled(process.pid)
        process.stdin.write(every[10 * second :])
        process.stdin.flush()
        late, ticks = _settled(process.pid), _ticks(process.pid)
        process.stdin.close()
        process.wait()
    return early, late, ticks


def _settled(pid: int) -> float:
    """Resident MB once the process has nothing left to do."""
    before = -1.0
    while (now := _ticks(pid)) != before:
        before = now
        time.sleep(1.0)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _short(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def page() -> None:
    """Replace what lies between the two marks of the page."""
    path = ROOT / "docs" / "stream_voice.md"
    begin = BEGIN.replace("diffusion.py", "voice.py")
    head, _, rest = path.read_text().partition(begin)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{begin}\n\n{drawn()}\n{END}{tail}")


def drawn() -> str:
    """All tables, from the JSON files that are there; what an earlier file says too is said once."""
    lines: list[str] = []
    shown: list[Any] = []
    for path in sorted(HERE.glob("stream_voice*.json")):
        found = json.loads(path.read_text())
        lines += [f"### {path.stem.replace('_', ' ')}", "", f"`{found['command']}`, {found['machine']}.", ""]
        for table in found.get("tables", []):
            if table not in shown:
                lines += [f"**{table['title']}.** {table['caption']}", "", *rows(table["columns"], table["rows"]), ""]
                shown.append(table)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
