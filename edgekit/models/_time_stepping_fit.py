"""From a recipe to a policy: deep Q-learning, the choice by validation, the spiking form, and the tables of both."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models import _time_stepping_evaluate as evaluate
from edgekit.models._time_stepping_evaluate import Baselines, Decide, Figures, play
from edgekit.models._time_stepping_options import VALIDATION_SEEDS, Options, build, rules_of
from edgekit.models._time_stepping_score import decisions_score, episodes_score

Table = dict[str, Any]


class Fit:
    """One run of the pipeline; each form is a checkpoint folder, made once."""

    def __init__(self, options: Options, out: Path, progress: Progress) -> None:
        self.options, self.out, self.progress = options, out, progress
        self.rules = rules_of(options)

    def run(self) -> Path:
        """Do what is not done yet; the checkpoint folder `policy`."""
        policy = self._policy()
        spiking = self._spiking(policy) if self.options.network.spikes else None
        tables = self._tables(policy, spiking)
        rows = [_row("DQN policy", "model", policy)]
        rows += [_row("spiking T=1 policy (worth of its decisions)", "baseline", spiking)] if spiking else []
        rows.append({"label": f"fixed {self.options.environment.default:g}", "role": "baseline", "steps": None, "score": 0.5, "validation": 0.5,
                     "epochs": 0, "seconds": 0.0, "spikes_per_neuron": {}, "estimates": []})  # fmt: skip
        result = {"score_name": "efficiency", "test_samples": policy.facts["score_samples"],
                  "deploy": policy.folder.name, "rows": rows, "tables": tables}  # fmt: skip
        files.write_text(self.out / "result.json", files.canonical_json(result))
        return policy.folder

    def _policy(self) -> Checkpoint:
        import torch

        from edgekit.models._time_stepping_deploy import decider
        from edgekit.models._time_stepping_dqn import train

        key = files.hash_of({"recipe": _plain(self.options, without=("evaluation",)), "form": "policy", "version": 6})
        done = _there(self.out / "policy", key)
        if done:
            return done
        started = time.perf_counter()
        first = VALIDATION_SEEDS[0]
        seeds = range(first, first + self.options.evaluation.validation_systems)
        baselines = Baselines.of(self.rules, self.options.environment.default, seeds, self.options.evaluation.steps)

        def judge(policy: Any) -> dict[str, Any]:
            figures = Figures.of(play(decider(policy), self.rules, seeds, self.options.evaluation.steps))
            place = baselines.place(figures)
            return {**dataclasses.asdict(figures), **place, "merit": evaluate.merit(place, self.rules.cost_order)}

        torch.manual_seed(self.options.seed)
        policy = build(self.options)
        history = train(self.options, policy, judge, self.out / "policy.state", self.progress, key)
        score = episodes_score(self.options, decider(policy))
        best = max(range(len(history)), key=lambda i: (history[i]["merit"], i))
        facts = {"history": history, "chosen_block": history[best]["block"], "validation": history[best]["merit"]}
        return self._save("policy", policy, key, score, facts, time.perf_counter() - started)

    def _spiking(self, source: Checkpoint) -> Checkpoint:
        """The policy written out as threshold neurons."""
        import torch

        from edgekit.models._time_stepping_deploy import codes_of, policy_of
        from edgekit.models._time_stepping_spiking import written_out

        key = files.hash_of({"source": source.sha256, "form": "spiking", "version": 5})
        done = _there(self.out / "spiking", key)
        if done:
            return done
        started = time.perf_counter()
        net = written_out(policy_of(source))
        with torch.no_grad():
            score = decisions_score(self.options, lambda state: net(torch.from_numpy(codes_of(state)))[0].numpy().argmax(1))
        return self._save("spiking", net, key, score, {"validation": source.facts["validation"]}, time.perf_counter() - started)

    def _save(self, form: str, module: Any, key: str, score: tuple[float, int], more: dict[str, Any], seconds: float) -> Checkpoint:
        facts = {
            "family": "time_stepping", "name": self.out.parent.name, "recipe": _plain(self.options), "form": form, "key": key,
            "score": score[0], "score_samples": score[1], **more,
        }  # fmt: skip
        # Beside the checkpoint, whose hash must be the same when the same training is done again.
        files.write_text(self.out / f"{form}.timing.json", files.canonical_json({"seconds": round(seconds, 2)}))
        return save_checkpoint(self.out / form, module, facts)

    def _tables(self, policy: Checkpoint, spiking: Checkpoint | None) -> list[Table]:
        from edgekit.models._time_stepping_deploy import decider, policy_of
        from edgekit.models._time_stepping_tables import Tables

        return Tables(self.options, decider(policy_of(policy)), policy, self._spiking_decider(spiking) if spiking else None, self.progress).all()

    def _spiking_decider(self, spiking: Checkpoint) -> Decide:
        import torch

        from edgekit.models._time_stepping_deploy import TrainedSpiking, codes_of

        net = TrainedSpiking(spiking).net

        def decide(state: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return np.asarray(net(torch.from_numpy(codes_of(state)))[0].argmax(1).numpy())

        return decide


def _there(folder: Path, key: str) -> Checkpoint | None:
    """The checkpoint of a folder, where it was made from the same inputs."""
    try:
        done = open_checkpoint(folder)
    except EdgekitError:
        return None
    return done if done.facts.get("key") == key else None


def _plain(options: Options, without: tuple[str, ...] = ()) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files.canonical_json(dataclasses.asdict(options)))
    return {k: v for k, v in data.items() if k not in without}


def _row(label: str, role: str, checkpoint: Checkpoint) -> dict[str, Any]:
    facts = checkpoint.facts
    timing = json.loads((checkpoint.folder.parent / f"{checkpoint.folder.name}.timing.json").read_text())
    return {
        "label": label, "role": role, "steps": None if role == "model" else 1, "score": facts["score"], "validation": facts["validation"],
        "epochs": facts.get("epochs", facts.get("chosen_block", 0)), "seconds": timing["seconds"], "spikes_per_neuron": {}, "estimates": [],
    }  # fmt: skip


