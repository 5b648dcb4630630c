"""How IIR-SNN is trained: the ANN, its conversion, every T of the schedule from the one before, and the controls."""

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
from edgekit.estimate import count, count_ann, price, prices_of
from edgekit.images import Images
from edgekit.measurement import Progress
from edgekit.models._iir_snn_options import Network, Options, Sparsity, build, for_ann, for_steps, normalise, options_of
from edgekit.plan import Plan
from edgekit.train import Fitted

if TYPE_CHECKING:
    import torch

    from edgekit.models._iir_snn_net import Net

COUNTED = 256  # test images whose spikes are counted for the energy estimate


class Task:
    """The three hooks of the training loop: batches, loss, score."""

    def __init__(
        self, data: Images, options: Options, steps: int | None, sparsity: Sparsity | None = None,
        priced: frozenset[str] = frozenset(), teacher: Net | None = None,
    ) -> None:  # fmt: skip
        """priced: layers whose spikes have a price; OR pooling, which only repeats others' spikes, is not among them."""
        self.priced, self.teacher, self.distillation = priced, teacher, options.distillation
        self.data, self.options, self.steps, self.sparsity = data, options.data, steps, sparsity  # steps None: the ANN

    def batches(
        self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """Images float32 and labels int64, in an order and with shifts that epoch and seed decide; mixed with one another also
        the labels of the other images and the shares float32 of the first ones."""
        import torch

        train = split == "train"
        images, labels = (
            (self.data.train_images, self.data.train_labels)
            if train
            else (self.data.validation_images, self.data.validation_labels)
        )
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(images)) if train else np.arange(len(images))
        whole = len(order) // batch_size * batch_size
        for at in range(0, whole if train and whole else len(order), batch_size):
            rows = order[at : at + batch_size]
            batch = images[rows]
            if train and self.options.augment != "none":
                batch = _moved(batch, rng, self.options.shift_pixels, flip=self.options.augment == "shift-flip")
            named = torch.from_numpy(labels[rows])
            if self.steps is None:
                yield for_ann(batch, self.data), named
                continue
            x = normalise(for_steps(batch, self.steps), self.data)
            mixed = train and self.teacher is not None and self.distillation.mixup > 0
            yield _mixed(x, named, rng, self.distillation.mixup) if mixed else (x, named)

    def _logits(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = module(x) if self.steps is None else module(x, self.steps)
        return logits

    def loss(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Cross-entropy of the logits, summed over the steps, and where asked for what the teacher says and the price of spikes."""
        if self.sparsity is None:
            return self._missed(self._logits(module, batch[0]), batch)
        logits, over = self._with_excess(module, batch[0], self.sparsity.rate)
        return self._missed(logits, batch) + self.sparsity.weight * over

    def _missed(self, logits: torch.Tensor, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        import torch
        from torch.nn import functional as F

        x, labels, *mixed = batch
        hard = F.cross_entropy(logits, labels, reduction="none" if mixed else "mean")
        if mixed:
            others, share_of_first = mixed
            hard = (share_of_first * hard + (1 - share_of_first) * F.cross_entropy(logits, others, reduction="none")).mean()
        if self.teacher is None:
            return hard
        teacher, heat, share = self.teacher.to(x.device), self.distillation.temperature, self.distillation.weight
        with torch.no_grad():
            wanted = F.log_softmax(teacher(x.mean(1) if x.ndim == 5 else x).float() / heat, 1)  # of events an ANN sees the mean over the bins
        # Times the square of the temperature, by which the gradient shrinks (end of section 2 there).
        soft = heat * heat * F.kl_div(F.log_softmax(logits.float() / heat, 1), wanted, reduction="batchmean", log_target=True)
        return (1 - share) * hard + share * soft

    def _with_excess(self, module: Any, x: torch.Tensor, wanted: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and by which share of the wanted rate a layer is above it, in the mean over the layers."""
        import torch
        from torch.nn import functional as F

        rates: dict[str, torch.Tensor] = {}

        def watch(layer: str, _: torch.Tensor, out: torch.Tensor) -> None:
            if layer in self.priced:
                rates[layer] = rates[layer] + out.mean() if layer in rates else out.mean()

        logits = module(x, self.steps, watch)
        return logits, F.relu(torch.stack(list(rates.values())) / (self.steps or 1) / wanted - 1).mean()

    def score(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """How many images of the batch are named rightly; with a price on spikes, less the share of them by which the rate
        is above the wanted one: else the first epoch, which still has all its spikes, would be the best."""
        if self.sparsity is None:
            return (self._logits(module, batch[0]).argmax(1) == batch[1]).sum()
        logits, over = self._with_excess(module, batch[0], self.sparsity.rate)
        return (logits.argmax(1) == batch[1]).sum() - len(logits) * over


def _moved(batch: np.ndarray, rng: np.random.Generator, pixels: int, flip: bool) -> np.ndarray:
    """Each image moved by up to `pixels` (edges repeated), and mirrored every second time when `flip`."""
    if batch.ndim == 5:  # all time bins of a sample move alike
        bins = batch.shape[:3]
        still = batch.reshape(bins[0], -1, *batch.shape[3:])
        return _moved(still, rng, pixels, flip).reshape(batch.shape)
    n, _, h, w = batch.shape
    padded = np.pad(batch, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)), mode="edge")
    dy, dx = rng.integers(0, 2 * pixels + 1, (2, n))
    y, x = dy[:, None] + np.arange(h), dx[:, None] + np.arange(w)
    moved: np.ndarray = padded[np.arange(n)[:, None, None], :, y[:, :, None], x[:, None, :]].transpose(0, 3, 1, 2)
    if flip:
        mirror = rng.random(n) < 0.5
        moved[mirror] = moved[mirror][:, :, :, ::-1]
    return np.ascontiguousarray(moved)


def _mixed(x: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator, alpha: float) -> tuple[torch.Tensor, ...]:
    """Each image mixed with another of the batch (mixup): images, both labels, and the share (N,) of the first, of Beta(alpha, alpha)."""
    import torch

    partner = torch.from_numpy(rng.permutation(len(x)))
    share = torch.from_numpy(rng.beta(alpha, alpha, len(x)).astype(np.float32))
    of_first = share.reshape(-1, *[1] * (x.ndim - 1))
    return of_first * x + (1 - of_first) * x[partner], labels, labels[partner], share


class Fit:
    """One run of the pipeline; every stage is a checkpoint folder, made once."""

    def __init__(self, options: Options, out: Path, progress: Progress, data: Images, fabric: Any) -> None:
        self.options, self.out, self.progress, self.data, self.fabric = options, out, progress, data, fabric
        self.rows: list[dict[str, Any]] = []
        self.teacher: Checkpoint | None = None

    def run(self) -> Path:
        """Do what is not done yet; the checkpoint folder of the last stage."""
        o = self.options
        ann = self._stage("ann", "ANN", "ann", None, o.ann, None)
        self.teacher = self._teacher() if o.distillation.own else ann if o.distillation.weight else None
        last: Checkpoint = ann
        for steps, epochs in zip(o.schedule, o.epochs, strict=True):
            plan = dataclasses.replace(o.snn, epochs=epochs)
            last = self._stage(f"t{steps}", f"T={steps}", "stage", steps, plan, last)
        if o.sparsity.epochs:
            plan = dataclasses.replace(o.snn, epochs=o.sparsity.epochs)
            steps = o.schedule[-1]
            last = self._stage(f"t{steps}_sparse", f"T={steps}, few spikes", "stage", steps, plan, last, o.sparsity)
        if o.controls and o.schedule[-1] == 1:
            self._stage("converted_t1", "T=1 converted, not retrained", "control", 1, None, ann)
            plan = dataclasses.replace(o.snn, epochs=sum(o.epochs))
            self._stage("direct_t1", "T=1 trained directly from the ANN", "control", 1, plan, ann)
        if self.fabric.is_global_zero:
            result = {"score_name": "accuracy", "test_samples": len(self.data.test_images), "rows": self.rows, "deploy": last.folder.name}
            files.write_text(self.out / "result.json", files.canonical_json(result))
        self.fabric.barrier()
        return last.folder

    def _teacher(self) -> Checkpoint:
        """An ANN of another size, which only teaches."""
        o, d = self.options, self.options.distillation
        network = Network("custom", d.layers, d.hidden, o.network.dropout)
        plan = dataclasses.replace(o.ann, epochs=d.epochs or o.ann.epochs)
        fit = Fit(dataclasses.replace(o, network=network, ann=plan), self.out, self.progress, self.data, self.fabric)
        taught = fit._stage("teacher", "ANN, teacher", "teacher", None, plan, None)
        self.rows += fit.rows
        return taught

    def _taught_by(self, steps: int | None) -> Net | None:
        """The ANN that a stage learns from beside the labels."""
        if steps is None or self.teacher is None:
            return None
        net = build(options_of(self.teacher.facts["recipe"]), self.data, spiking=False)
        net.load_state_dict(self.teacher.state())
        return net.eval().requires_grad_(False)

    def _decided(self, name: str, steps: int | None, plan: Plan | None, source: Checkpoint | None, sparsity: Sparsity | None) -> dict[str, Any]:
        """All that a stage's weights follow from, and nothing of later stages, which can be tried at other values."""
        found: dict[str, Any] = {"stage": name, "plan": plan and dataclasses.asdict(plan), "source": source and source.sha256}
        recipe = dataclasses.asdict(self.options)
        if steps is None:
            return {**found, "recipe": {k: recipe[k] for k in ("network", "data", "seed")}}
        taught = plan is not None and self.teacher is not None
        later = {"sparsity": sparsity and dataclasses.asdict(sparsity), "distillation": taught and recipe["distillation"]}
        return {**found, "recipe": {**recipe, **later}, "teacher": self.teacher.sha256 if taught and self.teacher else None}

    def _stage(
        self, name: str, label: str, role: str, steps: int | None, plan: Plan | None, source: Checkpoint | None,
        sparsity: Sparsity | None = None,
    ) -> Checkpoint:  # fmt: skip
        """Train (or only convert) one network, unless its checkpoint is there and came from the same inputs."""
        import torch

        folder = self.out / name
        key = files.hash_of(self._decided(name, steps, plan, source, sparsity))
        try:
            done = open_checkpoint(folder)
        except EdgekitError:
            done = None
        if done is None or done.facts.get("key") != key:
            torch.manual_seed(self.options.seed)
            net = self._initial(steps, source)
            task = Task(self.data, self.options, steps, sparsity, frozenset(net.neurons), self._taught_by(steps))
            fitted = self._train(net, name, label, task, plan, key)
            facts = {
                "family": "iir_snn",
                "name": self.out.parent.name,
                "recipe": json.loads(files.canonical_json(dataclasses.asdict(self.options))),
                "steps": steps,
                "key": key,
                "row": self._row(net, label, role, steps, fitted, sparse=sparsity is not None),
            }
            if self.fabric.is_global_zero:
                # Beside the checkpoint, whose hash must be the same when the same training is done again.
                files.write_text(self.out / f"{name}.timing.json", files.canonical_json({"seconds": round(fitted.seconds, 2)}))
                save_checkpoint(folder, net, facts)
            self.fabric.barrier()
            done = open_checkpoint(folder)
        timing = json.loads((self.out / f"{name}.timing.json").read_text())
        self.rows.append({**done.facts["row"], **timing})
        return done

    def _initial(self, steps: int | None, source: Checkpoint | None) -> Net:
        from edgekit.models._iir_snn_net import convert, set_thresholds

        if source is None or steps is None:
            return build(self.options, self.data, spiking=False)
        if source.facts["steps"] is not None:  # the network of the stage before: weights, thresholds and leaks
            net = build(self.options, self.data, spiking=True)
            net.load_state_dict(source.state())
            return net
        ann = build(self.options, self.data, spiking=False)
        ann.load_state_dict(source.state())
        net = convert(ann.eval(), self.options.keep_norms)
        batch = normalise(for_steps(self.data.train_images[:512], steps), self.data)  # one batch of 512 (published code)
        set_thresholds(net, batch, steps, self.options.percentile)
        return net

    def _train(self, net: Net, name: str, label: str, task: Task, plan: Plan | None, key: str) -> Fitted:
        from edgekit.train import fit

        if plan is None:
            return Fitted(
                score=self._accuracy(net, task.steps, "validation"), epoch=0, epochs_run=0, seconds=0.0, history=()
            )
        return fit(
            self.fabric, net, task, plan, seed=self.options.seed, state_folder=self.out / f"{name}.state",
            progress=self.progress, what=label, key=key,
        )  # fmt: skip

    def _accuracy(self, net: Net, steps: int | None, split: str) -> float:
        import torch

        images, labels = getattr(self.data, f"{split}_images"), getattr(self.data, f"{split}_labels")
        net.eval()
        right = 0
        with torch.no_grad():
            for at in range(0, len(images), 200):
                part = images[at : at + 200]
                x = for_ann(part, self.data) if steps is None else normalise(for_steps(part, steps), self.data)
                logits = net(x, steps or 1)
                right += int((logits.argmax(1).numpy() == labels[at : at + 200]).sum())
        return right / max(1, len(images))

    def _row(self, net: Net, label: str, role: str, steps: int | None, fitted: Fitted, sparse: bool) -> dict[str, Any]:
        rates, estimates = self._energy(net, steps)
        return {
            "label": label,
            "role": role,
            "steps": steps,
            "score": self._accuracy(net, steps, "test"),
            "validation": self._accuracy(net, steps, "validation") if sparse else fitted.score,
            "epochs": fitted.epochs_run,
            "spikes_per_neuron": rates,
            "estimates": estimates,
        }

    def _energy(self, net: Net, steps: int | None) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Spikes per neuron and inference, and the priced operation counts, over the first COUNTED test images."""
        from edgekit.models._iir_snn_net import convert, fused, to_spiking_net

        images = self.data.test_images[:COUNTED]
        if steps is None:
            plain = to_spiking_net(convert(net.eval()), self.data.pixel_offset, self.data.pixel_max)
            counts = count_ann(plain, len(images))
            rates: dict[str, float] = {}
        else:
            spikes = self._count_spikes(net, images, steps)
            plain = to_spiking_net(fused(net), self.data.pixel_offset, self.data.pixel_max)
            counts = count(plain, spikes, steps=steps)
            rates = {k: round(float(v.mean()), 6) for k, v in spikes.items()}
        prices = prices_of("horowitz45-fp32")
        priced = [dataclasses.asdict(price(counts, prices, memory)) for memory in (False, True)]
        return rates, priced

    def _count_spikes(self, net: Net, images: np.ndarray, steps: int) -> dict[str, np.ndarray]:
        """Spikes of each neuron, summed over the steps: uint8 (N, *shape) per layer."""
        import torch

        found: dict[str, list[np.ndarray]] = {}
        now: dict[str, torch.Tensor] = {}

        def watch(layer: str, _: torch.Tensor, out: torch.Tensor) -> None:
            now[layer] = now[layer] + out if layer in now else out

        net.eval()
        with torch.no_grad():
            for at in range(0, len(images), 64):
                now.clear()
                net(normalise(for_steps(images[at : at + 64], steps), self.data), steps, watch)
                for layer, total in now.items():
                    found.setdefault(layer, []).append(total.numpy().astype(np.uint8))
        return {layer: np.concatenate(parts) for layer, parts in found.items()}
