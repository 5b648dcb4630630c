"""Stream samples through a netx network in Lava's fixed-point simulation of Loihi 2, one sample per time step.

Runs in the isolated environment: python runner.py MODEL.net IN.npz OUT.npz
  IN:  k, int32 (N, ...) in C, H, W order; message_bits, int; spikes, bool
  OUT: v, int64 (N, ...), the membrane of the last layer; spikes_<i>, uint8 (N, ...), of every layer i but the last
Lava executes every .py file beside a process class, so this folder holds nothing else.
"""

import logging
import sys

import compat
import numpy as np


def main(model: str, given: str, result: str) -> None:
    """Run the network once over all samples."""
    with np.load(given) as file:
        k, message_bits, spikes = file["k"], int(file["message_bits"]), bool(file["spikes"])
    np.savez(result, **stream(model, k, message_bits, spikes))


def stream(model, k, message_bits, spikes):
    compat.install()
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc import io

    net = hdf5.Network(net_config=model, input_message_bits=message_bits)
    latency = len(net.layers)
    steps = len(k) + latency
    source = io.source.RingBuffer(data=np.ascontiguousarray(k.T))
    source.s_out.connect(net.inp)
    membrane = io.sink.Read(buffer=steps, interval=1, offset=0)
    membrane.connect_var(net.layers[-1].neuron.v)
    sinks = []
    if spikes:
        for layer in net.layers[:-1]:
            sink = io.sink.RingBuffer(shape=layer.out.shape, buffer=steps)
            layer.out.connect(sink.a_in)
            sinks.append(sink)
    sys.stdout.flush()
    import time
    t=time.time()
    net.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt", loglevel=logging.ERROR))
    print("run",time.time()-t); t=time.time()
    out = {"v": membrane.data.get()[..., latency:].T.astype(np.int64)}
    print("get",time.time()-t); t=time.time()
    for i, sink in enumerate(sinks):
        out[f"spikes_{i}"] = sink.data.get()[..., i + 1 : i + 1 + len(k)].T.astype(np.uint8)
    print("getsp",time.time()-t)
    net.stop()
    return out


if __name__ == "__main__":
    main(*sys.argv[1:])
