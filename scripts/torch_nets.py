"""The chapter's eight nets in PyTorch, and Fashion-MNIST as they see it.

Shared by oracle.py and bench-peers.py; a developer's tool, which neither build nor tests need.
Contract: parameters() comes in the order of models/*.lua; images are uint8/255, resized
bilinearly (pixel centres, no antialias).

Surprising: Residual defines bn1 before conv2, which the book does not, because the order of
definition numbers the parameters, and with that the golden weights.
"""

import gzip
import os
from collections import namedtuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

DATA = os.environ.get("CNNLUA_DATA", "/usr/share/datasets/fashion-mnist")


# ------------------------------------------------------------------------------------ the blocks

def vgg_block(convs, in_channels, channels):
    layers = []
    for _ in range(convs):
        layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU()]
        in_channels = channels
    return nn.Sequential(*layers, nn.MaxPool2d(2, 2))


def nin_block(in_channels, channels, kernel, stride, padding):
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, padding), nn.ReLU(),
        nn.Conv2d(channels, channels, 1), nn.ReLU(),
        nn.Conv2d(channels, channels, 1), nn.ReLU())


class Inception(nn.Module):
    def __init__(self, in_channels, c1, c2, c3, c4):
        super().__init__()
        self.p1_1 = nn.Conv2d(in_channels, c1, 1)
        self.p2_1 = nn.Conv2d(in_channels, c2[0], 1)
        self.p2_2 = nn.Conv2d(c2[0], c2[1], 3, padding=1)
        self.p3_1 = nn.Conv2d(in_channels, c3[0], 1)
        self.p3_2 = nn.Conv2d(c3[0], c3[1], 5, padding=2)
        self.p4_1 = nn.MaxPool2d(3, 1, padding=1)
        self.p4_2 = nn.Conv2d(in_channels, c4, 1)

    def forward(self, x):
        return torch.cat((
            F.relu(self.p1_1(x)),
            F.relu(self.p2_2(F.relu(self.p2_1(x)))),
            F.relu(self.p3_2(F.relu(self.p3_1(x)))),
            F.relu(self.p4_2(self.p4_1(x)))), dim=1)


class BatchNorm(nn.Module):
    """The scratch layer: biased moving variance, prediction mode when gradients are off."""

    def __init__(self, features, dims):
        super().__init__()
        shape = (1, features) if dims == 2 else (1, features, 1, 1)
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.register_buffer("moving_mean", torch.zeros(shape))
        self.register_buffer("moving_var", torch.ones(shape))

    def forward(self, x):
        mean, var = self.moving_mean, self.moving_var
        if torch.is_grad_enabled():
            axes = (0,) if x.dim() == 2 else (0, 2, 3)
            mean = x.mean(axes, keepdim=True)
            var = ((x - mean) ** 2).mean(axes, keepdim=True)
            with torch.no_grad():
                self.moving_mean.mul_(0.9).add_(0.1 * mean)
                self.moving_var.mul_(0.9).add_(0.1 * var)
        return self.gamma * (x - mean) / torch.sqrt(var + 1e-5) + self.beta


class Residual(nn.Module):
    def __init__(self, in_channels, channels, use_1x1conv=False, strides=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, stride=strides)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(in_channels, channels, 1, stride=strides) if use_1x1conv else None

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (self.conv3(x) if self.conv3 else x))


def resnet_block(in_channels, channels, first=False):
    head = Residual(in_channels, channels, not first, 1 if first else 2)
    return nn.Sequential(head, Residual(channels, channels))


def conv_block(in_channels, channels):
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(),
                         nn.Conv2d(in_channels, channels, 3, padding=1))


class DenseBlock(nn.Module):
    def __init__(self, convs, in_channels, growth):
        super().__init__()
        self.net = nn.Sequential(
            *(conv_block(in_channels + growth * i, growth) for i in range(convs)))

    def forward(self, x):
        for block in self.net:
            x = torch.cat((x, block(x)), dim=1)
        return x


def transition_block(in_channels, channels):
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(),
                         nn.Conv2d(in_channels, channels, 1), nn.AvgPool2d(2, 2))


# -------------------------------------------------------------------------------------- the nets

