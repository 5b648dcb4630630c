"""Stream samples through a netx network in Lava's fixed-point simulation of Loihi 2, one sample per time step.

Runs in the isolated environment (see edgekit/runtimes/lava.py):
  python runner.py check                      imports everything and says which versions
  python runner.py MODEL.net GIVEN.npz OUT    OUT is a folder that is there already
GIVEN: k, int32 (N, ...) with C, H, W order; message_bits, int; spikes, bool.
OUT: v.npy, int64 (N, ...), the membrane of the last layer; spikes_<i>.npy, uint8 (N, ...), of each layer i before it.
Lava executes every .py file beside a process class, so this folder holds nothing else, and no process class. netx never
closes its file: one process reads one network.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import compat
import numpy as np


def main(arguments: list[str]) -> None:
    """`check`, or MODEL GIVEN OUT."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    compat.install()
    if arguments == ["check"]:
        from lava.lib.dl.netx import hdf5

        print(f"{hdf5.__name__} of lava-dl {version('lava-dl')} on lava-nc {version('lava-nc')}")
        return
    model, given, out = arguments
    with np.load(given) as file:
        k, message_bits, spikes = file["k"], int(file["message_bits"]), bool(file["spikes"])
    np.save(Path(out, "v.npy"), stream(model, k, message_bits, Path(out) if spikes else None))


def end_with(parent: int) -> None:
    """End this process and all that Lava forked from it when edgekit was killed; they are one group."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.killpg(0, signal.SIGKILL)


def stream(model: str, k: np.ndarray, message_bits: int, spikes: Path | None) -> np.ndarray:
    """The last layer's membranes, int64 (N, ...). `spikes`: the folder for the spikes of the layers before it."""
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc import io

    net = hdf5.Network(net_config=model, input_message_bits=message_bits)
    latency = len(net.layers)  # each layer delays by one step: sample i is in layer l (from 0) after step i + l + 1
    steps = len(k) + latency
    # Lava's axes are W, H, C and then time: the reverse of N, C, H, W.
    source = io.source.RingBuffer(data=np.ascontiguousarray(k.T))
    source.s_out.connect(net.inp)
    membrane = io.sink.Read(buffer=steps, interval=1, offset=0)
    membrane.connect_var(net.layers[-1].neuron.v)
    if spikes is not None:
        for number, layer in enumerate(net.layers[:-1]):
            _record(layer, number, spikes, len(k))
    sys.stdout.flush()  # children are forked, and would each write what is still in the buffer
    run = Loihi2SimCfg(
        select_tag="fixed_pt", loglevel=logging.ERROR, exception_proc_model_map={io.sink.RingBuffer: _file_sink()}
    )
    net.run(condition=RunSteps(num_steps=steps), run_cfg=run)
    read = membrane.data.get()[..., latency:]
    net.stop()
    return np.ascontiguousarray(read.T.astype(np.int64))


def _record(layer: Any, number: int, folder: Path, samples: int) -> None:
    from lava.proc import io

    path = folder / f"spikes_{number}.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (samples, *layer.out.shape[::-1])).flush()
    sink = io.sink.RingBuffer(shape=layer.out.shape, buffer=1)
    sink.proc_params["file"] = str(path)
    sink.proc_params["delay"] = number + 1
    layer.out.connect(sink.a_in)


def _file_sink() -> type:
    """A model of Lava's sink that writes each step to a file: Lava itself hands a buffer over number by number, 14 us
    each, which takes minutes for the maps of a small image network."""
    from lava.proc.io.sink import PyReceiveModelFixed

    class FileSink(PyReceiveModelFixed):  # type: ignore[misc]
        def __init__(self, proc_params: Any) -> None:
            super().__init__(proc_params)
            self.spikes = np.lib.format.open_memmap(proc_params["file"], "r+")
            self.delay = proc_params["delay"]

        def run_spk(self) -> None:
            row = self.time_step - 1 - self.delay
            arrived = self.a_in.recv()
            if 0 <= row < len(self.spikes):
                self.spikes[row] = arrived.T

    return FileSink


if __name__ == "__main__":
    main(sys.argv[1:])
