"""Makes the goldens under spec/golden/ from PyTorch. Neither build nor tests run this.

    python3 scripts/oracle.py                 all of them (some minutes)
    python3 scripts/oracle.py densenet ops    these alone
    python3 scripts/oracle.py check           Philox against Random123's known answers, counts

It needs PyTorch, numpy and Fashion-MNIST ($CNNLUA_DATA, or where Debian's package puts it).
The cases of ops.json are in oracle_ops.py, the nets in torch_nets.py.

GENERATED WEIGHTS. Weights are not shipped; both sides make them. Philox4x32-10, key
{lo32(seed), hi32(seed)}, counter {lo32(i/4), hi32(i/4), lo32(stream), hi32(stream)}: element i
(from 0) takes output word i%4, and u = (word >> 8) * 2^-24, exact in float32. Parameter j (from 1,
in the order of definition) has seed 7 and stream 1000 + j; its elements are counted in PyTorch's
logical order (O, I, kh, kw row-major). In double, rounded to float32 once at the end:

    value = lo + (hi - lo) * u

with lo, hi = -a, a for weights, a = sqrt(6 / (fan_in + fan_out)); -0.05, 0.05 for biases; 0.8, 1.2
for batch norm's gamma; -0.1, 0.1 for its beta. Running statistics start at 0 and 1.

NETS, spec/golden/NET.json. Batch k (from 1) holds `batch` consecutive test images, the first one
at first + (k-1)*batch (from 1), uint8/255, resized bilinearly to `input`. Dropout is off,
everything else trains. SGD without momentum at `lr`; step s (from 1) takes batch
(s-1) % batches + 1. Values come from a float64 run; a key that ends in 32 is the same from float32,
or the worst of four float32 runs: contiguous and channels_last, each with and without oneDNN.

    net, torch, seed, input [c h w], first, batch, batches, steps, recipe_lr
    lr                where recipe_lr is chaotic or diverges on so few images, a lower one
    labels            batches*batch classes, from 1
    parameter_count, macs (convolutions and linear layers, one image)
    parameters        in the order of definition, each:
                        index (from 1), stream, kind (conv_weight conv_bias linear_weight
                        linear_bias norm_gamma norm_beta), shape, count, lo, hi;
                        at (some flat indices, from 1), value_at, grad_at, grad_at32 (there),
                        grad_norm, grad_norm32 (L2; of the first batch's loss),
                        grad_norm_error32 (max |float32 - grad_norm| over the four runs)
    logits, logits32  [batch][10] of the first batch, before the first step
    losses, losses32  [steps] the loss before each update; losses[1] belongs to logits
    loss_error32      [steps] max |float32 - losses| over the four runs and the steps so far
    eval_logits, eval_logits32   [batch][10] of the first batch in prediction mode after the steps
    demos             [{input [n c h w], layers [{type, output}]}] of the net's children in order:
                      the text's demonstration, then the recipe's input where it is another

Surprising: a ReLU input within rounding of zero makes a gradient jump. One such unit of the 73,728
in one of ResNet's inner layers turns every gradient below it by 0.5 %, in PyTorch's float32 as in
ours, and every step enlarges it. So `first` was chosen, once, out of up to 24 places a net, as one
where neither turning oneDNN off nor noise of a unit in the last place of the weights moves a
gradient norm by more than 3e-4 (channels_last still does, by 6e-3 in ResNet), and ResNet and
DenseNet take lower rates.

A bias in front of a batch norm has gradient 0: grad_norm is then rounding noise, so compare
relative to the largest grad_norm of the net as well.

BLOCKS, spec/golden/blocks.json: [{block, args, input, output}], the text's demonstrations.

PICTURES, spec/golden/pictures.json: where a net of two residual blocks, an average and a linear
layer looks on the first two test images, in prediction mode. seed, parameters as above; gradcam
[{layer, class, maps [2][h][w]}], the maps before they are resized; occlusion {class, size, stride,
value, values [2][rows][columns]}, the class's probability with the square at each place.
"""

import json
import math
import os
import sys

import numpy as np
import torch
from torch import nn

