"""PyTorch on the chapter's nets: its speed and memory, and its losses from the same recipe.

    python3 scripts/bench-peers.py --net NAME --mode MODE --what train|predict
                                   [--batch N] [--seconds S] [--threads T] [--serve]
    python3 scripts/bench-peers.py --net NAME --recipe-losses [--epochs N] [--limit N]
                                   [--seed N] [--lr LR] [--batch N] [--mode MODE] [--threads T]

Modes: eager (contiguous), channels_last, compile (torch.compile). A training step is zero_grad,
forward, loss, backward, an SGD step, on random images kept in memory: no loading. Speed runs print
one JSON object:

    {"net", "mode", "what", "batch", "threads", "torch",
     "images_per_s": {"median", "min", "max"}, "peak_mb", "base_mb"}

peak_mb is VmHWM in MiB; base_mb is the same before the net was made, so what PyTorch itself takes.
The spread is over ten slices of the time, or, with --serve, over the bursts.

--serve lets another program alternate with this one in one run. After warm-up a line "ready" is
printed; for each line "go" on stdin (or "go SECONDS") one burst is timed and
{"images_per_s": X, "steps": N, "seconds": S} printed; the end of stdin prints the object above.

--recipe-losses trains on Fashion-MNIST as the book does (Xavier-uniform weights, SGD without
momentum, resized images, the smaller last batch used; no loss is left out of the mean) and prints

    epoch 1 loss 0.512, train acc 0.812, test acc 0.801, 84.2 s

Surprising: the first steps under torch.compile take up to minutes; warm-up swallows them.
"""

import argparse
import json
import re
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

import torch_nets

LAYOUT = {"channels_last": torch.channels_last}


def peak_mb():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) / 1024


def prepare(net, mode):
    net = net.to(memory_format=LAYOUT.get(mode, torch.contiguous_format))
    return torch.compile(net) if mode == "compile" else net


def to_layout(x, mode):
    return x.contiguous(memory_format=LAYOUT.get(mode, torch.contiguous_format))


def make_step(recipe, options):
    """A function without arguments: one training step or one prediction of a batch."""
    torch.manual_seed(1)
    x = to_layout(torch.rand(options.batch, 1, recipe.size, recipe.size), options.mode)
    y = torch.randint(0, 10, (options.batch,))
    net = prepare(recipe.build(), options.mode)

    def predict():
        with torch.no_grad():
            net(x)

    if options.what == "predict":
        net.eval()
        return predict
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def train():
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return train


def burst(step, batch, seconds):
    """Steps for at least `seconds`, one at the least."""
    steps, start = 0, time.perf_counter()
    while True:
        step()
        steps += 1
        took = time.perf_counter() - start
        if took >= seconds:
            return {"images_per_s": round(steps * batch / took, 2), "steps": steps,
                    "seconds": round(took, 4)}


def serve(step, options):
    print("ready", flush=True)
    bursts = []
    for line in sys.stdin:
        words = line.split()
        if not words or words[0] != "go" or len(words) > 2:
            sys.exit(f"bench-peers.py: expected \"go [SECONDS]\", got {line.strip()!r}")
        bursts.append(burst(step, options.batch, float(words[1]) if words[1:] else options.seconds))
        print(json.dumps(bursts[-1]), flush=True)
    return bursts


def measure(options):
    base = peak_mb()
    step = make_step(torch_nets.NETS[options.net], options)
    for _ in range(2):
        step()
    burst(step, options.batch, min(options.seconds, 1))
    if options.serve:
        bursts = serve(step, options)
    else:
        bursts, end = [], time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            bursts.append(burst(step, options.batch, options.seconds / 10))
    result = {"net": options.net, "mode": options.mode, "what": options.what,
              "batch": options.batch, "threads": options.threads, "torch": torch.__version__}
    if bursts:
        rates = [b["images_per_s"] for b in bursts]
        result["images_per_s"] = {"median": round(statistics.median(rates), 2),
                                  "min": min(rates), "max": max(rates)}
    result.update(peak_mb=round(peak_mb(), 1), base_mb=round(base, 1))
    print(json.dumps(result), flush=True)


# -------------------------------------------------------------------------------------- the recipe

def batches(split, order, size, options):
    images, labels = split
    for i in range(0, len(order), options.batch):
        rows = order[i:i + options.batch]
        yield to_layout(torch_nets.resized(images[rows], size), options.mode), labels[rows]


def accuracy(net, split, size, options):
    net.eval()
    right = 0
    with torch.no_grad():
        for x, y in batches(split, torch.arange(len(split[1])), size, options):
            right += (net(x).argmax(1) == y).sum().item()
    return right / len(split[1])


def init_weights(module):
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)


def recipe_losses(options):
    recipe = torch_nets.NETS[options.net]
    torch.manual_seed(options.seed)
    net = recipe.build()
    net.apply(init_weights)
    net = prepare(net, options.mode)
    train, test = torch_nets.fashion_mnist("train", options.limit), torch_nets.fashion_mnist("t10k")
    optimizer = torch.optim.SGD(net.parameters(), lr=options.lr or recipe.lr)
    for epoch in range(1, options.epochs + 1):
        start, loss_sum, right, seen = time.perf_counter(), 0.0, 0, 0
        net.train()
        for x, y in batches(train, torch.randperm(len(train[1])), recipe.size, options):
            optimizer.zero_grad()
            out = net(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
            right += (out.argmax(1) == y).sum().item()
            seen += len(y)
        took = time.perf_counter() - start
        print(f"epoch {epoch} loss {loss_sum / seen:.3f}, train acc {right / seen:.3f}, "
              f"test acc {accuracy(net, test, recipe.size, options):.3f}, {took:.1f} s", flush=True)


def positive(kind):
    def parse(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"expected more than 0, got {text}")
        return value
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--net", required=True, choices=torch_nets.NETS)
    parser.add_argument("--mode", default="eager", choices=("eager", "channels_last", "compile"))
    parser.add_argument("--what", default="train", choices=("train", "predict"))
    parser.add_argument("--batch", type=positive(int), help="default: the recipe's")
    parser.add_argument("--seconds", type=positive(float), default=10.0)
    parser.add_argument("--threads", type=positive(int), default=2)
    parser.add_argument("--serve", action="store_true", help="timed bursts, one for each \"go\"")
    parser.add_argument("--recipe-losses", action="store_true", help="train on Fashion-MNIST")
    parser.add_argument("--epochs", type=positive(int), default=1)
    parser.add_argument("--limit", type=positive(int), help="first N training images")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=positive(float), help="default: the recipe's")
    options = parser.parse_args()
    options.batch = options.batch or torch_nets.NETS[options.net].batch
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    if options.recipe_losses:
        recipe_losses(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
