"""Run a recipe as a user would, hold its bundles against the eager network on every test image, keep both as JSON.

    python benchmarks/record.py examples/iir_snn_mnist.toml [--out runs/mnist]
    python benchmarks/record.py --table            draws docs/results.md from all benchmarks/*.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
BATCH = 200
OWN_PAGES = ("tpgn_", "multi_fit_", "time_stepping_", "few_step_", "pso_", "time_shift_", "unidiffuser_", "fvdm_", "diti_",
             "latent_inversion_")  # results that docs/<family>.md shows


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.recipe:
        out = given.out or Path("runs") / given.recipe.stem
        data = record(given.recipe, out)
        (HERE / f"{given.recipe.stem}.json").write_text(json.dumps(data, indent=1) + "\n")
    files = [p for p in sorted(HERE.glob("*.json")) if not p.stem.startswith(OWN_PAGES)]
    (ROOT / "docs" / "results.md").write_text(table([json.loads(p.read_text()) for p in files]))
    return 0


def record(recipe: Path, out: Path) -> dict[str, Any]:
    """The commands, their output and their wall time; then the equality over all test images."""
    commands = []
    for verb, source in (("train", str(recipe)), ("deploy", str(out))):
        command = ["edgekit", verb, source, "--out", str(out), "--json"]
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=Path.cwd())
        if done.returncode:
            sys.exit(done.stderr)
        output = json.loads(done.stdout)
        for bundle in output.get("bundles", []):  # hundreds of numbers a row; the run folder keeps them
            bundle.pop("layers")
            for row in bundle["measurements"]:
                row.update(histogram=None, power=None)
                row["conditions"].pop("trace")
        commands.append({"command": " ".join(command), "wall_s": round(time.monotonic() - started, 1), "output": output})
    return {"recipe": recipe.name, "machine": machine(), "commands": commands, "equality": equality(out)}


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    from edgekit.profile import device_name

    return {"processor": device_name(), "system": platform.system(), "load_1min": f"{os.getloadavg()[0]:.1f}"}


def equality(out: Path) -> list[dict[str, Any]]:
    """Every float bundle of a run on its runtimes: flips and logits against the eager network, all test images."""
    from edgekit import flow, registry, verify
    from edgekit.bundle import open_bundle
    from edgekit.parts import Runtime

    trained: Any = flow.load_trained(out)
    images = trained.data.test_images
    rows = []
    for name, runtime in (("onnx-f32", "onnxruntime"), ("openvino-f32", "openvino"), ("nir-f32", "nir")):
        bundle = open_bundle(out / "bundles" / name)
        total: dict[str, Any] = {"images": 0, "spikes": 0, "flips": 0, "flips_near": 0, "max_abs": 0.0, "named": [], "failures": []}
        with registry.find(Runtime, runtime).open(bundle, probes=True) as session:
            for at in range(0, len(images), BATCH):
                batch = images[at : at + BATCH]
                found = verify.compare(bundle, trained.answers(batch), session.run({"image": batch}))
                total["images"] += len(batch)
                total["spikes"] += found["spikes_compared"]
                total["flips"] += found["spike_flips"]
                total["flips_near"] += found["spike_flips_near"]
                total["max_abs"] = max(total["max_abs"], found["output_max_abs"])
                total["named"] += [f"batch at {at}: {flip}" for flip in found["flips"]]
                total["failures"] += found["failures"]
        rows.append({"bundle": bundle.label, "runtime": runtime, **total})
    return rows


def table(results: list[dict[str, Any]]) -> str:
    """docs/results.md."""
    lines = ["# Results", "", "Drawn by `python benchmarks/record.py --table` from the JSON files in `benchmarks/`; nothing is typed.", ""]
    lines += ["Forecasting, clinical series, time-stepping, diffusion and voice conversion have pages of their own: [tpgn.md](tpgn.md),"]
    others = ("multi_fit", "time_stepping", "few_step", "unidiffuser", "fvdm", "diti", "latent_inversion", "stream_voice")
    lines += [f"{', '.join(f'[{n}.md]({n}.md)' for n in others[:4])},", f"{', '.join(f'[{n}.md]({n}.md)' for n in others[4:])}.", ""]
    for data in results:
        if "rows" in data:
            lines += deployed(data)
        if "exact" in data:
            lines += exact(data)
        if "front_by_brute_force" in data:
            lines += swept(data)
        if "under_load" in data:
            lines += agreement(data)
        if "recipe" not in data:
            continue
        train, deploy = (c["output"] for c in data["commands"])
        walls = ", ".join(f"`{c['command']}` {c['wall_s']} s" for c in data["commands"])
        lines += [f"## {data['recipe']}", "", f"{walls}; {data['machine']['processor']}.", ""]
        head = f"| network | {train['score_name']} ({train['test_samples']} test images) | validation | epochs | spikes per neuron |"
        lines += [head, "|---|---|---|---|---|"]
        for row in train["rows"]:
            rates = row["spikes_per_neuron"].values()
            mean = f"{sum(rates) / len(rates):.3f}" if rates else "-"
            lines.append(f"| {row['label']} | {row['score']:.4f} | {row['validation']:.4f} | {row['epochs']} | {mean} |")
        head = "| bundle | runtime | spikes compared | flips | of them at the threshold | largest logit difference |"
        lines += ["", head, "|---|---|---|---|---|---|"]
        for row in data["equality"]:
            lines.append(f"| {row['bundle']} | {row['runtime']} | {row['spikes']:,} | {row['flips']} | {row['flips_near']} | {row['max_abs']:.2g} |")
        lines += ["", "| bundle | runtime | integers wrong | score | latency p50, one pinned thread |", "|---|---|---|---|---|"]
        for bundle in deploy["bundles"]:
            times = {m["runtime"]: m for m in bundle["measurements"] if m["threads"] == 1}
            for v in bundle["verifications"]:
                m = times.get(v["runtime"])
                shown = "-" if m is None else f"{m['latency_p50_ms']:.3g} ms ({m['verdict']})"
                wrong = "-" if v["exact_mismatches"] is None else v["exact_mismatches"]
                score = "-" if v["score"] is None else f"{v['score']:.4f} ({v['score_samples']})"
                lines.append(f"| {bundle['label']} | {v['runtime']} | {wrong} | {score} | {shown} |")
        lines.append("")
    return "\n".join(lines)


def deployed(data: dict[str, Any]) -> list[str]:
    """What deployed.py found."""
    lines = [f"## `{data['command'].split('; ')[-1]}`", ""]
    lines += ["| bundle | runtime | score | SQNR dB | MB | p50 ms, one pinned thread | times as fast as float |", "|---|---|---|---|---|---|---|"]
    for r in data["rows"]:
        timed = f"{r['latency_p50_ms']:.3f} ({r['verdict']})" if "latency_p50_ms" in r else "-"
        cells = [r["bundle"], r["runtime"], f"{r['score']:.4f} ({r['samples']})", f"{r['sqnr_db']:.1f}" if "sqnr_db" in r else "-",
                 f"{r['size_mb']:.2f}", timed, r.get("times_as_fast_as_float", "-")]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, ""]


def exact(data: dict[str, Any]) -> list[str]:
    """What spike_int8.py found."""
    scores = ", ".join(f"{n} {v:.4f}" for n, v in data["score"].items())
    lines = [f"## Spike-exact INT8: `{data['command'].split('; ')[-1]}`", ""]
    lines += [f"Score {scores}; the trained network {data['score_float']:.4f}; {data['machine']}.", ""]
    lines += ["| engine | processor | images | wrong values | of |", "|---|---|---|---|---|"]
    for r in data["exact"]:
        told = ", ".join(f"{k} {v}" for k, v in r["set"].items()) or "as it is"
        lines.append(f"| {r['engine']} | {told} | {r['images']:,} | {r['wrong']} | {r['of']:,} |")
    lines += ["", "| bundle | onnxruntime p50 ms | openvino p50 ms |", "|---|---|---|"]
    for r in data["latency"]:
        lines.append(f"| {r['bundle']} | {r['onnxruntime']['latency_p50_ms']:.4f} | {r['openvino']['latency_p50_ms']:.4f} |")
    return [*lines, ""]


def agreement(data: dict[str, Any]) -> list[str]:
    """What profile_agreement.py found."""
    lines = ["## What a profile says, and what others say of the same model", "", f"{data['model']}; {data['device']}; {data['how']}.", ""]
    lines += ["| engine | measured by | p50 ms | edgekit over it | smallest and largest of the rounds |", "|---|---|---|---|---|"]
    for engine, found in data.items():
        others = {n: r for n, r in found.items() if n != "edgekit"} if isinstance(found, dict) and engine != "under_load" else {}
        for who, r in others.items():
            low, high = r["range"]
            lines.append(f"| {engine} | {who} | {r['p50_ms']:.4f} | {r['edgekit_over_it']:.4f} | {low:.4f} to {high:.4f} |")
    lines += ["", "openvino is called from Python, and some 3 µs of a call belong to its Python binding: what a Python program pays. cpp_openvino is"]
    lines += ["called from C++. openvino_engine_clock is the time that OpenVINO itself counts, which a profile prints beside its own.", ""]
    lines += ["| under a load on every core | verdict | quiet p50 ms | loaded p50 ms | undisturbed over quiet |", "|---|---|---|---|---|"]
    for engine, r in data["under_load"].items():
        quiet = ", ".join(f"{q['p50_ms']:.4f}" for q in r["quiet"])
        lines.append(f"| {engine} | {r['loaded']['verdict']} | {quiet} | {r['loaded']['p50_ms']:.4f} | {r['undisturbed_over_quiet']:.4f} |")
    return [*lines, ""]


def swept(data: dict[str, Any]) -> list[str]:
    """What sweep_digits.py found: every candidate that is on a front, and how long it took."""
    cells = ", ".join(f"{n} {state}" for state, n in data["cells"].items())
    right = sorted(data["fronts"]["latency_ms"]) == data["front_by_brute_force"]
    lines = [f"## `{data['command']}`", ""]
    lines += [f"{data['wall_s']:.0f} s with training; page {data['page_bytes'] / 1e6:.2f} MB; cells: {cells}; {data['machine']}.", ""]
    lines += [f"The front by latency {'is' if right else 'IS NOT'} that of brute force. ~ is an estimate from published figures.", ""]
    lines += ["| candidate on the front by latency | accuracy | ms | mJ |", "|---|---|---|---|"]
    for r in sorted(data["candidates"], key=lambda r: (-(r["quality"] or 0), r["name"])):
        if r["name"] in data["fronts"]["latency_ms"]:
            lines.append(f"| {r['name']} | {r['quality']:.4f} | {_cost(r['latency_ms'])} | {_cost(r['energy_mj'])} |")
    return [*lines, ""]


def _cost(q: dict[str, Any] | None) -> str:
    return "-" if q is None else f"{'~' if 'estimate' in q['kind'] else ''}{q['value']:.3g} ({q['low']:.3g} to {q['high']:.3g}, {q['kind']})"


if __name__ == "__main__":
    sys.exit(main())