import oracle_ops
import torch_nets

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "spec", "golden")
SEED, BATCHES, STEPS = 7, 5, 20
BATCH = {224: 4, 96: 8, 28: 16}
FIRST = {"alexnet": 20, "vgg": 120, "googlenet": 440, "resnet": 280, "densenet": 520}  # skipped
LR = {"resnet": 2e-5, "densenet": 3e-4}
RUNS32 = [(layout, onednn) for layout in (torch.contiguous_format, torch.channels_last)
          for onednn in (True, False)]


# ---------------------------------------------------------------------------------------- Philox

def philox(counter, key):
    """Philox4x32-10 on four arrays of 32-bit counter words (as uint64) and two key words."""
    c, k, low = list(counter), list(key), np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), p1 & low,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p0 & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform(seed, stream, count):
    """`count` numbers in [0, 1), multiples of 2^-24, float32."""
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    counter = [block & low, block >> np.uint64(32),
               np.full_like(block, stream & 0xFFFFFFFF), np.full_like(block, stream >> 32)]
    words = np.stack(philox(counter, (seed & 0xFFFFFFFF, seed >> 32)), axis=1).reshape(-1)[:count]
    return (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0 ** -24)


def check_philox():
    """Random123's kat_vectors for philox4x32 with 10 rounds."""
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
    answers = (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi[:4], pi[4:], (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)))
    for counter, key, expected in answers:
        words = philox([np.array([c], np.uint64) for c in counter], key)
        assert tuple(int(w[0]) for w in words) == expected, (counter, key)


# ------------------------------------------------------------------------------------ parameters

