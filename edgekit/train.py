"""The one training loop: on one device or many, resumable after every epoch, keeping the weights that validate best."""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import logging
import math
import os
import random
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from edgekit import files, training_state
from edgekit.checkpoint import tensors_of
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress
from edgekit.optimizers import Average, load_moments, moments_of, optimizers_of, set_rate
from edgekit.plan import Plan
from edgekit.training_state import State

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    Batch = tuple[torch.Tensor, ...]

__all__ = ["Fitted", "Plan", "Task", "fit", "launch"]

CHECK_EVERY = 50  # training steps between two looks at the loss: each look makes a GPU wait


class Task(Protocol):
    """The three hooks that a family gives to the loop."""

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[Batch]:
        """Global batches of tensors (samples, ...) on the CPU, augmented; the same in every process.

        They follow from epoch (1-based) and seed alone. Training drops the last, partial batch unless it is the only one.
        """

    def loss(self, module: Any, batch: Batch) -> torch.Tensor:
        """The loss to minimise, a scalar: the mean over the batch. Every batch uses the same weights (DDP counts on it)."""

    def score(self, module: Any, batch: Batch) -> torch.Tensor:
        """How many samples of the batch are right (a sum); more is better."""


@dataclass(frozen=True)
class Fitted:
    """What a fit reached. `history` has a row an epoch: epoch, loss, score, learning_rate, seconds."""

    score: float  # share of right validation samples at the best epoch, 0..1
    epoch: int  # the best one, 1-based; the latest of equals
    epochs_run: int
    seconds: float  # of all epochs, also those before an interruption
    history: tuple[dict[str, Any], ...]


