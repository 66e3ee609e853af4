"""The cases of spec/golden/ops.json: ops, optimizers, schedules, resizing, random numbers.

`python3 scripts/oracle.py ops` writes them. Values are PyTorch's in float64; inputs are rounded
to three decimals. Axes, labels and positions count from 1. The file is an object of lists:

    ops         [{op, name, call, inputs, output, gy, after}]
                  op      a function of core/cnn.h without its cnn_
                  call    its arguments in the prototype's order: "$x" is the input of that name, a
                          list is a table of axes, sizes or tensors, false an absent tensor
                  inputs  [{name, shape, data, dtype, grad}] dtype only where it is not f32; grad
                          (flat) of sum(output * gy), only where there is one
                  output  {shape, data}; gy: flat, of the output's shape, only with a grad
                  after   {name: data}, inputs that the op changes in place
    optimizers  [{op, args, start, grads, path}] path[t] are the parameters after step t with
                  grads[t]; op is SGD, Adam or AdamW, args bear PyTorch's names
    schedules   [{op, args, lr, lrs}] lrs[t] is the rate of epoch t, PyTorch's classes and names;
                  "WarmupCosine" is a linear warm-up, then a cosine over the other epochs
    resize      [{input {shape, data}, h, w, output {shape, data}}] of the bytes as they are, not
                  divided, and in float32: its pixel centres are rounded, 4e-6 off in places, and
                  a picture should be the one that PyTorch makes; for large outputs {shape, at,
                  value_at, mean}, flat positions from 1
    uniform     [{seed, stream, values}] the first numbers in [0, 1) of a stream, exact
    xavier      [{shape, bound}] of Xavier-uniform weights

Surprising: some inputs sit on the kinks and ties on purpose (relu at 0, equal maxima). The gradient
of clamp at its bounds is PyTorch 2.15's, 0; earlier releases gave 1.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import torch_nets


class Input:
    """A tensor argument of a case; float64 inside."""

    def __init__(self, name, values, grad=True, dtype=None):
        self.name, self.grad, self.dtype = name, grad, dtype
        self.tensor = torch.as_tensor(np.asarray(values, np.float64)).requires_grad_(grad)


def axis0(a):
    """An axis that counts from 1 (or, negative, from the end) as PyTorch counts it."""
    return a - 1 if a > 0 else a


def axes(x, list_):
    return [axis0(a) for a in list_] or list(range(x.dim()))


def reduce_with(function):
    def apply(x, list_):
        return function(x, axes(x, list_), bool(list_))
    return apply


def pairs(values):
    return tuple(zip(values[::2], values[1::2], strict=True))


def conv2d(x, w, b, *s):
    stride, padding, dilation = pairs(s[:6])
    return F.conv2d(x, w, b, stride, padding, dilation, s[6])


def pool_with(function):
    def apply(x, *s):
        return function(x, *pairs(s))
    return apply


def layer_norm(x, last, gamma, beta, eps):
    return F.layer_norm(x, x.shape[-last:], gamma, beta, eps)


def batch_norm(x, gamma, beta, mean, var, training, momentum, eps):
    return F.batch_norm(x, mean, var, gamma, beta, bool(training), momentum, eps)


# What each op of cnn.h is in PyTorch, with cnn.h's arguments.
TORCH = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
    "maximum": torch.maximum, "minimum": torch.minimum,
    "where": lambda c, a, b: torch.where(c != 0, a, b),
    "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "abs": torch.abs, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "relu": torch.relu, "leaky_relu": F.leaky_relu, "gelu": F.gelu,
    "silu": F.silu, "clamp": torch.clamp,
    "sum": reduce_with(lambda x, a, keep: x.sum(a, keep)),
    "mean": reduce_with(lambda x, a, keep: x.mean(a, keep)),
    "var": reduce_with(lambda x, a, keep: x.var(a, correction=0, keepdim=keep)),
    "max": reduce_with(lambda x, a, keep: x.amax(a, keep)),
    "min": reduce_with(lambda x, a, keep: x.amin(a, keep)),
    "norm": reduce_with(lambda x, a, keep: torch.linalg.vector_norm(x, 2, a, keep)),
    "argmax": lambda x, a: x.argmax(axis0(a), keepdim=True) + 1.0,
    "softmax": lambda x, a: x.softmax(axis0(a)),
    "log_softmax": lambda x, a: x.log_softmax(axis0(a)),
    "cross_entropy": lambda x, y: F.cross_entropy(x, y.long() - 1),
    "mse": F.mse_loss, "matmul": torch.matmul, "linear": F.linear,
    "pad": lambda x, sizes, value: F.pad(x, sizes, value=value),
    "cat": lambda list_, a: torch.cat(list_, axis0(a)),
    "index_select": lambda x, a, i: x.index_select(axis0(a), i.long() - 1),
    "conv2d": conv2d, "max_pool2d": pool_with(F.max_pool2d), "avg_pool2d": pool_with(F.avg_pool2d),
    "adaptive_avg_pool2d": lambda x, oh, ow: F.adaptive_avg_pool2d(x, (oh, ow)),
    "batch_norm": batch_norm, "layer_norm": layer_norm, "group_norm": F.group_norm,
}


def flat(t):
    return t.detach().reshape(-1).tolist()


def shaped(t):
    return {"shape": list(t.shape), "data": flat(t)}


class Cases:
    """Collects cases; `rand` draws their inputs, so the order of the calls is part of the seed."""

    def __init__(self):
        self.rng, self.list = np.random.default_rng(20), []

    def rand(self, *shape, lo=-2.0, hi=2.0):
        return np.round(self.rng.uniform(lo, hi, shape), 3)

    def add(self, op, name, *call):
        inputs = {}

        def spell(argument):
            if isinstance(argument, Input):
                inputs[argument.name] = argument
                return "$" + argument.name
            if isinstance(argument, list):
                return [spell(a) for a in argument]
            return False if argument is None else argument

        def plain(argument):
            if isinstance(argument, Input):
                return argument.tensor
            return [plain(a) for a in argument] if isinstance(argument, list) else argument

        case = {"op": op, "name": name, "call": spell(list(call)), "inputs": []}
        before = {i.name: i.tensor.detach().clone() for i in _inputs(call)}
        y = TORCH[op](*plain(list(call)))
        case["output"] = shaped(y)
        if y.requires_grad:
            gy = torch.as_tensor(np.round(self.rng.uniform(-1, 1, tuple(y.shape)), 2))
            (y * gy).sum().backward()
            case["gy"] = flat(gy)
        after = {}
        for i in inputs.values():
            entry = {"name": i.name, **shaped(before[i.name])}
            if i.dtype:
                entry["dtype"] = i.dtype
            if i.grad:
                entry["grad"] = flat(i.tensor.grad)
            elif not torch.equal(before[i.name], i.tensor):
                after[i.name] = flat(i.tensor)
            case["inputs"].append(entry)
        if after:
            case["after"] = after
        self.list.append(case)


def _inputs(call):
    for argument in call:
        if isinstance(argument, Input):
            yield argument
        elif isinstance(argument, list):
            yield from _inputs(argument)


# ----------------------------------------------------------------------------------- the families

def pointwise(c):
    def x(*shape, **range_):
        return Input("x", c.rand(*shape, **range_))

    def pair(op, name, a, b):
        c.add(op, name, Input("a", a), Input("b", b))

    for op in ("add", "sub", "mul"):
        pair(op, "broadcast 2x1x3 with 4x1", c.rand(2, 1, 3), c.rand(4, 1))
    pair("div", "broadcast", c.rand(2, 3), c.rand(3, lo=0.5))
    pair("pow", "positive base", c.rand(2, 3, lo=0.3), c.rand(3))
    tied = [1.5, -0.25, 0, 2, -1]
    for op in ("maximum", "minimum"):
        pair(op, "with ties", tied, [1, -0.25, 0, 2.5, -1])
    c.add("where", "broadcast condition", Input("c", [[1], [0]], grad=False, dtype="u8"),
          Input("a", c.rand(2, 3)), Input("b", c.rand(3)))
    wide = Input("x", [-20, -3, -1, -0.5, 0, 0.5, 1, 3, 20])
    for op in ("abs", "tanh", "sigmoid", "relu", "gelu", "silu"):
        c.add(op, "from -20 to 20, with 0", Input("x", wide.tensor.detach()))
    c.add("leaky_relu", "slope 0.1, with 0", Input("x", wide.tensor.detach()), 0.1)
    c.add("clamp", "from -20 to 20, with the bounds", Input("x", wide.tensor.detach()), -0.5, 1)
    c.add("exp", "", x(6))
    for op in ("log", "sqrt"):
        c.add(op, "positive", x(6, lo=0.1))


def reductions(c):
    for op in ("sum", "mean", "var", "norm"):
        for list_ in ([], [2], [1, 3], [-1]):
            c.add(op, f"2x3x4 over {list_ or 'all'}", Input("x", c.rand(2, 3, 4)), list_)
    c.add("var", "channels of 2x3x2x2", Input("x", c.rand(2, 3, 2, 2)), [1, 3, 4])
    tied = [[1, 3, 3, -1], [2, 2, 2, 0], [-4, -4, 5, 5]]
    for op in ("max", "min"):
        for list_ in ([], [1], [2]):
            c.add(op, f"ties, over {list_ or 'all'}", Input("x", tied), list_)
    for axis in (1, 2):
        c.add("argmax", f"ties, axis {axis}", Input("x", tied, grad=False), axis)
    for op in ("softmax", "log_softmax"):
        for axis in (1, 2, 3, -1):
            c.add(op, f"2x3x4, axis {axis}", Input("x", c.rand(2, 3, 4)), axis)
        c.add(op, "large logits", Input("x", [[1000, 999, -1000], [-1000, -1000, -1001]]), 2)
    for name, x, y in (("4x5", c.rand(4, 5), [1, 5, 3, 3]),
                       ("large logits", [[1000, 0, -1000], [500, 1000, 0]], [1, 1])):
        c.add("cross_entropy", name, Input("x", x), Input("y", y, grad=False, dtype="i32"))
    c.add("mse", "3x4", Input("a", c.rand(3, 4)), Input("b", c.rand(3, 4)))


def products(c):
    for a, b in (((3, 4), (4, 2)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 2)),
                 ((2, 3, 4), (4, 2)), ((3, 4), (2, 4, 2))):
        name = "x".join(map(str, a)) + " by " + "x".join(map(str, b))
        c.add("matmul", name, Input("a", c.rand(*a)), Input("b", c.rand(*b)))
    c.add("linear", "bias", Input("x", c.rand(3, 4)), Input("w", c.rand(2, 4)),
          Input("b", c.rand(2)))
    c.add("linear", "no bias", Input("x", c.rand(3, 4)), Input("w", c.rand(2, 4)), None)
    c.add("pad", "value 0.5, last two axes", Input("x", c.rand(2, 2, 3)), [1, 2, 0, 1], 0.5)
    c.add("cat", "axis 2, unequal", [Input("a", c.rand(2, 1, 2)), Input("b", c.rand(2, 3, 2))], 2)
    c.add("index_select", "repeated rows", Input("x", c.rand(2, 4, 2)), 2,
          Input("i", [3, 1, 3], grad=False, dtype="i32"))


# name, input, weight, bias?, sh sw ph pw dh dw groups
CONVOLUTIONS = (
    ("3x3 padded", (2, 3, 5, 5), (4, 3, 3, 3), True, (1, 1, 1, 1, 1, 1, 1)),
    ("1x1 no bias", (2, 3, 3, 2), (4, 3, 1, 1), False, (1, 1, 0, 0, 1, 1, 1)),
    ("2x3, stride 2x1, padding 1x2", (1, 2, 5, 4), (3, 2, 2, 3), True, (2, 1, 1, 2, 1, 1, 1)),
    ("stride 2 leaves a column unread", (1, 2, 6, 6), (2, 2, 3, 3), True, (2, 2, 0, 0, 1, 1, 1)),
    ("dilation 2x1", (1, 2, 6, 4), (2, 2, 3, 3), True, (1, 1, 1, 1, 2, 1, 1)),
    ("groups 2", (2, 4, 4, 3), (6, 2, 3, 3), True, (1, 1, 1, 1, 1, 1, 2)),
    ("depthwise, stride 2", (1, 3, 5, 5), (3, 1, 3, 3), True, (2, 2, 1, 1, 1, 1, 3)),
    ("depthwise, two outputs a channel", (1, 2, 4, 4), (4, 1, 3, 3), False, (1, 1, 1, 1, 1, 1, 2)),
    ("groups, stride and dilation", (1, 4, 7, 6), (4, 2, 2, 3), True, (2, 1, 1, 2, 3, 2, 2)),
    ("one channel, 5x5, stride 4", (1, 1, 11, 9), (2, 1, 5, 5), True, (4, 4, 1, 1, 1, 1, 1)),
)


def layers(c):
    for name, x, w, bias, s in CONVOLUTIONS:
        b = Input("b", c.rand(w[0])) if bias else None
        c.add("conv2d", name, Input("x", c.rand(*x)), Input("w", c.rand(*w)), b, *s)
    below = c.rand(1, 2, 5, 5, lo=-3, hi=-0.1)
    for op in ("max_pool2d", "avg_pool2d"):
        c.add(op, "3x3 stride 2 padding 1, all below 0", Input("x", below), 3, 3, 2, 2, 1, 1)
        c.add(op, "2x2 stride 2, a row left over", Input("x", c.rand(2, 2, 5, 4)), 2, 2, 2, 2, 0, 0)
        c.add(op, "3x2 stride 1x2 padding 1x0", Input("x", c.rand(1, 2, 4, 6)), 3, 2, 1, 2, 1, 0)
        c.add(op, "3x3 stride 1 padding 1", Input("x", c.rand(1, 1, 4, 4)), 3, 3, 1, 1, 1, 1)
    tied = np.array([[1, 1, 0, 2], [1, 0, 2, 2], [0, 3, 3, 3], [3, 3, 0, 0]]).reshape(1, 1, 4, 4)
    c.add("max_pool2d", "ties: the first of the window", Input("x", tied), 3, 3, 1, 1, 1, 1)
    for h, w, oh, ow in ((7, 5, 3, 2), (5, 5, 1, 1), (3, 2, 5, 3), (4, 6, 4, 3)):
        x = Input("x", c.rand(1, 2, h, w))
        c.add("adaptive_avg_pool2d", f"{h}x{w} to {oh}x{ow}", x, oh, ow)


def norms(c):
    def affine(*shape):
        return Input("gamma", c.rand(*shape, lo=0.5)), Input("beta", c.rand(*shape))

    for name, shape in (("4x3x2x2", (4, 3, 2, 2)), ("5x3", (5, 3))):
        for training in (1, 0):
            mean = Input("mean", c.rand(3), grad=False)
            var = Input("var", c.rand(3, lo=0.5), grad=False)
            c.add("batch_norm", f"{name}, {'training' if training else 'prediction'}",
                  Input("x", c.rand(*shape)), *affine(3), mean, var, training, 0.1, 1e-5)
    c.add("batch_norm", "no gamma, beta, statistics", Input("x", c.rand(3, 2, 2, 1)),
          None, None, None, None, 1, 0.1, 1e-5)
    c.add("batch_norm", "constant channel", Input("x", np.ones((3, 2, 1, 2)) * [[[0.5]], [[-3]]]),
          *affine(2), None, None, 1, 0.1, 1e-5)
    c.add("layer_norm", "last axis", Input("x", c.rand(2, 3, 4)), 1, *affine(4), 1e-5)
    c.add("layer_norm", "two axes, eps 0.01", Input("x", c.rand(2, 3, 2)), 2, *affine(3, 2), 0.01)
    c.add("layer_norm", "no gamma, beta", Input("x", c.rand(3, 4)), 1, None, None, 1e-5)
    for groups in (1, 2, 4):
        x = Input("x", c.rand(2, 4, 2, 3))
        c.add("group_norm", f"{groups} groups of 4 channels", x, groups, *affine(4), 1e-5)


# ------------------------------------------------------------------------ optimizers, the schedules

OPTIMIZERS = (
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.2}),
)


def optimizers(c):
    out = []
    for op, args in OPTIMIZERS:
        start, grads = c.rand(4), c.rand(5, 4)
        grads[1:3, 3] = 0  # a parameter whose gradient vanishes for some steps
        p = torch.tensor(start, requires_grad=True)
        optimizer, path = getattr(torch.optim, op)([p], **args), []
        for g in grads:
            p.grad = torch.tensor(g)
            optimizer.step()
            path.append(flat(p))
        # AdamW's default is not 0: say it, the spec should not have to know.
        shown = {"weight_decay": optimizer.defaults["weight_decay"], **args}
        out.append({"op": op, "args": shown, "start": start.tolist(), "grads": grads.tolist(),
                    "path": path})
    return out


def schedules():
    def rates(op, args, make, epochs=12, lr=0.4):
        optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64, requires_grad=True)], lr)
        schedule, lrs = make(optimizer), []
        for _ in range(epochs):
            lrs.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return {"op": op, "args": args, "lr": lr, "lrs": lrs}

    lib = torch.optim.lr_scheduler
    simple = (("StepLR", {"step_size": 3, "gamma": 0.5}),
              ("CosineAnnealingLR", {"T_max": 11, "eta_min": 0.02}),
              ("CosineAnnealingLR", {"T_max": 11, "eta_min": 0}),
              ("LinearLR", {"start_factor": 0.25, "total_iters": 4}))
    out = [rates(op, args, lambda o, op=op, args=args: getattr(lib, op)(o, **args))
           for op, args in simple]
    warm = {"start_factor": 0.25, "total_iters": 4, "T_max": 8, "eta_min": 0}
    out.append(rates("WarmupCosine", warm, lambda o: lib.SequentialLR(o, [
        lib.LinearLR(o, start_factor=0.25, total_iters=4),
        lib.CosineAnnealingLR(o, T_max=8)], milestones=[4])))
    return out


# -------------------------------------------------------------------- resizing, random numbers

def resizes(c):
    picture = torch_nets.fashion_mnist("t10k", 1)[0].view(1, 1, 28, 28)
    random = torch.as_tensor(c.rng.integers(0, 256, (2, 1, 5, 5)).astype(np.uint8))
    out = []
    for x, h, w in ((random, 7, 7), (random, 3, 8), (picture, 20, 20), (picture, 96, 96),
                    (picture, 224, 224)):
        y = F.interpolate(x.float(), (h, w), mode="bilinear", align_corners=False, antialias=False)
        if y.numel() > 600:
            at = [1, w, y.numel() - w + 1, *range(101, y.numel(), y.numel() // 60), y.numel()]
            result = {"shape": list(y.shape), "at": at, "mean": y.double().mean().item(),
                      "value_at": [y.view(-1)[i - 1].item() for i in at]}
        else:
            result = shaped(y)
        out.append({"input": shaped(x.double()), "h": h, "w": w, "output": result})
    return out


def uniforms(uniform):
    keys = ((7, 1001), (0, 0), (1, 1 << 33 | 5), ((1 << 40) + 3, 2))
    return [{"seed": seed, "stream": stream, "values": uniform(seed, stream, 10).tolist()}
            for seed, stream in keys]


def xaviers():
    out = []
    for shape in ((10, 84), (4096, 6400), (6, 1, 5, 5), (96, 1, 11, 11), (512, 256, 1, 1)):
        w = torch.empty(shape)
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(w)
        bound = math.sqrt(6 / (fan_in + fan_out))
        nn.init.xavier_uniform_(w)
        assert 0.8 * bound < w.abs().max().item() <= bound * (1 + 1e-6)
        out.append({"shape": list(shape), "bound": bound})
    return out


def cases(uniform):
    c = Cases()
    for family in (pointwise, reductions, products, layers, norms):
        family(c)
    return {"torch": torch.__version__.split("+")[0], "ops": c.list, "optimizers": optimizers(c),
            "schedules": schedules(), "resize": resizes(c), "uniform": uniforms(uniform),
            "xavier": xaviers()}