def alexnet():
    return nn.Sequential(
        nn.Conv2d(1, 96, 11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(6400, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 10))


def vgg(ratio=4):
    blocks, in_channels = [], 1
    for convs, channels in ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)):
        blocks.append(vgg_block(convs, in_channels, channels // ratio))
        in_channels = channels // ratio
    return nn.Sequential(
        *blocks, nn.Flatten(),
        nn.Linear(in_channels * 7 * 7, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 10))


def nin():
    return nn.Sequential(
        nin_block(1, 96, 11, 4, 0), nn.MaxPool2d(3, 2),
        nin_block(96, 256, 5, 1, 2), nn.MaxPool2d(3, 2),
        nin_block(256, 384, 3, 1, 1), nn.MaxPool2d(3, 2), nn.Dropout(0.5),
        nin_block(384, 10, 3, 1, 1), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())


def googlenet():
    b1 = nn.Sequential(nn.Conv2d(1, 64, 7, stride=2, padding=3), nn.ReLU(),
                       nn.MaxPool2d(3, 2, padding=1))
    b2 = nn.Sequential(nn.Conv2d(64, 64, 1), nn.ReLU(),
                       nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(),
                       nn.MaxPool2d(3, 2, padding=1))
    b3 = nn.Sequential(Inception(192, 64, (96, 128), (16, 32), 32),
                       Inception(256, 128, (128, 192), (32, 96), 64),
                       nn.MaxPool2d(3, 2, padding=1))
    b4 = nn.Sequential(Inception(480, 192, (96, 208), (16, 48), 64),
                       Inception(512, 160, (112, 224), (24, 64), 64),
                       Inception(512, 128, (128, 256), (24, 64), 64),
                       Inception(512, 112, (144, 288), (32, 64), 64),
                       Inception(528, 256, (160, 320), (32, 128), 128),
                       nn.MaxPool2d(3, 2, padding=1))
    b5 = nn.Sequential(Inception(832, 256, (160, 320), (32, 128), 128),
                       Inception(832, 384, (192, 384), (48, 128), 128),
                       nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())
    return nn.Sequential(b1, b2, b3, b4, b5, nn.Linear(1024, 10))


def lenet(norm2d, norm1d):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), norm2d(6), nn.Sigmoid(), nn.AvgPool2d(2, 2),
        nn.Conv2d(6, 16, 5), norm2d(16), nn.Sigmoid(), nn.AvgPool2d(2, 2), nn.Flatten(),
        nn.Linear(256, 120), norm1d(120), nn.Sigmoid(),
        nn.Linear(120, 84), norm1d(84), nn.Sigmoid(),
        nn.Linear(84, 10))


def bn_lenet_scratch():
    return lenet(lambda c: BatchNorm(c, 4), lambda c: BatchNorm(c, 2))


def bn_lenet():
    return lenet(nn.BatchNorm2d, nn.BatchNorm1d)


def stem():
    return nn.Sequential(nn.Conv2d(1, 64, 7, stride=2, padding=3), nn.BatchNorm2d(64), nn.ReLU(),
                         nn.MaxPool2d(3, 2, padding=1))


def resnet():
    return nn.Sequential(
        stem(), resnet_block(64, 64, first=True), resnet_block(64, 128), resnet_block(128, 256),
        resnet_block(256, 512), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, 10))


def densenet():
    channels, growth, convs = 64, 32, (4, 4, 4, 4)
    blocks = []
    for i, n in enumerate(convs):
        blocks.append(DenseBlock(n, channels, growth))
        channels += n * growth
        if i < len(convs) - 1:
            blocks.append(transition_block(channels, channels // 2))
            channels //= 2
    return nn.Sequential(
        stem(), *blocks, nn.BatchNorm2d(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(channels, 10))


# size: the recipe's input; demo: the input of the text's shape demonstration
Recipe = namedtuple("Recipe", "build size batch lr demo")

NETS = {
    "alexnet": Recipe(alexnet, 224, 128, 0.01, 224),
    "vgg": Recipe(vgg, 224, 128, 0.05, 224),
    "nin": Recipe(nin, 224, 128, 0.1, 224),
    "googlenet": Recipe(googlenet, 96, 128, 0.1, 96),
    "bn_lenet_scratch": Recipe(bn_lenet_scratch, 28, 256, 1.0, 28),
    "bn_lenet": Recipe(bn_lenet, 28, 256, 1.0, 28),
    "resnet": Recipe(resnet, 96, 256, 0.05, 224),
    "densenet": Recipe(densenet, 96, 256, 0.1, 96),
}


# -------------------------------------------------------------------------------------- the data

def fashion_mnist(split, limit=None):
    """The first `limit` images [n x 28 x 28] uint8 and labels [n] int64, from 0."""
    def read(kind, header):
        with gzip.open(os.path.join(DATA, f"{split}-{kind}-ubyte.gz")) as f:
            return np.frombuffer(f.read(), np.uint8, offset=header)
    images = read("images-idx3", 16).reshape(-1, 28, 28)[:limit]
    labels = read("labels-idx1", 8)[:limit]
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def resized(images, size, dtype=torch.float32):
    """uint8 [n x 28 x 28] to [n x 1 x size x size]."""
    x = images.unsqueeze(1).to(dtype) / 255
    if size == images.shape[-1]:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False,
                         antialias=False)
