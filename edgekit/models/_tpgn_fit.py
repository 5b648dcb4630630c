"""How TPGN and what it is held against are trained: every model and seed is a checkpoint folder, made once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgekit import files
from edgekit.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._tpgn_data import FEATURES, Parts, Windows
from edgekit.models._tpgn_options import Form, Options
from edgekit.models._tpgn_tables import Outcome, tables

if TYPE_CHECKING:
    import torch

FORMS: tuple[Form, ...] = ("window", "rolling")
BATCH = 250  # windows that are tested or validated at a time


class Task:
    """The three hooks of the training loop: batches, loss, score."""

    def __init__(self, parts: Parts) -> None:
        self.parts = {split: _views(getattr(parts, split), parts) for split in ("train", "validation")}

    def batches(
        self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Windows of z-scored values float32 (N, L + H, V) and time features (N, L, F), in an order of epoch and seed."""
        import torch

        values, time = self.parts[split]
        count, train = len(values), split == "train"
        order = np.random.default_rng((seed, epoch)).permutation(count) if train else np.arange(count)
        size = batch_size if train else BATCH
        whole = count // size * size if train and count >= size else count
        for at in range(0, whole, size):
            rows = torch.from_numpy(order[at : at + size])
            yield values[rows].transpose(1, 2), time[rows].transpose(1, 2)

    def _squares(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        values, time = batch
        history = time.shape[1]
        squares: torch.Tensor = (module(values[:, :history], time) - values[:, history:]) ** 2
        return squares

    def loss(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Mean squared error of z-scored values."""
        return self._squares(module, batch).mean()

    def score(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Minus the mean squared error of each window, summed."""
        return -self._squares(module, batch).mean((1, 2)).sum()


def _views(windows: Windows, parts: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    """All windows (N, V, L + H) and their time features (N, F, L) as views of one tensor each."""
    import torch

    scaled = torch.from_numpy((windows.values - parts.mean) / parts.std)
    values = scaled.unfold(0, windows.history + windows.horizon, 1)
    return values, torch.from_numpy(windows.time).unfold(0, windows.history, 1)[: len(values)]


def errors(forecast: np.ndarray, target: np.ndarray, std: np.ndarray) -> tuple[float, float]:
    """(squared, absolute) errors of z-scored values, summed over windows, hours and variables; in float64."""
    difference = (forecast.astype(np.float64) - target) / std
    return float(np.square(difference).sum()), float(np.abs(difference).sum())


class Fit:
    """One run of the recipe."""

    def __init__(self, options: Options, out: Path, progress: Progress, parts: Parts, fabric: Any) -> None:
        self.options, self.out, self.progress, self.parts, self.fabric = options, out, progress, parts, fabric
        self.task = Task(parts)

    def run(self) -> Path:
        """Do what is not done yet; the checkpoint folder to deploy, in the form that the recipe asks for."""
        repeated = self.repeated()
        made: list[tuple[Checkpoint | None, Outcome]] = [(None, repeated)]
        for model in ("tpgn", *self.options.baselines):
            made += [self._trained(model, seed, repeated) for seed in self.options.seeds]
        # Of each model the seed that validates best: the one to deploy, and what it is held against in the same way.
        best = {model: min((m for m in made if m[1].model == model), key=lambda m: m[1].validation or 0.0)
                for model in ("tpgn", "repeat", *self.options.baselines)}  # fmt: skip
        chosen, outcome = best["tpgn"]
        assert chosen is not None
        if self.fabric.is_global_zero:
            for form in FORMS:
                self._hand_over(chosen, outcome, form)
            count = self.parts.test.count
            result = {
                "score_name": "skill over repeat-last-day", "test_samples": count, "deploy": self.options.form,
                "rows": [o.row("model" if o is outcome else "baseline") for _, o in best.values()],
                "tables": tables([o for _, o in made], self.options, count),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / self.options.form

    def repeated(self) -> Outcome:
        """The last day over and over."""
        from edgekit.models._tpgn_baselines import repeat_last_day

        mse, mae = self._tested(lambda given: repeat_last_day(given["values"], self.options.network))
        return Outcome("repeat", None, mse, mae, 0.0, None, 0, 0.0, 0, 0)

    def _tested(self, forecast: Any) -> tuple[float, float]:
        """(MSE, MAE) of z-scored values over all test windows."""
        test, total = self.parts.test, np.zeros(2)
        for at in range(0, test.count, BATCH):
            starts = np.arange(at, min(at + BATCH, test.count))
            total += errors(forecast(test.inputs(starts)), test.targets(starts), self.parts.std)
        mse, mae = total / (test.count * test.horizon * len(self.parts.std))
        return float(mse), float(mae)

    def _trained(self, model: str, seed: int, repeated: Outcome) -> tuple[Checkpoint, Outcome]:
        """Train one model with one seed, unless its checkpoint is there and came from the same inputs."""
        import torch

        from edgekit.models._tpgn_baselines import Scaled, build, products
        from edgekit.train import fit

        name = f"{model}_s{seed}"
        o = self.options
        decided_by = {
            "model": model, "seed": seed, "plan": dataclasses.asdict(o.train), "network": dataclasses.asdict(o.network),
            "data": dataclasses.asdict(o.data), "lstm_width": o.lstm_width if model == "lstm" else None,
        }  # fmt: skip
        key = files.hash_of(decided_by)
        timing = self.out / f"{name}.timing.json"
        try:
            done = open_checkpoint(self.out / name)
        except EdgekitError:
            done = None
        if done is None or done.facts.get("key") != key or not timing.is_file():
            torch.manual_seed(seed)
            net = build(model, o, FEATURES, self.parts.mean, self.parts.std)
            fitted = fit(
                self.fabric, Scaled(net), self.task, o.train, seed=seed, state_folder=self.out / f"{name}.state",
                progress=self.progress, what=name.replace("_s", ", seed "), key=key,
            )  # fmt: skip
            mse, mae = self._tested(lambda given: self._eager(net, given))
            row = Outcome(
                model, seed, mse, mae, 1 - mse / repeated.mse, -fitted.score, fitted.epochs_run, 0.0,
                sum(p.numel() for p in net.parameters()), products(model, o, FEATURES, len(self.parts.std)),
            )  # fmt: skip
            if self.fabric.is_global_zero:
                # Beside the checkpoint, whose hash must be the same when the same training is done again.
                files.write_text(timing, files.canonical_json({"seconds": round(fitted.seconds, 2)}))
                save_checkpoint(self.out / name, net, {"family": "tpgn", "key": key, "outcome": dataclasses.asdict(row)})
            self.fabric.barrier()
            done = open_checkpoint(self.out / name)
        seconds = json.loads(timing.read_text())["seconds"]
        return done, dataclasses.replace(Outcome(**done.facts["outcome"]), seconds=seconds)

    def _eager(self, net: Any, given: dict[str, np.ndarray]) -> np.ndarray:
        import torch

        with torch.no_grad():
            z = (torch.from_numpy(given["values"]) - torch.from_numpy(self.parts.mean)) / torch.from_numpy(self.parts.std)
            made: np.ndarray = net.scaled_forecast(z, torch.from_numpy(given["time"])).numpy() * self.parts.std + self.parts.mean
        return made

    def _hand_over(self, best: Checkpoint, outcome: Outcome, form: Form) -> None:
        """The checkpoint of one form: the same weights, another program around them."""
        from edgekit.models._tpgn_baselines import build

        net = build("tpgn", self.options, FEATURES, self.parts.mean, self.parts.std)
        net.load_state_dict(best.state())
        facts = {
            "family": "tpgn", "name": self.out.parent.name, "form": form, "seed": outcome.seed, "skill": outcome.skill,
            "recipe": json.loads(files.canonical_json(dataclasses.asdict(self.options.in_form(form)))),
        }  # fmt: skip
        try:
            if open_checkpoint(self.out / form).facts == facts and _same(open_checkpoint(self.out / form), best):
                return
        except EdgekitError:
            pass
        save_checkpoint(self.out / form, net, facts)


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    import torch

    a, b = one.state(), other.state()
    return a.keys() == b.keys() and all(torch.equal(v, b[n]) for n, v in a.items())
