"""How Multi-FIT and its rivals are trained: every network once a seed, by one loop; then, and only then, the test stays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from edgekit import files
from edgekit.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.models._multi_fit_data import Split, Stays
from edgekit.models._multi_fit_figures import Tested, auroc, tables
from edgekit.models._multi_fit_net import Gru, GruD, MultiFit
from edgekit.models._multi_fit_options import LABELS, Name, Network, Options, options_of
from edgekit.models._multi_fit_tuples import (
    Scale,
    grid_of,
    groups_of,
    gru_inputs,
    in_blocks,
    scale_of,
    sources_of,
    tuples_of,
)
from edgekit.train import fit

POOL = 10  # batches that are cut from stays of similar length, so that little of them is padding
DROPPED = 0.4  # of the readings, in the second test of stays that were not learned from
DRAWS = 10  # of the dropped readings: what one draw costs a network differs by 0.01 from what another does
SCORED = 250  # stays at a time


@dataclasses.dataclass(frozen=True)
class Structure:
    """What is fixed before training: which signals form a group, and whom each of them sees. Plain values for a checkpoint."""

    groups: tuple[tuple[int, ...], ...]
    sources: tuple[tuple[tuple[int, ...], ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"groups": [list(g) for g in self.groups], "sources": [[list(s) for s in g] for g in self.sources]}


def structure_of(train: Stays, scale: Scale, network: Network, seed: int) -> Structure:
    """Groups and support from training stays alone; nothing for a GRU."""
    if network.recurrent:
        return Structure((), ())
    groups = groups_of(train, network)
    return Structure(groups, sources_of(in_blocks(lambda s: tuples_of(s, scale, network.causal), train), groups, network, seed))


def build(network: Network, structure: Structure, signals: int) -> nn.Module:
    """The network that the recipe names, with new weights."""
    if network.name == "gru-d":
        return GruD(signals, 2 * network.hidden, network.dropout)
    if network.recurrent:
        return Gru(signals, 2 * network.hidden, network.dropout, simple=network.name == "gru-simple")
    return MultiFit(structure.sources, network.width, network.hidden, network.causal, network.last, network.dropout)


class Inputs:
    """Stays as a network takes them, computed once: one table of rows and its offsets a group (a GRU has one)."""

    def __init__(self, stays: Stays, scale: Scale, network: Network, structure: Structure) -> None:
        self.deaths = torch.from_numpy(stays.deaths)
        self.steps = stays.steps
        self.tables: list[tuple[torch.Tensor, np.ndarray]] = []
        if network.recurrent:
            self.tables = [(torch.from_numpy(in_blocks(lambda s: gru_inputs(s, scale), stays)), stays.offsets)]
            return
        tuples = in_blocks(lambda s: tuples_of(s, scale, network.causal), stays)
        for group in structure.groups:
            rows, offsets = grid_of(stays, group)
            own = tuples[rows][:, list(group)].reshape(len(rows), 4 * len(group))
            self.tables.append((torch.from_numpy(own), offsets))

    def batch(self, chosen: np.ndarray) -> tuple[torch.Tensor, ...]:
        """(outcomes, then of each table the padded rows and the steps) of some stays."""
        found = [self.deaths[torch.from_numpy(chosen)]]
        for table, offsets in self.tables:
            low, high = offsets[chosen], offsets[chosen + 1]
            own = [table[a:b] for a, b in zip(low.tolist(), high.tolist(), strict=True)]
            padded = nn.utils.rnn.pad_sequence(own, batch_first=True)
            if not padded.shape[1]:
                padded = torch.zeros(len(chosen), 1, *table.shape[1:])
            found += [padded, torch.from_numpy(high - low)]
        return tuple(found)


class Task:
    """The three hooks of the training loop: batches, loss, score. `train` gives the inputs of (seed, epoch)."""

    def __init__(self, train: Callable[[int, int], Inputs], validation: Inputs) -> None:
        self.train, self.validation = lru_cache(maxsize=1)(train), validation

    def batches(
        self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Outcomes int64 and the network's inputs; training batches hold stays of similar length, in an order of chance."""
        inputs = self.train(seed, epoch) if split == "train" else self.validation
        if split == "validation":
            for at in range(0, len(inputs.steps), batch_size):
                yield inputs.batch(np.arange(at, min(at + batch_size, len(inputs.steps))))
            return
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(inputs.steps))
        pools = [order[at : at + POOL * batch_size] for at in range(0, len(order), POOL * batch_size)]
        order = np.concatenate([p[np.argsort(inputs.steps[p], kind="stable")] for p in pools])
        whole = len(order) // batch_size * batch_size or len(order)
        batches = [order[at : at + batch_size] for at in range(0, whole, batch_size)]
        for at in rng.permutation(len(batches)):
            yield inputs.batch(batches[at])

    def loss(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The negative log-likelihood of the outcomes."""
        return nn.functional.nll_loss(module(*batch[1:]), batch[0])

    def score(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The log-likelihood of the batch: smoother than its AUROC, and a sum."""
        return -nn.functional.nll_loss(module(*batch[1:]), batch[0], reduction="sum")


def log_probabilities(module: nn.Module, inputs: Inputs) -> np.ndarray:
    """The answers of a network in eval mode, float32 (stays, 2)."""
    module.eval()
    with torch.no_grad():
        parts = [
            module(*inputs.batch(np.arange(at, min(at + SCORED, len(inputs.steps))))[1:])
            for at in range(0, len(inputs.steps), SCORED)
        ]
    return torch.cat(parts).numpy()


def risks_of(module: nn.Module, inputs: Inputs) -> np.ndarray:
    """The probability of death of each stay, float64."""
    return np.exp(log_probabilities(module, inputs)[:, 1].astype(np.float64))


def loaded(checkpoint: Checkpoint) -> tuple[MultiFit, Structure, Scale]:
    """The network of a checkpoint `offline` or `stream`, in eval mode, with what its inputs are made by."""
    facts = checkpoint.facts
    network = options_of(facts["recipe"]).network
    structure = Structure(
        tuple(tuple(g) for g in facts["structure"]["groups"]),
        tuple(tuple(tuple(s) for s in g) for g in facts["structure"]["sources"]),
    )
    net = MultiFit(structure.sources, network.width, network.hidden, network.causal, network.last, network.dropout)
    net.load_state_dict(checkpoint.state())
    return net.eval(), structure, Scale(**{n: np.array(v, np.float32) for n, v in facts["scale"].items()})


class Fit:
    """One run: every network and seed is a checkpoint folder, made once."""

    def __init__(self, options: Options, out: Path, progress: Progress, data: Split, fabric: Any) -> None:
        self.options, self.out, self.progress, self.data, self.fabric = options, out, progress, data, fabric
        self.scale = scale_of(data.train)

    def run(self) -> Path:
        """Train what is not trained yet, test what is not tested yet; the checkpoint folder of the form to deploy."""
        names: list[Name] = [self.options.network.name, *self.options.rivals]
        networks = {str(n): dataclasses.replace(self.options.network, name=n) for n in names}
        trained = {(n, seed): self._trained(network, seed) for seed in self.options.seeds for n, network in networks.items()}
        found = {
            n: [self._tested(network, seed, trained[n, seed]) for seed in self.options.seeds] for n, network in networks.items()
        }
        deaths = self.data.test.deaths
        best = {n: max(ts, key=lambda t: t.validation_auroc) for n, ts in found.items()}
        rows = [self._row(n, best[n], trained[n, best[n].seed]) for n in found]
        model = str(self.options.network.name)
        chosen = trained[model, best[model].seed]
        if self.fabric.is_global_zero:
            self._save_forms(chosen, rows[0])
            result = {
                "score_name": "AUROC", "test_samples": len(deaths), "deploy": "offline", "rows": rows,
                "tables": tables(deaths, found, model, DROPPED),
            }  # fmt: skip
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return self.out / "offline"

    def _alone(self, network: Network, seed: int) -> Options:
        """The recipe of one network and seed: what decides it, whatever is trained beside it."""
        return dataclasses.replace(self.options, network=network, rivals=(), seeds=(seed,))

    def _trained(self, network: Network, seed: int) -> Checkpoint:
        name = f"{network.name}-{seed}"
        folder = self.out / name
        decided_by = {
            "network": dataclasses.asdict(network), "data": dataclasses.asdict(self.options.data),
            "plan": dataclasses.asdict(self.options.plan), "seed": seed,
        }  # fmt: skip
        key = files.hash_of(decided_by)
        try:
            done = open_checkpoint(folder)
        except EdgekitError:
            done = None
        if done is not None and done.facts.get("key") == key:
            return done
        torch.manual_seed(seed)
        structure = structure_of(self.data.train, self.scale, network, seed)
        net = build(network, structure, len(self.data.train.signals))
        task = self._task(network, structure)
        fitted = fit(
            self.fabric, net, task, self.options.plan, seed=seed, state_folder=self.out / f"{name}.state",
            progress=self.progress, what=f"{LABELS[network.name]}, seed {seed}", key=key,
        )  # fmt: skip
        facts = {
            "family": "multi_fit", "name": self.out.parent.name, "network": network.name, "seed": seed, "key": key,
            "recipe": None if network.recurrent else plain(self._alone(network, seed)),
            "structure": structure.to_json(), "form": "trained", "epochs": fitted.epochs_run,
            "parameters": sum(p.numel() for p in net.parameters()),
            "validation_auroc": auroc(self.data.validation.deaths, risks_of(net, task.validation)),
            "validation_auroc_thinned": self._thinned_auroc(net, network, structure),
        }  # fmt: skip
        if self.fabric.is_global_zero:
            files.write_text(self.out / f"{name}.timing.json", files.canonical_json({"seconds": round(fitted.seconds, 2)}))
            save_checkpoint(folder, net, facts)
        self.fabric.barrier()
        return open_checkpoint(folder)

    def _task(self, network: Network, structure: Structure) -> Task:
        """Training stays, thinned anew in each epoch as the recipe says; validation stays are whole."""
        thin = 0.0 if network.whole else self.options.data.thin
        of = partial(Inputs, scale=self.scale, network=network, structure=structure)
        if thin:
            return Task(lambda seed, epoch: of(self.data.train.of_epoch(thin, seed, epoch)), of(self.data.validation))
        whole = of(self.data.train)
        return Task(lambda seed, epoch: whole, of(self.data.validation))

    def _thinned_auroc(self, net: nn.Module, network: Network, structure: Structure) -> float:
        """Mean AUROC of the validation stays without DROPPED of their readings, over DRAWS draws."""
        stays = (self.data.validation.thinned(DROPPED, seed) for seed in range(DRAWS))
        return float(np.mean([auroc(s.deaths, risks_of(net, Inputs(s, self.scale, network, structure))) for s in stays]))

    def _tested(self, network: Network, seed: int, checkpoint: Checkpoint) -> Tested:
        """The risks on the test stays, from the file beside the checkpoint or computed now."""
        path = self.out / f"{checkpoint.folder.name}.test.json"
        stored = json.loads(path.read_text()) if path.exists() else {}
        if stored.get("checkpoint") != checkpoint.sha256 or len(stored["risks_thinned"]) != DRAWS:
            structure = structure_of(self.data.train, self.scale, network, seed)
            net = build(network, structure, len(self.data.train.signals))
            net.load_state_dict(checkpoint.state())
            whole, *thin = (risks_of(net, Inputs(s, self.scale, network, structure)).tolist() for s in self._test_stays())
            stored = {"checkpoint": checkpoint.sha256, "risks": whole, "risks_thinned": thin}
            if self.fabric.is_global_zero:
                files.write_text(path, files.canonical_json(stored))
        seconds = json.loads((self.out / f"{checkpoint.folder.name}.timing.json").read_text())["seconds"]
        facts = checkpoint.facts
        return Tested(
            seed, facts["validation_auroc"], facts["validation_auroc_thinned"], facts["parameters"], seconds,
            np.array(stored["risks"]), np.array(stored["risks_thinned"]),
        )  # fmt: skip

    def _test_stays(self) -> Iterator[Stays]:
        """The test stays, whole, then with fewer readings."""
        yield self.data.test
        yield from (self.data.test.thinned(DROPPED, seed) for seed in range(DRAWS))

    def _row(self, name: str, tested: Tested, checkpoint: Checkpoint) -> dict[str, Any]:
        return {
            "label": f"{LABELS[name]}, seed {tested.seed}", "role": "model" if name == self.options.network.name else "baseline",
            "steps": None, "score": auroc(self.data.test.deaths, tested.risks), "validation": tested.validation_auroc,
            "epochs": checkpoint.facts["epochs"], "seconds": tested.seconds, "spikes_per_neuron": {}, "estimates": [],
        }  # fmt: skip

    def _save_forms(self, chosen: Checkpoint, row: dict[str, Any]) -> None:
        """The same weights once a form: of whole records, and of a stream where the network is causal."""
        structure = chosen.facts["structure"]
        network = self.options.network
        net = MultiFit(structure["sources"], network.width, network.hidden, network.causal, network.last, network.dropout)
        net.load_state_dict(chosen.state())
        for form in ("offline", "stream") if network.causal else ("offline",):
            facts = {**chosen.facts, "form": form, "score": row["score"], "scale": scale_facts(self.scale)}
            save_checkpoint(self.out / form, net, facts)


def scale_facts(scale: Scale) -> dict[str, list[float]]:
    """The scale as plain values; float32 values are exact in them."""
    return {f.name: getattr(scale, f.name).tolist() for f in dataclasses.fields(scale)}


def plain(options: Options) -> dict[str, Any]:
    """Options as plain JSON values."""
    values: dict[str, Any] = json.loads(files.canonical_json(dataclasses.asdict(options)))
    return values
