"""Idioms of PyTorch's functions: what models write between their layers.

Each stands between a trained layer and a trained head, so that its gradient counts.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.models.public_model import IDIOMS, PublicModel

_WIDTH, _STEPS, _CLASSES = 8, 12, 3
_ROW, _SERIES, _PICTURE = (_WIDTH,), (_STEPS, _WIDTH), (_WIDTH, 6, 6)
Function = Callable[[Tensor], Tensor]


class Between(nn.Module):
    """A function of what a trained layer makes, under a trained head."""

    def __init__(self, row: tuple[int, ...], function: Function) -> None:
        super().__init__()
        layer = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.layer = layer if row == _PICTURE else nn.Linear(_WIDTH, _WIDTH)
        self.function = function
        size = function(torch.rand(2, *row)).flatten(1).shape[1]
        self.head = nn.Linear(size, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.layer(x)).flatten(1))


_ACTIVATIONS: Mapping[str, Function] = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "celu": functional.celu,
    "gelu": functional.gelu,
    "gelu by tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "mish": functional.mish,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "hardtanh": functional.hardtanh,
    "relu6": functional.relu6,
    "softplus": functional.softplus,
    "softplus, beta 2": partial(functional.softplus, beta=2),
    "softsign": functional.softsign,
    "tanh": torch.tanh,
    "tanhshrink": functional.tanhshrink,
    "softshrink": functional.softshrink,
    "hardshrink": functional.hardshrink,
    "sigmoid": torch.sigmoid,
    "logsigmoid": functional.logsigmoid,
    "softmax": partial(torch.softmax, dim=-1),
    "softmin": partial(functional.softmin, dim=-1),
    "log_softmax": partial(torch.log_softmax, dim=-1),
    "threshold": lambda x: functional.threshold(x, 0.1, -0.5),
    "glu": functional.glu,
    "swiglu by halves": lambda x: functional.silu(x[:, :4]) * x[:, 4:],
    "squared relu": lambda x: functional.relu(x).square(),
}
_ELEMENTWISE: Mapping[str, Function] = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda x: (x.abs() + 1).log(),
    "log1p": lambda x: x.abs().log1p(),
    "log2": lambda x: (x.abs() + 1).log2(),
    "sqrt": lambda x: (x.square() + 0.1).sqrt(),
    "rsqrt": lambda x: (x.square() + 0.1).rsqrt(),
    "square": torch.square,
    "power of three": lambda x: x**3,
    "power of a half": lambda x: (x.abs() + 0.1) ** 0.5,
    "power of two to x": lambda x: 2.0**x,
    "reciprocal": lambda x: 1 / (x.square() + 1),
    "abs": torch.abs,
    "neg": torch.neg,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": lambda x: torch.tan(0.3 * torch.tanh(x)),
    "asin": lambda x: torch.asin(0.9 * torch.tanh(x)),
    "acos": lambda x: torch.acos(0.9 * torch.tanh(x)),
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "acosh": lambda x: torch.acosh(x.square() + 1.1),
    "atanh": lambda x: torch.atanh(0.9 * torch.tanh(x)),
    "erf": torch.erf,
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp from below": lambda x: x.clamp_min(-0.2),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "minimum": lambda x: torch.minimum(x, 0.3 * x),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x.square()),
    "lerp": lambda x: torch.lerp(x, torch.tanh(x), 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "fmod": lambda x: torch.fmod(3 * x, 1.0),
    "remainder": lambda x: torch.remainder(3 * x, 1.0),
    "rounding passed straight through": lambda x: x + (x.round() - x).detach(),
    "sign passed straight through": lambda x: x + (x.sign() - x).detach(),
    "dropout": partial(functional.dropout, training=False),
    "double and back": lambda x: x.double().tanh().float(),
    "half and back": lambda x: x.half().float(),
}
_REDUCTIONS: Mapping[str, Function] = {
    "mean": lambda x: x.mean(1),
    "mean of two axes": lambda x: x.mean((1, 2), keepdim=True),
    "sum": lambda x: x.sum(1),
    "max over an axis": lambda x: x.max(1).values,
    "min over an axis": lambda x: x.min(1).values,
    "amax": lambda x: x.amax(1),
    "prod": lambda x: x.prod(2),
    "std": lambda x: x.std(1),
    "var": lambda x: x.var(1, unbiased=False),
    "var_mean": lambda x: torch.cat(torch.var_mean(x, 1), 1),
    "logsumexp": lambda x: x.logsumexp(1),
    "L1 norm": lambda x: x.norm(p=1, dim=1),
    "L2 norm": lambda x: torch.linalg.vector_norm(x, dim=1),
    "normalised": partial(functional.normalize, dim=2),
    "cumsum": lambda x: x.cumsum(1),
    "cumsum backwards": lambda x: x.flip(1).cumsum(1).flip(1),
    "diff": lambda x: x.diff(dim=1),
    "top three": lambda x: x.topk(3, dim=1).values,
    "sorted": lambda x: x.sort(1).values,
    "median of three": lambda x: x[:, :3].sort(1).values[:, 1],
    "cosine similarity": lambda x: functional.cosine_similarity(x[:, :1], x, dim=2),
    "pairwise distances": lambda x: torch.cdist(x, x),
    "soft maximum's place": lambda x: (
        x.softmax(1) * torch.arange(_STEPS)[None, :, None]
    ).sum(1),
}
_SHAPES: Mapping[str, Function] = {
    "view": lambda x: x.view(x.shape[0], -1),
    "view by -1 for the batch": lambda x: x.reshape(-1, _STEPS * _WIDTH),
    "flatten from one": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(2, (2, 4)),
    "permute": lambda x: x.permute(0, 2, 1),
    "transpose": lambda x: x.transpose(1, 2),
    "movedim": lambda x: x.movedim(1, 2),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "chunk": lambda x: torch.cat(x.chunk(3, dim=1)[::-1], 2),
    "split": lambda x: torch.cat(x.split([5, 3], dim=2)[::-1], 2),
    "unbind": lambda x: x.unbind(1)[3] + x.unbind(1)[-1],
    "stack": lambda x: torch.stack((x, x.tanh()), 2),
    "cat": lambda x: torch.cat((x, x.tanh()), 1),
    "roll": lambda x: x.roll(3, 1),
    "flip": lambda x: x.flip(1, 2),
    "rows by a list": lambda x: x[:, [0, 3, 3, 7]],
    "entries by two lists": lambda x: x[:, [0, 3, 7], [1, 2, 5]],
    "every second": lambda x: x[:, ::2],
    "last step": lambda x: x[:, -1],
    "ellipsis": lambda x: x[..., 2:5],
    "narrow": lambda x: x.narrow(1, 2, 5),
    "index_select": lambda x: x.index_select(1, torch.tensor([1, 4])),
    "gather": lambda x: x.gather(1, torch.zeros_like(x, dtype=torch.long)[:, :2]),
    "expand": lambda x: x[:, :1].expand(-1, 4, -1),
    "repeat": lambda x: x.repeat(1, 2, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "tile": lambda x: x.tile((1, 1, 2)),
    "padded with zeros": lambda x: functional.pad(x, (1, 2)),
    "padded by a value": lambda x: functional.pad(x, (0, 0, 2, 1), value=1.5),
    "padded by reflection": lambda x: functional.pad(x, (2, 1), mode="reflect"),
    "padded by the edge": lambda x: functional.pad(x, (2, 1), mode="replicate"),
    "cut by a negative pad": lambda x: functional.pad(x, (-1, -2)),
    "lower triangle": lambda x: (x @ x.transpose(1, 2)).tril(),
    "upper triangle": lambda x: (x @ x.transpose(1, 2)).triu(1),
    "diagonal": lambda x: (x @ x.transpose(1, 2)).diagonal(dim1=1, dim2=2),
    "masked_fill": lambda x: x.masked_fill(x > 0.5, 0.0),
    "windows by unfold": lambda x: x.unfold(1, 4, 2),
    "a slice replaced": lambda x: torch.cat((x[:, :2].tanh(), x[:, 2:]), 1),
    "outer product": lambda x: torch.einsum("bti,btj->bij", x, x),
    "einsum of three": lambda x: torch.einsum("bti,btj,btk->bijk", x, x, x)[:, :2],
    "batched product": lambda x: torch.bmm(x, x.transpose(1, 2)),
    "segments in the batch": lambda x: (
        x.reshape(-1, 4, _WIDTH).tanh().mean(1).reshape(-1, 3 * _WIDTH)
    ),
}
_POOLS: Mapping[str, Function] = {
    "max pool": partial(functional.max_pool2d, kernel_size=2),
    "max pool, overlapping": lambda x: functional.max_pool2d(x, 3, 2, 1),
    "max pool, dilated": lambda x: functional.max_pool2d(x, 2, 1, dilation=2),
    "max pool, rounded up": lambda x: functional.max_pool2d(x, 4, 4, ceil_mode=True),
    "average pool": partial(functional.avg_pool2d, kernel_size=2),
    "average pool with its padding": lambda x: functional.avg_pool2d(x, 3, 2, 1),
    "average pool without its padding": lambda x: functional.avg_pool2d(
        x, 3, 2, 1, count_include_pad=False
    ),
    "average pool, rounded up": lambda x: functional.avg_pool2d(
        x, 4, 4, ceil_mode=True
    ),
    "L2 pool": lambda x: functional.lp_pool2d(x, 2.0, 2),
    "adaptive average to one": partial(functional.adaptive_avg_pool2d, output_size=1),
    "adaptive average to three": partial(functional.adaptive_avg_pool2d, output_size=3),
    "adaptive average to four": partial(functional.adaptive_avg_pool2d, output_size=4),
    "adaptive maximum to one": partial(functional.adaptive_max_pool2d, output_size=1),
    "adaptive maximum to two": partial(functional.adaptive_max_pool2d, output_size=2),
    "pixel shuffle": lambda x: functional.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: functional.pixel_unshuffle(x, 2),
    "channel shuffle": lambda x: functional.channel_shuffle(x, 2),
    "nearest, twice": partial(functional.interpolate, scale_factor=2),
    "bilinear, twice": lambda x: functional.interpolate(
        x, scale_factor=2, mode="bilinear"
    ),
    "bilinear, corners aligned": lambda x: functional.interpolate(
        x, scale_factor=2, mode="bilinear", align_corners=True
    ),
    "bicubic, twice": lambda x: functional.interpolate(
        x, scale_factor=2, mode="bicubic"
    ),
    "bilinear, half": lambda x: functional.interpolate(x, size=(3, 3), mode="bilinear"),
    "unfold of patches": lambda x: functional.unfold(x, 2, stride=2),
    "fold of patches": lambda x: functional.fold(
        functional.unfold(x, 2, stride=2), (6, 6), 2, stride=2
    ),
    "local response": partial(functional.local_response_norm, size=3),
    "global maximum": lambda x: x.amax((2, 3)),
}


def _public(name: str, row: tuple[int, ...], function: Function) -> PublicModel:
    return PublicModel(name, IDIOMS, "own code", partial(Between, row, function), row)


MODELS = tuple(
    [
        _public(name, row, function)
        for row, functions in (
            (_ROW, {**_ACTIVATIONS, **_ELEMENTWISE}),
            (_SERIES, {**_REDUCTIONS, **_SHAPES}),
            (_PICTURE, _POOLS),
        )
        for name, function in functions.items()
    ]
)
