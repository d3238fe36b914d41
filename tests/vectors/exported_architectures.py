"""The architectures of exported_models.py: what people put on boards, made small."""

# mypy: disable-error-code="misc"
# Without torch installed, its classes have no type to inherit.

from collections.abc import Callable

# Installed only where the vectors are made anew.
import torch
from torch import Tensor, nn


class Last(nn.Module):
    """A recurrent layer and a linear one on its last step."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.layer(x)
        return self.head(steps[:, -1])


class Ends(nn.Module):
    """A recurrent layer both ways and a linear one on its last states."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.layer(x)
        return self.head(torch.cat([last[0], last[1]], dim=1))


class Block(nn.Module):
    """A residual block with group normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.one = nn.GroupNorm(2, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.two = nn.GroupNorm(2, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.one(self.first(x)))
        return torch.relu(x + self.two(self.second(inner)))


class Mobile(nn.Module):
    """An inverted bottleneck: expand, depthwise, squeeze and excite, project."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.depth = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.squeeze = nn.Conv2d(2 * width, width, 1)
        self.excite = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = nn.functional.hardswish(self.depth(nn.functional.relu6(self.expand(x))))
        pooled = inner.mean((2, 3), keepdim=True)
        gate = nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(pooled))))
        return x + self.project(inner * gate)


class TextCnn(nn.Module):
    """An embedding, convolutions of two widths over the words, the largest of each."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 6)
        self.two = nn.Conv1d(6, 5, 2)
        self.three = nn.Conv1d(6, 5, 3)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        words = self.table(x).transpose(1, 2)
        found = [torch.relu(layer(words)).amax(2) for layer in (self.two, self.three)]
        return self.head(torch.cat(found, 1))


class Encoder(nn.Module):
    """A transformer encoder as PyTorch ships it, and the mean of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(5, 8))
        self.layer = nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.1, batch_first=True, activation="gelu"
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x + self.place).mean(1))


