"""Train and deploy a time-stepping recipe as a user would, hold every bundle's decisions against the float policy, keep all as JSON.

    python benchmarks/time_stepping.py examples/time_stepping_hermite.toml [--out runs/time_stepping_hermite]
    python benchmarks/time_stepping.py --fresh            runs/time_stepping_hermite on systems that no choice has seen
    python benchmarks/time_stepping.py --table            draws docs/time_stepping.md from benchmarks/time_stepping_*.json
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "time_stepping.md"
BEGIN, END = "<!-- drawn by benchmarks/time_stepping.py -->", "<!-- end of what is drawn -->"
FORMATS = "onnx,onnx:int8,openvino,openvino:bf16,openvino:int8"
SPIKING_FORMATS = "onnx,nir,lava"
QUICK = ("--seconds", "0.5", "--processes", "3")  # of the profiles; what is asked here is whether decisions are the same
FRESH = range(100, 500)  # systems that nobody looked at before everything was chosen
COLUMNS = ["policy", "median |dE|", "p90 |dE|", "median evaluations", "mean evaluations", "ended", "|dE| < 1e-3", "error / curve", "cost / curve",
           "p90 / curve"]  # fmt: skip
EPISODES = 100  # evaluation systems whose whole episodes every bundle decides
LAVA_STATES = 300  # simulated: minutes for thousands


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.recipe:
        out = given.out or Path("runs") / given.recipe.stem
        (HERE / f"{given.recipe.stem}.json").write_text(json.dumps(record(given.recipe, out, given.train_only), indent=1) + "\n")
    if given.fresh:
        (HERE / "time_stepping_fresh.json").write_text(json.dumps(fresh(ROOT / "runs" / "time_stepping_hermite"), indent=1) + "\n")
    draw()
    return 0


def fresh(run: Path) -> dict[str, Any]:
    """A trained policy, every fixed parameter and the default on FRESH systems: evaluated once, after all choices were made."""
    from edgekit.checkpoint import open_checkpoint
    from edgekit.models._time_stepping_deploy import decider, policy_of
    from edgekit.models._time_stepping_evaluate import Baselines, Figures, as_row, play
    from edgekit.models._time_stepping_options import options_of, rules_of

    policy = open_checkpoint(run / "train" / "policy")
    options = options_of(policy.facts["recipe"])
    rules, steps = rules_of(options), options.evaluation.steps
    baselines = Baselines.of(rules, options.environment.default, FRESH, steps)
    figures = Figures.of(play(decider(policy_of(policy)), rules, FRESH, steps))
    rows = [as_row(f"fixed {p:.4g}", f, baselines.place(f)) for p, f in zip(rules.parameters, baselines.each, strict=True)]
    rows.append(as_row("default", baselines.default, baselines.place(baselines.default)))
    rows.append(as_row("DQN policy", figures, baselines.place(figures)))
    return {"run": run.name, "seeds": [FRESH[0], FRESH[-1]], "steps": steps, "columns": COLUMNS, "rows": rows}


def edgekit(*words: str) -> dict[str, Any]:
    """One command of a user: its wall time and what it says of bundles and their verification."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "edgekit", *words, "--json"], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        sys.exit(done.stderr)
    said = json.loads(done.stdout)
    return {"command": " ".join(["edgekit", *words]), "wall_s": round(time.monotonic() - started, 1), "said": said}


