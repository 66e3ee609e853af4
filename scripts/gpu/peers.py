"""PyTorch on a card, as one of the two that take turns: serve.lua says how it is spoken to.

    python3 scripts/gpu/peers.py [--device cuda] <commands

MODE: eager (contiguous), channels_last, graphs (channels_last, the whole step captured as a CUDA
graph and replayed), compile (channels_last under torch.compile). PRECISION: fp32, tf32 (also in
matrix products), bf16 (autocast). A training step is zero_grad, forward, loss, backward, SGD; a
prediction ends with argmax, as cnnlua's does. cuDNN may choose by timing (benchmark = True).

Surprising: precision is PyTorch's global, and a captured graph keeps what it was captured with, so
whoever asks makes and measures one precision at a time.
"""

import argparse
import contextlib
import json
import os
import sys
import time

import torch
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import torch_nets  # noqa: E402

WARM_UP = {"compile": 4}
AT_ONCE = 4


def set_precision(precision):
    tf32 = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def make_step(net_name, mode, precision, what, batch, device):
    """A function that asks for one step, and the images of its batch."""
    recipe = torch_nets.NETS[net_name]
    batch = batch or recipe.batch
    torch.manual_seed(1)
    layout = torch.contiguous_format if mode == "eager" else torch.channels_last
    x = torch.rand(batch, 1, recipe.size, recipe.size, device=device).contiguous(
        memory_format=layout)
    y = torch.randint(0, 10, (batch,), device=device)
    net = recipe.build().to(device).to(memory_format=layout)
    run = torch.compile(net) if mode == "compile" else net

    def cast():
        if precision != "bf16":
            return contextlib.nullcontext()
        # a cached cast of a weight would be left out of a captured graph
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=mode != "graphs")

    def predict():
        with torch.no_grad(), cast():
            return run(x).argmax(1)

    if what == "predict":
        net.eval()
        return predict, batch
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)

    def train():
        optimizer.zero_grad()
        with cast():
            loss = F.cross_entropy(run(x), y)
        loss.backward()
        optimizer.step()
    return train, batch


def captured(step):
    """The step as a graph; the first steps run on a side stream, as PyTorch asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class Server:
    def __init__(self, device):
        self.device = torch.device(device)
        self.jobs = {}

    def make(self, name, net, mode, precision, what, batch):
        set_precision(precision)
        step, images = make_step(net, mode, precision, what, int(batch), self.device)
        for _ in range(WARM_UP.get(mode, 2)):
            step()
        synchronize(self.device)
        if mode == "graphs":
            step = captured(step)
            step()
        synchronize(self.device)
        self.jobs[name] = step, images
        return {}

    def go(self, name, seconds):
        step, images = self.jobs[name]
        steps, start, took = 0, time.perf_counter(), 0
        while took < float(seconds):
            for _ in range(AT_ONCE):
                step()
            synchronize(self.device)
            steps += AT_ONCE
            took = time.perf_counter() - start
        return {"images_per_s": steps * images / took, "steps": steps}

    def drop(self):
        self.jobs.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda")
    server = Server(parser.parse_args().device)
    commands = {"make": server.make, "go": server.go, "drop": server.drop}
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        try:
            answer = commands[words[0]](*words[1:])
        except Exception as error:  # whatever it is, it is the answer; the next command goes on
            text = str(error).strip().split("\n", 1)[0]
            answer = {"error": f"{type(error).__name__}: {text}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
