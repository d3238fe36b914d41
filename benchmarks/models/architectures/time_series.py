"""Forecasting: models of the Time-Series-Library and of their papers, small.

All read (n, 96, 7) and give (n, 24, 7): own code after the papers, of their operators.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from benchmarks.models.public_model import PublicModel

STEPS, AHEAD, CHANNELS = 96, 24, 7


class _Decomposed(nn.Module):
    """Trend by a moving average with repeated ends, and what is left."""

    def __init__(self, kernel: int = 25) -> None:
        super().__init__()
        self.ends = (kernel - 1) // 2
        self.average = nn.AvgPool1d(kernel, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        front = x[:, :1].repeat(1, self.ends, 1)
        back = x[:, -1:].repeat(1, self.ends, 1)
        trend = self.average(torch.cat([front, x, back], 1).transpose(1, 2))
        trend = trend.transpose(1, 2)
        return x - trend, trend


class DLinear(nn.Module):
    """arXiv:2205.13504."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = _Decomposed()
        self.season, self.trend = nn.Linear(STEPS, AHEAD), nn.Linear(STEPS, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        season, trend = [part.transpose(1, 2) for part in self.parts(x)]
        return (self.season(season) + self.trend(trend)).transpose(1, 2)


class NLinear(nn.Module):
    """arXiv:2205.13504."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(STEPS, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        last = x[:, -1:, :]
        return self.linear((x - last).transpose(1, 2)).transpose(1, 2) + last


class RLinear(nn.Module):
    """arXiv:2305.10721: reversible normalisation around a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(STEPS, AHEAD)
        self.gain = nn.Parameter(torch.ones(CHANNELS))
        self.shift = nn.Parameter(torch.zeros(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True).detach()
        spread = (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt().detach()
        x = (x - mean) / spread * self.gain + self.shift
        y = self.linear(x.transpose(1, 2)).transpose(1, 2)
        return (y - self.shift) / (self.gain + 1e-10) * spread + mean


class LightTS(nn.Module):
    """arXiv:2207.01186: interval and continuous sampling, information exchange."""

    def __init__(self, chunk: int = 24, width: int = 16) -> None:
        super().__init__()
        self.chunk, self.chunks = chunk, STEPS // chunk
        self.near, self.far = self._exchange(width), self._exchange(width)
        self.joined = nn.Linear(2 * (width // 4) * self.chunks, AHEAD)
        self.direct = nn.Linear(STEPS, AHEAD)

    def _exchange(self, width: int) -> nn.ModuleList:
        return nn.ModuleList(
            [
                nn.Linear(self.chunk, width),
                nn.Linear(self.chunks, self.chunks),
                nn.Linear(width, width // 4),
            ]
        )

    def _sampled(self, x: Tensor, layers: nn.ModuleList) -> Tensor:
        y = nn.functional.leaky_relu(layers[0](x.permute(0, 2, 1)))
        y = y.permute(0, 2, 1)
        y = (y + layers[1](y)).permute(0, 2, 1)
        return layers[2](y).permute(0, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = x.transpose(1, 2)
        direct = self.direct(x)
        near = x.reshape(n * CHANNELS, self.chunks, self.chunk).transpose(1, 2)
        far = x.reshape(n * CHANNELS, self.chunk, self.chunks)
        parts = [self._sampled(near, self.near), self._sampled(far, self.far)]
        joined = torch.cat(parts, 1).reshape(n, CHANNELS, -1)
        return (self.joined(joined) + direct).transpose(1, 2)


class TSMixer(nn.Module):
    """arXiv:2303.06053."""

    def __init__(self, depth: int = 2, width: int = 32) -> None:
        super().__init__()
        self.times = nn.ModuleList([self._two(STEPS, width) for _ in range(depth)])
        self.mixes = nn.ModuleList([self._two(CHANNELS, width) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(CHANNELS) for _ in range(2 * depth)])
        self.head = nn.Linear(STEPS, AHEAD)

    def _two(self, size: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(size, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, size)
        )

    def forward(self, x: Tensor) -> Tensor:
        for k, (time, mix) in enumerate(zip(self.times, self.mixes, strict=True)):
            x = x + time(self.norms[2 * k](x).transpose(1, 2)).transpose(1, 2)
            x = x + mix(self.norms[2 * k + 1](x))
        return self.head(x.transpose(1, 2)).transpose(1, 2)


class TiDE(nn.Module):
    """arXiv:2304.08424: dense encoder and decoder with residual blocks."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.skip = nn.Linear(STEPS, width), nn.Linear(STEPS, width)
        self.second, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.decoder = nn.Linear(width, AHEAD)
        self.direct = nn.Linear(STEPS, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = torch.sqrt(torch.var(x, dim=1, keepdim=True, unbiased=False) + 1e-5)
        z = ((x - mean) / spread).permute(0, 2, 1)
        hidden = self.second(torch.relu(self.first(z))) + self.skip(z)
        y = self.decoder(self.norm(hidden)) + self.direct(z)
        return y.permute(0, 2, 1) * spread + mean


class ITransformer(nn.Module):
    """arXiv:2310.06625: attention over channels."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(STEPS, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 64, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        x = x - mean
        spread = torch.sqrt(torch.var(x, dim=1, keepdim=True, unbiased=False) + 1e-5)
        y = self.head(self.encoder(self.embed((x / spread).transpose(1, 2))))
        return y.transpose(1, 2) * spread + mean


class PatchTST(nn.Module):
    """arXiv:2211.14730: patches of each channel, channels folded into the batch."""

    def __init__(self, patch: int = 16, stride: int = 8, width: int = 32) -> None:
        super().__init__()
        self.patch, self.stride = patch, stride
        self.pad = nn.ReplicationPad1d((0, stride))
        count = (STEPS - patch) // stride + 2
        self.embed = nn.Linear(patch, width, bias=False)
        self.place = nn.Parameter(0.02 * torch.randn(1, count, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 64, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(count * width, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        mean = x.mean(1, keepdim=True)
        patches = self.pad((x - mean).transpose(1, 2)).unfold(
            -1, self.patch, self.stride
        )
        patches = patches.reshape(n * CHANNELS, patches.shape[2], self.patch)
        y = self.encoder(self.embed(patches) + self.place)
        return self.head(y.reshape(n, CHANNELS, -1)).transpose(1, 2) + mean


class SegRNN(nn.Module):
    """arXiv:2308.11200: a GRU over segments, decoded in parallel."""

    def __init__(self, segment: int = 12, width: int = 32) -> None:
        super().__init__()
        self.segment, self.width = segment, width
        self.ahead = AHEAD // segment
        self.embed = nn.Sequential(nn.Linear(segment, width), nn.ReLU())
        self.cell = nn.GRU(width, width, batch_first=True)
        self.place = nn.Parameter(torch.randn(self.ahead, width // 2))
        self.channel = nn.Parameter(torch.randn(CHANNELS, width // 2))
        self.head = nn.Linear(width, segment)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        last = x[:, -1:]
        z = (x - last).permute(0, 2, 1)
        z = self.embed(z.reshape(n * CHANNELS, STEPS // self.segment, self.segment))
        _, state = self.cell(z)
        place = self.place.unsqueeze(0).repeat(CHANNELS, 1, 1)
        channel = self.channel.unsqueeze(1).repeat(1, self.ahead, 1)
        query = torch.cat([place, channel], -1).view(-1, 1, self.width).repeat(n, 1, 1)
        state = state.repeat(1, 1, self.ahead).view(1, -1, self.width)
        _, state = self.cell(query, state)
        y = self.head(state).view(n, CHANNELS, AHEAD)
        return y.permute(0, 2, 1) + last


class NBeats(nn.Module):
    """arXiv:1905.10437: generic blocks, with the fixed polynomial basis as a buffer."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList([self._block(width) for _ in range(2)])
        self.theta = nn.Linear(width, 8)
        grid = torch.arange(STEPS + AHEAD).float() / (STEPS + AHEAD)
        self.register_buffer("basis", torch.stack([grid**k for k in range(8)]))
        self.back = nn.Linear(width, STEPS)

    def _block(self, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(STEPS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        rest = x.transpose(1, 2)
        rest = rest - self.back(self.layers[0](rest))
        whole = self.theta(self.layers[1](rest)) @ self.basis
        return whole[..., STEPS:].transpose(1, 2)


class TemporalBlock(nn.Module):
    """A block of locuslab/TCN."""

    def __init__(self, into: int, out: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        options = {"padding": self.cut, "dilation": dilation}
        self.one = weight_norm(nn.Conv1d(into, out, 3, **options))
        self.two = weight_norm(nn.Conv1d(out, out, 3, **options))
        self.match = nn.Conv1d(into, out, 1) if into != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.one(x)[:, :, : -self.cut].contiguous())
        y = torch.relu(self.two(y)[:, :, : -self.cut].contiguous())
        return torch.relu(y + self.match(x))


class TCN(nn.Module):
    """arXiv:1803.01271 (locuslab/TCN), with weight normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            TemporalBlock(CHANNELS, 16, 1),
            TemporalBlock(16, 16, 2),
            TemporalBlock(16, 16, 4),
        )
        self.head = nn.Linear(16, AHEAD * CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x.transpose(1, 2))[:, :, -1]
        return self.head(y).reshape(-1, AHEAD, CHANNELS)


class Recurrent(nn.Module):
    """A forecaster of two recurrent layers."""

    def __init__(self, cell: type[nn.Module]) -> None:
        super().__init__()
        self.cell = cell(CHANNELS, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, AHEAD * CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1]).view(-1, AHEAD, CHANNELS)


class FreTS(nn.Module):
    """arXiv:2311.06184: complex linear layers over the spectrum, written in reals."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.randn(1, width))
        self.real = nn.Parameter(0.1 * torch.randn(width, width))
        self.imaginary = nn.Parameter(0.1 * torch.randn(width, width))
        self.head = nn.Sequential(
            nn.Linear(STEPS * width, 32), nn.LeakyReLU(), nn.Linear(32, AHEAD)
        )

    def forward(self, x: Tensor) -> Tensor:
        z = x.permute(0, 2, 1).unsqueeze(3) * self.embed
        spectrum = torch.fft.rfft(z, dim=2, norm="ortho")
        a, b = spectrum.real, spectrum.imag
        real = torch.relu(a @ self.real - b @ self.imaginary)
        imaginary = torch.relu(b @ self.real + a @ self.imaginary)
        back = torch.fft.irfft(
            torch.complex(real, imaginary), n=STEPS, dim=2, norm="ortho"
        )
        y = (back + z).reshape(x.shape[0], CHANNELS, -1)
        return self.head(y).permute(0, 2, 1)


class SCINet(nn.Module):
    """arXiv:2106.09305: one level of down-sampled interaction."""

    def __init__(self, width: int = 14) -> None:
        super().__init__()
        self.parts = nn.ModuleList([self._part(width) for _ in range(4)])
        self.head = nn.Conv1d(STEPS, AHEAD, 1, bias=False)

    def _part(self, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ReplicationPad1d((3, 3)),
            nn.Conv1d(CHANNELS, width, 5),
            nn.LeakyReLU(0.01),
            nn.Conv1d(width, CHANNELS, 3),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        even, odd = x[:, ::2].permute(0, 2, 1), x[:, 1::2].permute(0, 2, 1)
        d = odd.mul(torch.exp(self.parts[0](even)))
        c = even.mul(torch.exp(self.parts[1](odd)))
        even, odd = c + self.parts[2](d), d - self.parts[3](c)
        joined = torch.stack([even, odd], 3).flatten(2).permute(0, 2, 1)
        return self.head(joined + x)


class TimeMixer(nn.Module):
    """arXiv:2405.14616: decomposition mixed over scales made by pooling."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.parts = _Decomposed(5)
        self.down = nn.AvgPool1d(2)
        self.season, self.trend = (
            nn.Linear(STEPS, STEPS // 2),
            nn.Linear(STEPS // 2, STEPS),
        )
        self.out = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.fine, self.coarse = nn.Linear(STEPS, AHEAD), nn.Linear(STEPS // 2, AHEAD)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        fine = x.permute(0, 2, 1).reshape(n * CHANNELS, STEPS, 1)
        coarse = self.down(x.permute(0, 2, 1)).reshape(n * CHANNELS, STEPS // 2, 1)
        fine, coarse = self.embed(fine), self.embed(coarse)
        (s0, t0), (s1, t1) = self.parts(fine), self.parts(coarse)
        s1 = s1 + self.season(s0.transpose(1, 2)).transpose(1, 2)
        t0 = t0 + self.trend(t1.transpose(1, 2)).transpose(1, 2)
        fine, coarse = fine + self.out(s0 + t0), coarse + self.out(s1 + t1)
        y = self.fine(fine.transpose(1, 2)) + self.coarse(coarse.transpose(1, 2))
        return self.head(y.transpose(1, 2)).reshape(n, CHANNELS, AHEAD).permute(0, 2, 1)


_SOURCES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "DLinear": (DLinear, "arXiv:2205.13504"),
    "NLinear": (NLinear, "arXiv:2205.13504"),
    "RLinear": (RLinear, "arXiv:2305.10721"),
    "LightTS": (LightTS, "arXiv:2207.01186"),
    "TSMixer": (TSMixer, "arXiv:2303.06053"),
    "TiDE": (TiDE, "arXiv:2304.08424"),
    "iTransformer": (ITransformer, "arXiv:2310.06625"),
    "PatchTST": (PatchTST, "arXiv:2211.14730"),
    "SegRNN": (SegRNN, "arXiv:2308.11200"),
    "N-BEATS": (NBeats, "arXiv:1905.10437"),
    "TCN": (TCN, "arXiv:1803.01271"),
    "LSTM forecaster": (partial(Recurrent, nn.LSTM), "PyTorch's LSTM, two layers"),
    "GRU forecaster": (partial(Recurrent, nn.GRU), "PyTorch's GRU, two layers"),
    "FreTS": (FreTS, "arXiv:2311.06184"),
    "SCINet": (SCINet, "arXiv:2106.09305"),
    "TimeMixer": (TimeMixer, "arXiv:2405.14616"),
}
MODELS = tuple(
    [
        PublicModel(name, "forecasting", source, make, (STEPS, CHANNELS), "mse")
        for name, (make, source) in _SOURCES.items()
    ]
)