def parameter_specs(net):
    """One dict a parameter, in the order of definition: kind, shape, count, stream, lo, hi."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, torch_nets.BatchNorm)
    specs, seen = [], []
    for module in net.modules():
        for name, p in module.named_parameters(recurse=False):
            seen.append(p)
            shape = list(p.shape)
            if isinstance(module, norms):
                kind, lo, hi = (("norm_gamma", 0.8, 1.2) if name in ("weight", "gamma")
                                else ("norm_beta", -0.1, 0.1))
            else:
                layer = "conv" if isinstance(module, nn.Conv2d) else "linear"
                kind, lo, hi = f"{layer}_{name}", -0.05, 0.05
                if name == "weight":
                    taps = math.prod(shape[2:])
                    hi = math.sqrt(6 / ((shape[0] + shape[1]) * taps))
                    lo = -hi
            index = len(seen)
            specs.append({"index": index, "stream": 1000 + index, "kind": kind, "shape": shape,
                          "count": p.numel(), "lo": lo, "hi": hi})
    assert all(a is b for a, b in zip(seen, net.parameters(), strict=True))
    return specs


def generate_weights(net, specs):
    for spec, p in zip(specs, net.parameters(), strict=True):
        u = uniform(SEED, spec["stream"], spec["count"]).astype(np.float64)
        value = (spec["lo"] + (spec["hi"] - spec["lo"]) * u).astype(np.float32)
        with torch.no_grad():
            p.copy_(torch.from_numpy(value).view(p.shape))


# ----------------------------------------------------------------------------------------- a run

def build(name, dtype, memory_format=torch.contiguous_format):
    net = torch_nets.NETS[name].build()
    specs = parameter_specs(net)
    generate_weights(net, specs)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net.to(dtype).to(memory_format=memory_format), specs


def train(name, lr, dtype, memory_format=torch.contiguous_format):
    """STEPS steps; the losses, the first logits and gradients, the last predictions."""
    recipe = torch_nets.NETS[name]
    batch = BATCH[recipe.size]
    net, specs = build(name, dtype, memory_format)
    skip = FIRST.get(name, 0)
    images, labels = (t[skip:] for t in torch_nets.fashion_mnist("t10k", skip + BATCHES * batch))
    x = torch_nets.resized(images, recipe.size, dtype).contiguous(memory_format=memory_format)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    run = {"losses": [], "specs": specs, "labels": labels}
    net.train()
    for step in range(STEPS):
        first = step % BATCHES * batch
        optimizer.zero_grad()
        logits = net(x[first:first + batch])
        loss = nn.functional.cross_entropy(logits, labels[first:first + batch])
        loss.backward()
        if step == 0:
            run["logits"] = logits.detach()
            run["values"] = [spread(p.detach()) for p in net.parameters()]
            # The norm in double: float32's own sum over AlexNet's 26 M squares is 5e-4 off.
            run["grads"] = [(p.grad.double().norm().item(), spread(p.grad))
                            for p in net.parameters()]
        run["losses"].append(loss.item())
        optimizer.step()
    net.eval()
    with torch.no_grad():
        run["eval_logits"] = net(x[:batch])
    return run


def positions(count):
    """Four flat indices (from 0) from the first element to the last."""
    return [k * (count - 1) // 3 for k in range(4)]


def spread(t):
    """The elements there, counted in logical order whatever the layout."""
    return t.contiguous().view(-1)[positions(t.numel())]


def loss_error(reference, *others):
    """The largest deviation so far, step by step."""
    worst, out = 0.0, []
    for step, r in enumerate(reference):
        worst = max([worst] + [abs(o[step] - r) for o in others])
        out.append(worst)
    return out


# --------------------------------------------------------------------------------- shapes, counts

def count_macs(name):
    recipe, total = torch_nets.NETS[name], 0

    def hook(module, _, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    net = recipe.build().eval()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(hook)
    with torch.no_grad():
        net(torch.zeros(1, 1, recipe.size, recipe.size))
    return total


def demonstrate(name, size):
    net, x, layers = torch_nets.NETS[name].build().eval(), torch.zeros(1, 1, size, size), []
    with torch.no_grad():
        for layer in net:
            x = layer(x)
            layers.append({"type": type(layer).__name__, "output": list(x.shape)})
    return {"input": [1, 1, size, size], "layers": layers}


def golden_blocks():
    cases, shape = [], [4, 3, 8, 8]

    def add(block, args, function, shape):
        output = list(function(torch.rand(shape)).shape)
        cases.append({"block": block, "args": args, "input": shape, "output": output})
        return output

    add("Residual", [3, 3], torch_nets.Residual(3, 3), [4, 3, 6, 6])
    add("Residual", [3, 6, {"use_1x1conv": True, "strides": 2}],
        torch_nets.Residual(3, 6, use_1x1conv=True, strides=2), [4, 3, 6, 6])
    shape = add("DenseBlock", [2, 3, 10], torch_nets.DenseBlock(2, 3, 10), shape)
    add("transition_block", [23, 10], torch_nets.transition_block(23, 10), shape)
    add("Inception", [192, 64, [96, 128], [16, 32], 32],
        torch_nets.Inception(192, 64, (96, 128), (16, 32), 32), [1, 192, 12, 12])
    add("vgg_block", [2, 64, 128], torch_nets.vgg_block(2, 64, 128), [1, 64, 56, 56])
    add("nin_block", [1, 96, 11, 4, 0], torch_nets.nin_block(1, 96, 11, 4, 0), [1, 1, 224, 224])
    return cases


# -------------------------------------------------------------------------------------- pictures

def gradcam(net, layer, x, label):
    seen = []

    def hook(module, _, output):
        output.retain_grad()
        seen.append(output)

    handle = net.get_submodule(layer).register_forward_hook(hook)
    net(x)[:, label - 1].sum().backward()
    handle.remove()
    weights = seen[0].grad.mean((2, 3), keepdim=True)
    return (seen[0] * weights).sum(1).relu()


def occlusion(net, x, label, size, stride, value):
    rows = []
    for top in range(0, x.shape[2] - size + 1, stride):
        row = []
        for left in range(0, x.shape[3] - size + 1, stride):
            covered = x.clone()
            covered[:, :, top:top + size, left:left + size] = value
            row.append(net(covered).softmax(1)[:, label - 1])
        rows.append(torch.stack(row, 1))
    return torch.stack(rows, 1)


def golden_pictures():
    net = nn.Sequential(
        torch_nets.Residual(1, 6, use_1x1conv=True, strides=2), torch_nets.Residual(6, 8, True, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    specs = parameter_specs(net)
    generate_weights(net, specs)
    net.to(torch.float64).eval()
    images, _ = torch_nets.fashion_mnist("t10k", 2)
    x = torch_nets.resized(images, 28, torch.float64)
    # A child is counted from 1 there, from 0 here.
    cases = [{"layer": ours, "class": label, "maps": gradcam(net, theirs, x, label).tolist()}
             for ours, theirs, label in (("1", "0", 2), ("1.bn1", "0.bn1", 7), ("2", "1", 2))]
    how = {"class": 2, "size": 8, "stride": 5, "value": 0.5}
    with torch.no_grad():
        values = occlusion(net, x, how["class"], how["size"], how["stride"], how["value"])
    return {"seed": SEED, "parameters": specs, "gradcam": cases,
            "occlusion": {**how, "values": values.tolist()}}


# ------------------------------------------------------------------------------------- the goldens

def golden_net(name):
    recipe = torch_nets.NETS[name]
    lr = LR.get(name, recipe.lr)
    wide = train(name, lr, torch.float64)
    runs = []
    for layout, onednn in RUNS32:
        with torch.backends.mkldnn.flags(enabled=onednn):
            runs.append(train(name, lr, torch.float32, layout))
    narrow = runs[0]
    for i, spec in enumerate(wide["specs"]):
        spec["at"] = [i + 1 for i in positions(spec["count"])]
        spec["value_at"] = wide["values"][i].tolist()
        for suffix, run in (("", wide), ("32", narrow)):
            spec["grad_norm" + suffix] = run["grads"][i][0]
            spec["grad_at" + suffix] = run["grads"][i][1].tolist()
        spec["grad_norm_error32"] = max(abs(r["grads"][i][0] - spec["grad_norm"]) for r in runs)
    return {
        "net": name, "torch": torch.__version__.split("+")[0], "seed": SEED,
        "input": [1, recipe.size, recipe.size],
        "first": FIRST.get(name, 0) + 1, "batch": BATCH[recipe.size], "batches": BATCHES,
        "steps": STEPS, "recipe_lr": recipe.lr, "lr": lr,
        "labels": (wide["labels"] + 1).tolist(),
        "parameter_count": sum(s["count"] for s in wide["specs"]), "macs": count_macs(name),
        "parameters": wide["specs"],
        "logits": wide["logits"].tolist(), "logits32": narrow["logits"].tolist(),
        "losses": wide["losses"], "losses32": narrow["losses"],
        "loss_error32": loss_error(wide["losses"], *(r["losses"] for r in runs)),
        "eval_logits": wide["eval_logits"].tolist(),
        "eval_logits32": narrow["eval_logits"].tolist(),
        "demos": [demonstrate(name, size) for size in dict.fromkeys((recipe.demo, recipe.size))],
    }


def rounded(value, digits=9):
    """Floats to `digits` significant ones, so that the text stays small."""
    if isinstance(value, float):
        short = float(f"{value:.{digits}g}")
        return int(short) if short == int(short) and abs(short) < 1e9 else short
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    if isinstance(value, dict):
        # The bounds make the weights: every digit counts.
        return {k: v if k in ("lo", "hi") else rounded(v, digits) for k, v in value.items()}
    return value


def write(name, golden):
    """One line for each entry of the top-level object or list: small, and diffs stay readable."""
    def dump(value):
        return json.dumps(value, separators=(",", ":"))

    golden = rounded(golden)
    if isinstance(golden, list):
        text = "[\n" + ",\n".join(dump(case) for case in golden) + "\n]\n"
    else:
        lines = []
        for key, value in golden.items():
            nested = isinstance(value, list) and value and isinstance(value[0], (list, dict))
            body = "[\n  " + ",\n  ".join(dump(v) for v in value) + "\n]" if nested else dump(value)
            lines.append(f"{dump(key)}: {body}")
        text = "{\n" + ",\n".join(lines) + "\n}\n"
    path = os.path.join(GOLDEN, name + ".json")
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)
    print(f"{name}.json: {len(text)} bytes", flush=True)


def main(names):
    torch.manual_seed(0)
    check_philox()
    if names == ["check"]:
        for name in torch_nets.NETS:
            count = sum(p.numel() for p in torch_nets.NETS[name].build().parameters())
            print(f"{name}: {count} parameters, {count_macs(name)} MACs")
        return
    for name in names or [*torch_nets.NETS, "blocks", "pictures", "ops"]:
        if name == "blocks":
            write(name, golden_blocks())
        elif name == "pictures":
            write(name, golden_pictures())
        elif name == "ops":
            write(name, oracle_ops.cases(uniform))
        elif name in torch_nets.NETS:
            golden = golden_net(name)
            write(name, golden)
            for key in ("losses", "losses32", "loss_error32"):
                print(f"  {key:12}", " ".join(f"{v:.3g}" for v in golden[key]))
        else:
            sys.exit(f"oracle.py: no golden is called {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