def record(recipe: Path, out: Path, train_only: bool) -> dict[str, Any]:
    """The commands and what came out: tables, verifications, latencies, decisions, episodes."""
    trained = edgekit("train", str(recipe), "--out", str(out))
    if train_only:
        kept = {k: trained[k] for k in ("command", "wall_s")}
        return {"recipe_file": recipe.name, "train": kept, "result": trained["said"], "deploy": [], "cpp": [], "agreement": []}
    deployed = [edgekit("deploy", str(out / "train" / "policy"), "--out", str(out), "--formats", FORMATS, *QUICK)]
    spiking = out / "train" / "spiking"
    beside = out.with_name(f"{out.name}_spiking")
    if spiking.is_dir():
        deployed.append(edgekit("deploy", str(spiking), "--out", str(beside), "--formats", SPIKING_FORMATS, "--score-limit", "100", *QUICK))
    folders = sorted((out / "bundles").iterdir())
    cpp = [edgekit("verify", str(f), "--runtime", "cpp") for f in folders if f.name.startswith("onnx")]
    data = {
        "recipe_file": recipe.name, "machine": {"platform": platform.platform(), "python": platform.python_version()},
        "train": {k: trained[k] for k in ("command", "wall_s")}, "result": trained["said"],
        "deploy": [{"command": d["command"], "wall_s": d["wall_s"], "bundles": [_bundle(b) for b in d["said"]["bundles"]]} for d in deployed],
        "cpp": [{"command": c["command"], **{k: c["said"][k] for k in ("label", "passed", "score", "score_reference", "pieces_equal")}} for c in cpp],
    }  # fmt: skip
    return {**data, "agreement": agreement(out, beside if spiking.is_dir() else None)}


def _bundle(b: dict[str, Any]) -> dict[str, Any]:
    checks = [{k: c.get(k) for k in ("runtime", "passed", "score", "score_reference", "sqnr_db", "failures")} for c in b["verifications"]]
    times = [{k: m.get(k) for k in ("runtime", "threads", "latency_p50_ms")} for m in b["measurements"]]
    return {"label": b["label"], "bytes": b["bytes_total"], "verifications": checks, "measurements": times}


def agreement(out: Path, spiking: Path | None) -> list[dict[str, Any]]:
    """Per bundle and engine: the share of the float policy's decisions on states that it visits on evaluation systems, and the
    errors of whole episodes that the bundle decides itself."""
    from edgekit import registry
    from edgekit.bundle import open_bundle
    from edgekit.checkpoint import open_checkpoint
    from edgekit.models import _time_stepping_evaluate as evaluate
    from edgekit.models._time_stepping_deploy import codes_of, decider, policy_of
    from edgekit.models._time_stepping_options import options_of, rules_of
    from edgekit.parts import Runtime

    checkpoint = open_checkpoint(out / "train" / "policy")
    options, decide = options_of(checkpoint.facts["recipe"]), decider(policy_of(checkpoint))
    rules, steps = rules_of(options), options.evaluation.steps
    floats = evaluate.play(decide, rules, range(EPISODES), steps, keep=True)
    states = floats.visited().astype(np.float32)
    wanted = decide(states)
    rows = [_row("torch", "float policy", len(states), 1.0, floats, floats)]
    floats_of = (("onnx-f32", "onnxruntime"), ("onnx-int8", "onnxruntime"), ("openvino-f32", "openvino"), ("openvino-bf16", "openvino"),
                 ("openvino-int8", "openvino"))  # fmt: skip
    spikes_of = (("onnx-f32", "onnxruntime"), ("nir-f32", "nir"), ("nir-int8", "reference"), ("lava-int8", "lava"))
    todo = [(out / "bundles" / n, r, "policy") for n, r in floats_of]
    todo += [(spiking / "bundles" / n, r, "spiking") for n, r in spikes_of] if spiking else []
    for folder, engine, form in todo:
        if not folder.is_dir():
            rows.append({"bundle": folder.name, "runtime": engine, "missing": True})
            continue
        simulated = engine == "lava"
        some = np.random.default_rng(0).choice(len(states), min(LAVA_STATES, len(states)), replace=False)
        seen = states[some] if simulated else states
        expected = decide(seen) if simulated else wanted
        with registry.find(Runtime, engine).open(open_bundle(folder)) as session:
            chosen = _decisions(session, seen, codes_of, form)
            same = float((chosen == expected).mean())
            ask = functools.partial(_decisions, session, codes_of=codes_of, form=form)
            own = None if simulated else evaluate.play(ask, rules, range(EPISODES), steps)
        rows.append(_row(folder.parent.parent.name + "/" + folder.name, engine, len(seen), same, own, floats))
    return rows


