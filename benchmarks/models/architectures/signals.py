"""Hearts, brains and movement: networks over (n, channels, steps), small.

Written after the papers and repositories that each class names.
"""

import itertools

import torch
from torch import Tensor, nn

from benchmarks.models.public_model import PublicModel


class _ConvBlock(nn.Module):
    def __init__(self, into: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(into, out, kernel, stride, kernel // 2)
        self.norm, self.drop = nn.BatchNorm1d(out), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(torch.relu(self.norm(self.conv(x))))


class ResNet1d(nn.Module):
    """hsd1503/resnet1d: pre-activated blocks that double their channels."""

    def __init__(self, into: int = 1, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.first = _ConvBlock(into, width, 15, 2)
        self.blocks = nn.ModuleList()
        for k in range(3):
            out = width * 2 if k else width
            self.blocks.append(
                nn.Sequential(
                    nn.BatchNorm1d(width),
                    nn.ReLU(),
                    nn.Conv1d(width, out, 15, 2, 7),
                    nn.BatchNorm1d(out),
                    nn.ReLU(),
                    nn.Dropout(0.5),
                    nn.Conv1d(out, out, 15, 1, 7),
                )
            )
            width = out
        self.down = nn.MaxPool1d(2, ceil_mode=True)
        self.norm, self.head = nn.BatchNorm1d(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            y, skip = block(x), self.down(x)
            extra = y.shape[1] - skip.shape[1]
            if extra:
                skip = nn.functional.pad(skip, (0, 0, extra // 2, extra - extra // 2))
            x = y + skip
        return self.head(torch.relu(self.norm(x)).mean(-1))


class Net1d(nn.Module):
    """hsd1503/resnet1d, net1d: bottlenecks with squeeze and excitation, swish."""

    def __init__(self, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, width, 16, 2, 7)
        self.body = nn.ModuleList([self._block(width) for _ in range(2)])
        self.squeeze = nn.ModuleList([nn.Linear(width, width // 2) for _ in range(2)])
        self.excite = nn.ModuleList([nn.Linear(width // 2, width) for _ in range(2)])
        self.head = nn.Linear(width, classes)

    def _block(self, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 16, padding="same", groups=4),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block, squeeze, excite in zip(
            self.body, self.squeeze, self.excite, strict=True
        ):
            y = block(x)
            gate = torch.sigmoid(excite(nn.functional.silu(squeeze(y.mean(-1)))))
            x = x + torch.einsum("abc,ab->abc", y, gate)
        return self.head(x.mean(-1))


class CRNN(nn.Module):
    """hsd1503/resnet1d, CRNN: windows folded into the batch, then an LSTM."""

    def __init__(self, window: int = 50, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.window = window
        self.conv = nn.Conv1d(1, width, 8, 2)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, length = x.shape
        parts = x.view(n, channels, length // self.window, self.window)
        parts = parts.permute(0, 2, 1, 3).contiguous().view(-1, channels, self.window)
        y = torch.relu(self.conv(parts)).mean(-1)
        y, _ = self.lstm(y.view(n, length // self.window, -1))
        return self.head(y[:, -1])


class ACNN(nn.Module):
    """hsd1503/resnet1d, ACNN: attention over folded windows."""

    def __init__(self, window: int = 50, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.window = window
        self.conv = nn.Conv1d(1, width, 8, 2)
        self.w = nn.Parameter(torch.empty(width, 8).uniform_(-0.1, 0.1))
        self.v = nn.Parameter(torch.empty(8, 1).uniform_(-0.1, 0.1))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, length = x.shape
        parts = x.view(n, channels, length // self.window, self.window)
        parts = parts.permute(0, 2, 1, 3).contiguous().view(-1, channels, self.window)
        y = torch.relu(self.conv(parts)).mean(-1).view(n, length // self.window, -1)
        weights = torch.softmax(torch.tanh(y @ self.w) @ self.v, dim=1)
        return self.head((weights * y).sum(1))


class EEGNet(nn.Module):
    """arXiv:1611.08024: temporal, depthwise spatial and separable convolutions."""

    def __init__(self, channels: int = 22, steps: int = 128, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, (1, 64), padding=(0, 32), bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 16, (channels, 1), groups=8, bias=False),
            nn.BatchNorm2d(16),
            nn.ELU(),
            nn.AvgPool2d((1, 4)),
            nn.Dropout(0.25),
            nn.Conv2d(16, 16, (1, 16), padding=(0, 8), groups=16, bias=False),
            nn.Conv2d(16, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ELU(),
            nn.AvgPool2d((1, 8)),
            nn.Flatten(),
        )
        self.head = nn.Linear(16 * ((steps // 4 + 1) // 8), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.unsqueeze(1)))


class ShallowConvNet(nn.Module):
    """arXiv:1703.05051: band power as squared convolutions, pooled, logged."""

    def __init__(self, channels: int = 22, classes: int = 4) -> None:
        super().__init__()
        self.time = nn.Conv2d(1, 20, (1, 25))
        self.space = nn.Conv2d(20, 20, (channels, 1), bias=False)
        self.norm, self.pool = nn.BatchNorm2d(20), nn.AvgPool2d((1, 35), (1, 7))
        self.head = nn.Conv2d(20, classes, (1, 10))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.space(self.time(x.unsqueeze(1))))
        y = torch.log(torch.clamp(self.pool(y * y), min=1e-6))
        return self.head(y).flatten(1)


class DeepConvLSTM(nn.Module):
    """doi:10.3390/s16010115: four convolutions over time, two LSTM layers."""

    def __init__(self, channels: int = 9, width: int = 32, classes: int = 6) -> None:
        super().__init__()
        sizes = [1, width, width, width, width]
        self.convs = nn.ModuleList(
            [nn.Conv2d(a, b, (5, 1)) for a, b in itertools.pairwise(sizes)]
        )
        self.lstm = nn.LSTM(width * channels, width, num_layers=2)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2).unsqueeze(1)
        for conv in self.convs:
            y = torch.relu(conv(y))
        y = y.permute(2, 0, 3, 1).reshape(y.shape[2], y.shape[0], -1)
        y, _ = self.lstm(y)
        return self.head(y[-1])


class CNNLSTM(nn.Module):
    """Time-distributed convolutions, then an LSTM, as is usual for UCI-HAR."""

    def __init__(self, channels: int = 9, classes: int = 6) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, 16, 3),
            nn.ReLU(),
            nn.Conv1d(16, 16, 3),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.MaxPool1d(2),
            nn.Flatten(),
        )
        self.lstm = nn.LSTM(16 * 14, 32, batch_first=True)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, steps = x.shape
        parts = x.reshape(n, channels, 4, steps // 4).permute(0, 2, 1, 3)
        y = self.body(parts.reshape(n * 4, channels, steps // 4)).reshape(n, 4, -1)
        return self.head(self.lstm(y)[0][:, -1])


class TinyHAR(nn.Module):
    """doi:10.1145/3544794.3558467: convolution, attention over channels, an LSTM."""

    def __init__(self, channels: int = 9, filters: int = 16, classes: int = 6) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, filters, (5, 1), (2, 1)),
            nn.ReLU(),
            nn.BatchNorm2d(filters),
            nn.Conv2d(filters, filters, (5, 1), (2, 1)),
            nn.ReLU(),
            nn.BatchNorm2d(filters),
        )
        self.query = nn.Conv1d(filters, filters // 2, 1)
        self.key = nn.Conv1d(filters, filters // 2, 1)
        self.value = nn.Conv1d(filters, filters, 1)
        self.gamma = nn.Parameter(torch.tensor([0.1]))
        self.join = nn.Linear(channels * filters, 2 * filters)
        self.lstm = nn.LSTM(2 * filters, 2 * filters, batch_first=True)
        self.place = nn.Linear(2 * filters, 1)
        self.head = nn.Linear(2 * filters, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x.transpose(1, 2).unsqueeze(1))
        n, filters, steps, channels = y.shape
        flat = y.permute(0, 2, 1, 3).reshape(n * steps, filters, channels)
        scores = torch.bmm(self.query(flat).permute(0, 2, 1), self.key(flat))
        mixed = torch.bmm(self.value(flat), torch.softmax(scores, 1).permute(0, 2, 1))
        flat = self.gamma * mixed + flat
        y = torch.relu(self.join(flat.reshape(n, steps, filters * channels)))
        y, _ = self.lstm(y)
        weights = torch.softmax(self.place(torch.tanh(y)).squeeze(2), 1)
        return self.head((weights.unsqueeze(-1) * y).sum(1) + y[:, -1])


class FCN(nn.Module):
    """arXiv:1611.06455: three convolutions and the mean."""

    def __init__(self, channels: int = 9, classes: int = 6) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _ConvBlock(channels, 32, 9), _ConvBlock(32, 64, 5), _ConvBlock(64, 32, 3)
        )
        self.pool, self.head = nn.AdaptiveAvgPool1d(1), nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.body(x)).squeeze(-1))


class InceptionTime(nn.Module):
    """arXiv:1909.04939: two blocks with a residual."""

    def __init__(self, channels: int = 9, width: int = 8, classes: int = 6) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [self._part(channels, width), self._part(4 * width, width)]
        )
        self.skip = nn.Conv1d(channels, 4 * width, 1)
        self.head = nn.Linear(4 * width, classes)

    def _part(self, into: int, width: int) -> nn.ModuleDict:
        kernels = [39, 19, 9]
        return nn.ModuleDict(
            {
                "narrow": nn.Conv1d(into, width, 1, bias=False),
                "convs": nn.ModuleList(
                    [
                        nn.Conv1d(width, width, k, padding=k // 2, bias=False)
                        for k in kernels
                    ]
                ),
                "pool": nn.MaxPool1d(3, 1, 1),
                "pooled": nn.Conv1d(into, width, 1, bias=False),
                "norm": nn.BatchNorm1d(4 * width),
            }
        )

    def _apply_part(self, part: nn.ModuleDict, x: Tensor) -> Tensor:
        narrow = part["narrow"](x)
        found = [conv(narrow) for conv in part["convs"]]
        found.append(part["pooled"](part["pool"](x)))
        return torch.relu(part["norm"](torch.cat(found, 1)))

    def forward(self, x: Tensor) -> Tensor:
        y = self._apply_part(self.parts[1], self._apply_part(self.parts[0], x))
        return self.head(torch.relu(y + self.skip(x)).mean(-1))


class MLSTMFCN(nn.Module):
    """arXiv:1801.04503: an LSTM beside convolutions with squeeze and excitation."""

    def __init__(self, channels: int = 9, classes: int = 6) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, 8, batch_first=True)
        self.one, self.two = _ConvBlock(channels, 32, 8), _ConvBlock(32, 32, 5)
        self.gate = nn.Sequential(
            nn.Linear(32, 4, bias=False),
            nn.ReLU(),
            nn.Linear(4, 32, bias=False),
            nn.Sigmoid(),
        )
        self.head = nn.Linear(40, classes)

    def forward(self, x: Tensor) -> Tensor:
        _, (state, _) = self.lstm(x.transpose(1, 2))
        y = self.one(x)
        y = self.two(y * self.gate(y.mean(-1)).unsqueeze(-1))
        return self.head(torch.cat([state[-1], y.mean(-1)], 1))


class HARLSTM(nn.Module):
    """guillaume-chevalier/LSTM-Human-Activity-Recognition: two stacked LSTMs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(9, 32)
        self.lstm = nn.LSTM(32, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(torch.relu(self.first(x.transpose(1, 2))))[0][:, -1])


class ROCKETHead(nn.Module):
    """arXiv:1910.13051: random kernels as buffers, a linear layer that is trained."""

    def __init__(self, kernels: int = 64) -> None:
        super().__init__()
        self.register_buffer("kernels", torch.randn(kernels, 9, 9))
        self.register_buffer("shifts", torch.rand(kernels) * 2 - 1)
        self.head = nn.Linear(2 * kernels, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.conv1d(x, self.kernels, self.shifts, padding=8, dilation=2)
        share = torch.sigmoid(8 * y).mean(-1)
        return self.head(torch.cat([y.amax(-1), share], 1))


_HEART, _BRAIN, _MOVE = "heart (ECG)", "brain (EEG)", "activity and sensors"
_ROWS = {_HEART: (1, 200), _BRAIN: (22, 128), _MOVE: (9, 128)}
_SOURCES = {
    "resnet1d": (ResNet1d, _HEART, "hsd1503/resnet1d"),
    "net1d": (Net1d, _HEART, "hsd1503/resnet1d"),
    "CRNN (ECG)": (CRNN, _HEART, "hsd1503/resnet1d"),
    "ACNN (ECG)": (ACNN, _HEART, "hsd1503/resnet1d"),
    "EEGNet": (EEGNet, _BRAIN, "arXiv:1611.08024"),
    "ShallowConvNet": (ShallowConvNet, _BRAIN, "arXiv:1703.05051"),
    "DeepConvLSTM": (DeepConvLSTM, _MOVE, "doi:10.3390/s16010115"),
    "CNN-LSTM": (CNNLSTM, _MOVE, "time-distributed, usual for UCI-HAR"),
    "TinyHAR": (TinyHAR, _MOVE, "doi:10.1145/3544794.3558467"),
    "FCN": (FCN, _MOVE, "arXiv:1611.06455"),
    "InceptionTime": (InceptionTime, _MOVE, "arXiv:1909.04939"),
    "MLSTM-FCN": (MLSTMFCN, _MOVE, "arXiv:1801.04503"),
    "HAR LSTM": (HARLSTM, _MOVE, "guillaume-chevalier/LSTM-Human-Activity-Recognition"),
    "ROCKET, linear head": (ROCKETHead, _MOVE, "arXiv:1910.13051"),
}
MODELS = tuple(
    [
        PublicModel(name, family, source, make, _ROWS[family])
        for name, (make, family, source) in _SOURCES.items()
    ]
)
