"""A small residual network: what `docs/capture.md` captures."""

import torch
from torch import nn


class Block(nn.Module):
    """Convolution, norm, activation, and the way around them."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        """The same shape."""
        return x + torch.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    """Eight equal blocks between a stem and a classifier."""

    def __init__(self, depth=8, width=64):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, stride=2, padding=3)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, 10)

    def forward(self, image):
        """Scores of ten classes."""
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=(2, 3)))


def build():
    """What is captured."""
    return Net()
