"""PyTorch on the chapter's nets: its speed and memory, and its losses from the same recipe.

    python3 scripts/bench-peers.py --net NAME [--mode MODE] [--precision fp32|bf16]
                                   [--what train|predict] [--batch N] [--threads T]
    python3 scripts/bench-peers.py --net NAME [--batch N] --export FILE
    python3 scripts/bench-peers.py --net NAME --recipe-losses [--epochs N] [--limit N]
                                   [--seed N] [--lr LR] [--batch N] [--mode MODE] [--threads T]

Modes: eager (contiguous), channels_last, compile (torch.compile, which freezes the weights for
prediction); bf16 is autocast. The first form serves bursts as bursts.py tells, on random images
kept in memory: no loading. A training step is zero_grad, forward, loss, backward, an SGD step.
--export writes the net in prediction as ONNX, for batches of that size.

--recipe-losses trains on Fashion-MNIST as the book does (Xavier-uniform weights, SGD without
momentum, resized images, the smaller last batch used; no loss is left out of the mean) and prints

    epoch 1 loss 0.512, train acc 0.812, test acc 0.801, 84.2 s

Surprising: the first steps under torch.compile take up to minutes; warm-up swallows them.
"""

import time

import torch
from torch import nn
from torch._inductor import config as inductor
from torch.nn import functional as F

import bursts
import torch_nets

LAYOUT = {"channels_last": torch.channels_last}


def prepare(net, mode):
    net = net.to(memory_format=LAYOUT.get(mode, torch.contiguous_format))
    return torch.compile(net) if mode == "compile" else net


def to_layout(x, mode):
    return x.contiguous(memory_format=LAYOUT.get(mode, torch.contiguous_format))


def autocast(options):
    return torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16")


def prediction_step(net, x, options):
    net.eval()

    def predict():
        with torch.no_grad(), autocast(options):
            net(x)
    return predict


def training_step(net, x, y, options):
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def train():
        optimizer.zero_grad()
        with autocast(options):
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    return train


def make_step(recipe, options):
    torch.manual_seed(1)
    x = to_layout(torch.rand(options.batch, 1, recipe.size, recipe.size), options.mode)
    if options.what == "train":
        y = torch.randint(0, 10, (options.batch,))
        return training_step(prepare(recipe.build(), options.mode), x, y, options), None
    if options.mode == "compile":
        inductor.freezing = True
    return prediction_step(prepare(recipe.build(), options.mode), x, options), None


def export(recipe, options):
    torch.manual_seed(1)
    x = torch.rand(options.batch, 1, recipe.size, recipe.size)
    with torch.no_grad():
        torch.onnx.export(recipe.build().eval(), (x,), options.export, dynamo=True,
                          external_data=False, verbose=False)


# -------------------------------------------------------------------------------------- the recipe

def batches(split, order, size, options):
    images, labels = split
    for i in range(0, len(order), options.batch):
        rows = order[i:i + options.batch]
        yield to_layout(torch_nets.resized(images[rows], size), options.mode), labels[rows]


def accuracy(net, split, size, options):
    net.eval()
    right = 0
    with torch.no_grad(), autocast(options):
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
            with autocast(options):
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


def main():
    parser = bursts.parser(__doc__.split("\n", 1)[0], ("eager", "channels_last", "compile"))
    positive = bursts.positive
    parser.add_argument("--net", required=True, choices=torch_nets.NETS)
    parser.add_argument("--what", default="train", choices=("train", "predict"))
    parser.add_argument("--batch", type=positive(int), help="default: the recipe's")
    parser.add_argument("--export", metavar="FILE", help="write the net as ONNX")
    parser.add_argument("--recipe-losses", action="store_true", help="train on Fashion-MNIST")
    parser.add_argument("--epochs", type=positive(int), default=1)
    parser.add_argument("--limit", type=positive(int), help="first N training images")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=positive(float), help="default: the recipe's")
    options = parser.parse_args()
    recipe = torch_nets.NETS[options.net]
    options.batch = options.batch or recipe.batch
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    if options.export:
        export(recipe, options)
    elif options.recipe_losses:
        recipe_losses(options)
    else:
        bursts.serve(lambda: make_step(recipe, options), options)


if __name__ == "__main__":
    main()
