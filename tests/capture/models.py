"""Modules that the tests capture, as a user's file would hold them."""

import torch
from torch import nn


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int = 64):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(x)))


class Language(nn.Module):  # type: ignore[misc]
    def __init__(self, depth: int = 9):
        super().__init__()
        self.embed = nn.Embedding(1000, 64)
        self.layers = nn.ModuleList([Block() for _ in range(depth)])
        self.head = nn.Linear(64, 1000)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x) * 1.5  # what the loop itself does must be counted as often as the layers
        return self.head(x)


class Pattern(nn.Module):  # type: ignore[misc]
    """Two kinds of layers in turn, and a second stack after them."""

    def __init__(self):
        super().__init__()
        kinds = [nn.Linear(32, 32) if i % 2 else nn.LayerNorm(32) for i in range(10)]
        self.first = nn.ModuleList(kinds)
        self.second = nn.Sequential(*[nn.Linear(32, 32, bias=False) for _ in range(7)])

    def forward(self, x):
        for layer in self.first:
            x = layer(x)
        return self.second(x)


class Pixels(nn.Module):  # type: ignore[misc]
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, stride=2, padding=3)
        self.norm = nn.BatchNorm2d(16)
        self.deep = nn.Conv2d(16, 32, 3, padding=2, dilation=2, groups=4, bias=False)
        self.up = nn.ConvTranspose2d(32, 8, 2, stride=2)

    def forward(self, x):
        return self.up(self.deep(torch.relu(self.norm(self.stem(x)))))


class Recurrent(nn.Module):  # type: ignore[misc]
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(16, 32, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class Messages(nn.Module):  # type: ignore[misc]
    """One layer of a graph network in plain PyTorch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(16, 8)

    def forward(self, x, source, target):
        messages = self.weight(x)[source]
        return torch.zeros(x.shape[0], 8, device=x.device).index_add(0, target, messages)


class DependsOnValues(nn.Module):  # type: ignore[misc]
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else x


class DependsOnSize(nn.Module):  # type: ignore[misc]
    """Another program for even batches."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x) if x.shape[0] % 2 else x * 2


class Picks(nn.Module):  # type: ignore[misc]
    """As many rows as there are positive values."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x)[x[:, 0] > 0]


class Odd(nn.Module):  # type: ignore[misc]
    """An operation that no rule knows."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return torch.linalg.qr(self.inner(x))[0]


def language():
    return Language()


def needs_values():
    width = int(torch.tensor([8]).item())
    return nn.Linear(width, 4)


def not_a_model():
    return 3


def fails():
    raise KeyError("weights.pt")


pixels, recurrent, messages = Pixels, Recurrent, Messages
depends_on_values, depends_on_size, picks, odd, pattern = DependsOnValues, DependsOnSize, Picks, Odd, Pattern


class Padded(nn.Module):  # type: ignore[misc]
    """Lengths filled up to whole chunks, as scans and sparse kernels want them."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 64)))


class WordsByLSTM(nn.Module):  # type: ignore[misc]
    """The medium language model of Zaremba et al. (2014)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10000, 650)
        self.lstm = nn.LSTM(650, 650, 2, batch_first=True)
        self.head = nn.Linear(650, 10000)

    def forward(self, ids):
        return self.head(self.lstm(self.embed(ids))[0])


class GraphConvolutions(nn.Module):  # type: ignore[misc]
    """Two layers of Kipf and Welling (2017) on Cora, in plain PyTorch: messages along edges, added at their targets."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1433, 16), nn.Linear(16, 7)])

    def forward(self, x, source, target, share):
        for at, layer in enumerate(self.layers):
            y = layer(torch.relu(x) if at else x)
            x = torch.zeros_like(y).index_add(0, target, y[source] * share[:, None])
        return x