def _decisions(session: Any, states: np.ndarray, codes_of: Any, form: str) -> np.ndarray:
    """Actions of a bundle."""
    states = states.astype(np.float32)
    if form == "policy":
        return np.asarray(session.run({"state": np.ascontiguousarray(states[:, None])})["action"][:, 0])
    return np.asarray(session.run({"codes": codes_of(states)})["logits"].argmax(1))


def _row(bundle: str, engine: str, count: int, same: float, own: Any, floats: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"bundle": bundle, "runtime": engine, "states": count, "same_decisions": same}
    if own is not None:
        ratio = np.log10(own.error / floats.error)
        row |= {
            "median_error": float(np.median(own.error)), "p90_error": float(np.quantile(own.error, 0.9)),
            "median_evaluations": float(np.median(own.evaluations)),
            "median_log10_ratio": float(np.median(ratio)), "p90_abs_log10_ratio": float(np.quantile(np.abs(ratio), 0.9)),
            "spread_of_float_log10_error": float(np.std(np.log10(floats.error))),
        }  # fmt: skip
    return row


# ---- the page


def draw() -> None:
    """Put the tables of all JSON files between the marks of the page."""
    parts = []
    for path in sorted(HERE.glob("time_stepping_*.json")):
        data = json.loads(path.read_text())
        if "seeds" in data:
            low, high = data["seeds"]
            parts.append(_table(f"{data['run']}: systems {low} to {high}, {data['steps']} intervals", data["columns"], data["rows"],
                                "Played once, after every choice: `python benchmarks/time_stepping.py --fresh`."))  # fmt: skip
            continue
        seconds = sum(r["seconds"] for r in data["result"]["rows"])
        parts.append(f"### {data['recipe_file']}\n\n`{data['train']['command']}`: {seconds:.0f} s of training on one core.\n")
        tables = data["result"]["tables"]
        parts += [_table(t["title"], t["columns"], t["rows"], t["caption"]) for t in tables]
        if data["agreement"]:
            parts.append(_deployed(data))
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{rest.split(END)[1]}")


def _table(title: str, columns: list[str], rows: list[list[Any]], caption: str) -> str:
    lines = [f"**{title}**", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(v) for v in row) + " |" for row in rows]
    return "\n".join([*lines, "", caption, ""])


def _cell(v: Any) -> str:
    if v is None:
        return ""
    return v if isinstance(v, str) else f"{v:.4g}" if isinstance(v, float) else str(v)


def _deployed(data: dict[str, Any]) -> str:
    names = ("bundle", "runtime", "states", "same_decisions", "median_error", "p90_error", "median_evaluations", "p90_abs_log10_ratio")
    rows = [[r.get(n) for n in names] for r in data["agreement"] if not r.get("missing")]
    spread = data["agreement"][0]["spread_of_float_log10_error"]
    first = _table("Bundles against the float policy", list(names), rows,
                   "same_decisions: on states that the float policy visits on evaluation systems. The errors are those of whole episodes "
                   "which the bundle decides itself; the last column says by how many decades 90 % of the systems differ at most from the "
                   f"float policy's, whose own spread between systems is {spread:.2f} decades (standard deviation).")  # fmt: skip
    checks = []
    for d in data["deploy"]:
        for b in d["bundles"]:
            for c in b["verifications"]:
                times = [m["latency_p50_ms"] for m in b["measurements"] if m["threads"] == 1 and m["latency_p50_ms"]]
                checks.append([b["label"], c["runtime"], "yes" if c["passed"] else "; ".join(c["failures"]), c["score"], c["score_reference"],
                               times[0] if times else None])  # fmt: skip
    checks += [[c["label"], "C++ runner", "yes" if c["passed"] else "no", c["score"], c["score_reference"], None] for c in data["cpp"]]
    second = _table("Verified", ["bundle", "runtime", "passed", "score", "of the trained network", "p50 ms"], checks,
                    "Scores are mean efficiencies of whole episodes (policy), or the worth of single decisions (spiking).")  # fmt: skip
    return f"{first}\n{second}"


if __name__ == "__main__":
    sys.exit(main())