def launch(devices: int = 1, nodes: int = 1) -> Fabric:
    """The processes of a training: `devices` on each of `nodes` machines, on GPUs where torch sees any, else CPUs.

    With more than one device this process starts the others by running its own command line again (torch DDP). With
    more than one node the command is started once a node, with MASTER_ADDR, MASTER_PORT and NODE_RANK set.
    Raises EdgekitError when this machine cannot do it.
    """
    # Small networks share each operation among threads for microseconds; where other work uses the cores, threads that
    # spin while they wait made training ten times slower. OpenMP reads this when torch is imported, so it comes before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    _check_machine(devices, nodes, torch.cuda.device_count() if accelerator == "cuda" else None)
    with _quiet():
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

        for name in ("lightning_fabric", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if devices * nodes == 1:
            return Fabric(accelerator=accelerator, devices=1)
        # A one-timestep network never uses its leaks. A static graph lets DDP learn that in the first step, and not wait.
        strategy = DDPStrategy(static_graph=True)
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
        try:
            fabric.launch()
        except (RuntimeError, OSError) as error:
            where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise EdgekitError(
                f"{devices * nodes} processes could not meet at {where} ({error}); "
                "check MASTER_ADDR and MASTER_PORT, and start one command on each node"
            ) from None
        atexit.register(_leave)
    return fabric


def fit(  # noqa: PLR0913 - all of it decides the result or where it is kept
    fabric: Fabric, module: torch.nn.Module, task: Task, plan: Plan, *,
    seed: int, state_folder: Path, progress: Progress, what: str, key: str = "",
) -> Fitted:  # fmt: skip
    """Fit the weights of `module` by `plan`, and leave in it, on the CPU, those of the best validation score.

    Killed and called again with an equal module, it goes on after the last whole epoch in `state_folder` and ends with
    the same weights, bit for bit on one CPU process. A state of another plan, seed, initial weights, data or `key` (a
    hash of whatever else decides the result) is not used. Several processes give the weights of one with the same
    global batch, up to rounding; only batch norm sees its own share of the batch.

    Raises EdgekitError when the batch cannot be shared among the processes or the loss is no longer finite.
    """
    if plan.batch_size % fabric.world_size:
        raise EdgekitError(
            f"batch_size {plan.batch_size} cannot be shared evenly by {fabric.world_size} processes; "
            "choose a multiple, or another number of devices"
        )
    state = None
    identity = ""
    if fabric.is_global_zero:
        identity = _identity(module, task, plan, seed, key)
        state = training_state.read(state_folder, identity)
    state = fabric.broadcast(state)  # to nodes that do not share the folder
    if state is None or not state.finished:
        state = _Run(fabric, module, task, plan, seed, identity, state).until_done(state_folder, progress, what)
    module.to("cpu").load_state_dict(dict(state.best))
    module.eval()
    if fabric.is_global_zero:
        progress(what, plan.epochs, plan.epochs)
    best = state.history[state.best_epoch - 1]
    seconds = sum(row["seconds"] for row in state.history)
    return Fitted(best["score"], state.best_epoch, len(state.history), seconds, state.history)


class _Run:
    """The epochs of one fit that are still to do."""

    def __init__(
        self, fabric: Fabric, module: torch.nn.Module, task: Task, plan: Plan, seed: int, identity: str, state: State | None
    ) -> None:  # fmt: skip
        self.fabric, self.module, self.task, self.plan, self.seed = fabric, module, task, plan, seed
        self.state = state or State(identity, False, (), 0, {}, {}, {}, {})
        if state:
            module.load_state_dict(dict(state.model))
        self.optimizers = optimizers_of(plan, module)
        with _quiet():
            self.wrapped, *self.steppers = fabric.setup(module, *self.optimizers)
        if state:
            load_moments(self.optimizers, state.optimizer)
        self.average = Average(module, plan.average, self.state.average, self.state.steps)

    def until_done(self, folder: Path, progress: Progress, what: str) -> State:
        """Train until the plan is done or patience is out; store the state after every epoch."""
        while not self.state.finished:
            epoch = len(self.state.history) + 1
            if self.fabric.is_global_zero:
                progress(what, epoch - 1, self.plan.epochs)
            self.state = self._epoch(epoch)
            if self.fabric.is_global_zero:
                training_state.write(folder, self.state)
            self.fabric.barrier()
        return self.state

    def _epoch(self, epoch: int) -> State:
        start = time.perf_counter()
        _seed_all(self.seed, epoch, self.fabric.global_rank)
        set_rate(self.optimizers, self.plan.rate(epoch))
        loss = self._train(epoch)
        score = self._validate(epoch)
        row = {
            "epoch": epoch,
            "loss": loss,
            "score": score,
            "learning_rate": self.plan.rate(epoch),
            "seconds": time.perf_counter() - start,
        }
        history = (*self.state.history, row)
        scores = [r["score"] for r in history]
        better = self.state.best_epoch == 0 or score >= scores[self.state.best_epoch - 1]
        weights = tensors_of(self.module)
        kept = tensors_of(self.average.averaged) if self.plan.average else weights
        waited = epoch - (scores.index(max(scores)) + 1)  # epochs since the best score was first reached
        finished = epoch >= self.plan.epochs or 0 < self.plan.patience <= waited
        return State(
            self.state.identity,
            finished,
            history,
            epoch if better else self.state.best_epoch,
            kept if better else self.state.best,
            {} if finished else weights,
            {} if finished else moments_of(self.optimizers),
            {} if finished or not self.plan.average else kept,
            self.average.steps,
        )

    def _train(self, epoch: int) -> float:
        """One pass over the training data; the mean loss."""
        import torch

        self.wrapped.train()
        total = torch.zeros((), device=self.fabric.device)
        steps = 0
        for batch in self.task.batches("train", epoch, self.seed, self.plan.batch_size):
            if len(batch[0]) % self.fabric.world_size:
                raise EdgekitError(
                    f"the only training batch has {len(batch[0])} samples, which {self.fabric.world_size} processes cannot "
                    "share evenly; choose a smaller batch_size, or fewer devices"
                )
            for stepper in self.steppers:
                stepper.zero_grad()
            with torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
                loss = self.task.loss(self.wrapped, self._share(batch))
            self.fabric.backward(loss)
            if self.plan.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.plan.clip_norm)
            for stepper in self.steppers:
                stepper.step()
            self.average.update()
            total += loss.detach()
            steps += 1
            if steps % CHECK_EVERY == 0:
                self._mean_loss(total, steps, epoch)
        if not steps:
            raise EdgekitError("there are no training samples; give the recipe more data")
        return self._mean_loss(total, steps, epoch)

    def _mean_loss(self, total: torch.Tensor, steps: int, epoch: int) -> float:
        reduced: Any = self.fabric.all_reduce(total.clone(), reduce_op="mean")
        mean = float(reduced) / steps
        if not math.isfinite(mean):
            raise EdgekitError(
                f"the loss is {mean} in epoch {epoch}, at learning_rate {self.plan.rate(epoch):g}; "
                "lower learning_rate, or limit the gradients with clip_norm = 1.0"
            )
        return mean

    def _validate(self, epoch: int) -> float:
        """The share of right validation samples, over all processes."""
        import torch

        if self.fabric.world_size > 1:  # running statistics are those of the first process, as DDP keeps them
            for buffer in self.module.buffers():
                torch.distributed.broadcast(buffer, 0)
        self.average.averaged.eval()
        self.wrapped.eval()
        right = torch.zeros(2, dtype=torch.float64, device=self.fabric.device)  # right samples, all samples
        with torch.no_grad():
            for batch in self.task.batches("validation", epoch, self.seed, self.plan.batch_size):
                share = self._share(batch)
                if len(share[0]):
                    right[0] += self.task.score(self.average.averaged, share)
                    right[1] += len(share[0])
        reduced: Any = self.fabric.all_reduce(right, reduce_op="sum")
        if not reduced[1]:
            raise EdgekitError("there are no validation samples to choose the best epoch by; give the recipe more data")
        return float(reduced[0] / reduced[1])

    def _sum(self, mine: torch.Tensor) -> torch.Tensor:
        """The sum over all processes; `mine` stays as it is."""
        summed: torch.Tensor = self.fabric.all_reduce(mine.clone(), reduce_op="sum")  # type: ignore[assignment]
        return summed

    def _share(self, batch: Batch) -> Batch:
        """Every world_size-th sample of a global batch, on this process's device."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        moved: Batch = self.fabric.to_device(tuple(t[rank::world] if world > 1 else t for t in batch))
        return moved


def _leave() -> None:
    """Close the connections between the processes while Python still runs: their threads must not outlive it."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _check_machine(devices: int, nodes: int, gpus: int | None) -> None:
    if devices < 1 or nodes < 1:
        raise EdgekitError(f"training needs at least 1 device and 1 node, found {devices} and {nodes}")
    if gpus is not None and devices > gpus:
        raise EdgekitError(f"{devices} devices were asked for, this machine has {gpus} GPUs; use --devices {gpus}")
    started_from_outside = {"LOCAL_RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"} & set(os.environ)
    needed = [v for v in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if v not in os.environ]
    if nodes > 1 and needed and not started_from_outside:
        raise EdgekitError(
            f"{nodes} nodes were asked for, but {', '.join(needed)} are not set; start the command once on each node, "
            "MASTER_ADDR and MASTER_PORT naming the first node, NODE_RANK counting from 0"
        )
    script = getattr(sys.modules["__main__"], "__spec__", None) or Path(sys.argv[0]).is_file()
    if devices > 1 and not script and not started_from_outside:
        raise EdgekitError(
            f"{devices} devices need {devices} processes that run the same command, but this one came from no file; "
            "put it in a script, or use `edgekit train RECIPE --devices N`"
        )


def _identity(module: torch.nn.Module, task: Task, plan: Plan, seed: int, key: str) -> str:
    """A hash of what decides the result: plan, seed, key, initial weights, the first batch."""
    weights = hashlib.sha256()
    for name, tensor in tensors_of(module).items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    data = hashlib.sha256()
    for tensor in next(iter(task.batches("train", 1, seed, plan.batch_size)), ()):
        data.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return files.hash_of([dataclasses.asdict(plan), seed, key, weights.hexdigest(), data.hexdigest()])


def _seed_all(seed: int, epoch: int, rank: int) -> None:
    """Seed Python, numpy and torch from these three, so that an epoch draws the same numbers after a restart."""
    import torch

    drawn = int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)  # noqa: NPY002
    torch.manual_seed(drawn)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that Lightning and torch print for people who configure them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