class Attention(nn.Module):
    """Causal attention written with the scaled dot product that PyTorch offers."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, steps, width = x.shape
        parts = self.all(x).view(n, steps, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True
        )
        joined = mixed.transpose(1, 2).reshape(n, steps, width)
        return self.head(self.norm(x + self.out(joined))[:, -1])


class Normed(nn.Module):
    """Convolutions with instance normalisation, learned slopes, mirrored edges."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(4, affine=True)
        self.slope = nn.PReLU(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.slope(self.norm(self.first(x)))
        return self.head(nn.functional.adaptive_max_pool2d(inner, 1).flatten(1))


class Patches(nn.Module):
    """A vision transformer's first steps: patches, a class token, places."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.place = nn.Parameter(torch.zeros(1, 5, 8))
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.cut(x).flatten(2).transpose(1, 2)
        token = self.token.expand(x.shape[0], -1, -1)
        steps = torch.cat([token, parts], 1) + self.place
        mixed, _ = self.mix(steps, steps, steps, need_weights=False)
        return self.head((steps + mixed)[:, 0])


class Segments(nn.Module):
    """A small U-Net: one step up by a transposed convolution, one by copies."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 3, 3, padding=1)
        self.two = nn.Conv2d(3, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.norm = nn.GroupNorm(2, 8)
        self.wide = nn.Conv2d(8, 3, 1)
        self.out = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = torch.relu(self.one(x))
        two = torch.relu(self.two(nn.functional.max_pool2d(one, 2)))
        deep = nn.functional.silu(self.deep(nn.functional.max_pool2d(two, 2)))
        joined = self.norm(torch.cat([self.up(deep), two], 1))
        wide = nn.functional.interpolate(self.wide(joined), scale_factor=2.0)
        return self.out(torch.cat([wide, one], 1))


class Attended(nn.Module):
    """A GRU both ways over words, and attention that leaves padding out."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 5)
        self.layer = nn.GRU(5, 4, batch_first=True, bidirectional=True)
        self.score = nn.Linear(8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.layer(self.table(x))
        scores = self.score(torch.tanh(steps)).squeeze(-1)
        shares = torch.softmax(scores.masked_fill(x == 0, -1e9), -1)
        return self.head((shares.unsqueeze(1) @ steps).squeeze(1))


class Sharpened(nn.Module):
    """Channels that become pixels, linear resizing, a convolution over three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.deep = nn.Conv3d(1, 3, (2, 3, 3), stride=(1, 2, 2))
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        large = nn.functional.pixel_shuffle(torch.tanh(self.first(x)), 2)
        small = nn.functional.interpolate(large, size=(7, 7), mode="bilinear")
        return self.head(
            nn.functional.elu(self.deep(small.unsqueeze(1))).mean((2, 3, 4))
        )


def lenet() -> nn.Module:
    """Two convolutions with poolings, two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.Tanh(),
        nn.Linear(5, 4),
    )


def design() -> nn.Module:
    """The reference network on smaller images: pooling before ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )


def autoencoder() -> nn.Module:
    """Strided convolutions and transposed ones."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.ELU(),
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.Softplus(),
        nn.ConvTranspose2d(6, 1, 2, stride=2),
    )


def sensor() -> nn.Module:
    """Convolutions over time, for windows of an accelerometer."""
    return nn.Sequential(
        nn.Conv1d(3, 4, 5, stride=2),
        nn.GELU(),
        nn.AvgPool1d(2),
        nn.Conv1d(4, 3, 3, padding=2, dilation=2),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def layered() -> nn.Module:
    """A perceptron with layer normalisation."""
    return nn.Sequential(
        nn.Linear(7, 6), nn.LayerNorm(6), nn.Mish(), nn.Linear(6, 2), nn.Softplus()
    )


Make = Callable[[], nn.Module]
ARCHITECTURES: dict[str, tuple[Make, str, tuple[int, ...], int]] = {
    "lenet": (lenet, "cross-entropy", (1, 12, 12), 0),
    "design": (design, "cross-entropy", (1, 16, 16), 0),
    "mobile": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2),
            Mobile(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        "cross-entropy",
        (1, 9, 9),
        0,
    ),
    "residual": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3),
            Block(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        "cross-entropy",
        (1, 8, 8),
        0,
    ),
    "sensor": (sensor, "cross-entropy", (3, 20), 0),
    "autoencoder": (autoencoder, "mse", (1, 8, 8), 0),
    "logistic": (lambda: nn.Linear(9, 5), "cross-entropy", (9,), 0),
    "layered": (layered, "huber", (7,), 0),
    "layered, bent": (layered, "huber", (7,), 0),
    "logistic, weighted": (lambda: nn.Linear(9, 4), "cross-entropy", (9,), 0),
    "text": (TextCnn, "cross-entropy", (9,), 40),
    "gru": (
        lambda: Last(nn.GRU(4, 5, batch_first=True), 5),
        "cross-entropy",
        (6, 4),
        0,
    ),
    "gru both ways": (
        lambda: Ends(nn.GRU(4, 3, batch_first=True, bidirectional=True), 6),
        "cross-entropy",
        (5, 4),
        0,
    ),
    "lstm": (
        lambda: Last(nn.LSTM(4, 5, num_layers=2, batch_first=True), 5),
        "cross-entropy",
        (6, 4),
        0,
    ),
    "lstm both ways": (
        lambda: Last(nn.LSTM(4, 3, batch_first=True, bidirectional=True), 6),
        "cross-entropy",
        (5, 4),
        0,
    ),
    "encoder": (Encoder, "cross-entropy", (5, 8), 0),
    "attention": (Attention, "cross-entropy", (5, 8), 0),
    "patches": (Patches, "cross-entropy", (1, 8, 8), 0),
    "segments": (Segments, "mse", (1, 8, 8), 0),
    "attended": (Attended, "cross-entropy", (6,), 20),
    "sharpened": (Sharpened, "cross-entropy", (2, 5, 5), 0),
    "rnn": (
        lambda: Last(nn.RNN(4, 5, batch_first=True, nonlinearity="relu"), 5),
        "cross-entropy",
        (6, 4),
        0,
    ),
    "normed": (Normed, "cross-entropy", (2, 6, 6), 0),
}

SETTINGS: dict[str, dict[str, object]] = {
    "layered, bent": {"delta": 0.25},
    "logistic, weighted": {
        "class_weights": [0.5, 2.0, 1.0, 3.0],
        "label_smoothing": 0.1,
    },
}
"""Of losses that depart from their plain form."""
