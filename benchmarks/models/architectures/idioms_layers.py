"""Idioms of PyTorch's layers: what models are made of, and weights used in odd ways.

Each stands alone in front of a trained head.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from benchmarks.models.public_model import IDIOMS, PublicModel

_WIDTH, _STEPS, _CLASSES = 8, 12, 3
_ROW, _SERIES, _PICTURE = (_WIDTH,), (_STEPS, _WIDTH), (_WIDTH, 6, 6)
_WAVE, _VOLUME, _TOKENS = (_WIDTH, _STEPS), (2, 4, 4, 4), 20


class Headed(nn.Module):
    """A layer under a trained head."""

    def __init__(
        self, row: tuple[int, ...], make: Callable[[], Any], tokens: int
    ) -> None:
        super().__init__()
        self.layer = make()
        first = (
            torch.zeros(2, *row, dtype=torch.long) if tokens else torch.rand(2, *row)
        )
        self.head = nn.Linear(self._features(first).shape[1], _CLASSES)

    def _features(self, x: Tensor) -> Tensor:
        return self.layer(x).reshape(x.shape[0], -1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._features(x))


class With(nn.Module):
    """A function of x, and of layers and weights by name.

    Plain tensors are buffers; what a layer returns beside its output is left out.
    """

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **held: Any) -> None:
        super().__init__()
        self.function = function
        for name, item in held.items():
            if isinstance(item, Tensor) and not isinstance(item, nn.Parameter):
                self.register_buffer(name, item)
            else:
                setattr(self, name, item)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / math.sqrt(shape[0] if shape else 1))


def _mask() -> Tensor:
    return torch.full((_STEPS, _STEPS), -math.inf).triu(1)


def _positions() -> Tensor:
    steps = torch.arange(_STEPS)[:, None] / 10 ** torch.linspace(0, 1, _WIDTH // 2)
    return torch.cat((steps.sin(), steps.cos()), 1)


def _attention(self: Any, x: Tensor) -> Tensor:
    q, k, v = self.qkv(x).chunk(3, -1)
    return torch.softmax(q @ k.transpose(1, 2) / math.sqrt(_WIDTH), -1) @ v


def _heads(self: Any, x: Tensor, **options: Any) -> Tensor:
    q, k, v = self.qkv(x).reshape(-1, _STEPS, 3, 2, 4).permute(2, 0, 3, 1, 4)
    made = functional.scaled_dot_product_attention(q, k, v, **options)
    return made.transpose(1, 2).reshape(-1, _STEPS, _WIDTH)


def _rotated(self: Any, x: Tensor) -> Tensor:
    q, k, v = self.qkv(x).chunk(3, -1)
    turned = torch.cat((-q[..., 4:], q[..., :4]), -1)
    q = q * self.cos + turned * self.sin
    return torch.softmax(q @ k.transpose(1, 2), -1) @ v


def _looped(self: Any, x: Tensor) -> Tensor:
    state = torch.zeros(x.shape[0], _WIDTH)
    for step in range(4):
        state = self.cell(x[:, step], state)
    return state


def _qkv() -> nn.Linear:
    return nn.Linear(_WIDTH, 3 * _WIDTH)


Makers = Mapping[str, Callable[[], Any]]
_LINEAR: Makers = {
    "linear": lambda: nn.Linear(_WIDTH, 5),
    "linear without bias": lambda: nn.Linear(_WIDTH, 5, bias=False),
    "prelu": lambda: nn.Sequential(nn.Linear(_WIDTH, 6), nn.PReLU(6)),
    "bilinear": lambda: With(lambda s, x: s.b(x, x), b=nn.Bilinear(_WIDTH, _WIDTH, 4)),
    "vector of weights": lambda: With(lambda s, x: x @ s.w, w=_weight(_WIDTH)),
    "scalar weight": lambda: With(lambda s, x: s.w * x.tanh(), w=_weight()),
    "gains and offsets": lambda: With(
        lambda s, x: x * s.g + s.b, g=_weight(_WIDTH), b=_weight(_WIDTH)
    ),
    "product with a weight": lambda: With(lambda s, x: x @ s.w, w=_weight(_WIDTH, 5)),
    "addmm": lambda: With(
        lambda s, x: torch.addmm(s.b, x, s.w), b=_weight(5), w=_weight(_WIDTH, 5)
    ),
    "functional linear": lambda: With(
        lambda s, x: functional.linear(x, s.w, s.b), w=_weight(5, _WIDTH), b=_weight(5)
    ),
    "einsum of x and weights": lambda: With(
        lambda s, x: torch.einsum("bi,ijk->bjk", x, s.w), w=_weight(_WIDTH, 3, 2)
    ),
    "low rank": lambda: With(
        lambda s, x: x @ (s.u @ s.v), u=_weight(_WIDTH, 2), v=_weight(2, 5)
    ),
    "LoRA beside a frozen weight": lambda: With(
        lambda s, x: x @ (s.w + s.u @ s.v),
        w=torch.randn(_WIDTH, 5),
        u=_weight(_WIDTH, 2),
        v=_weight(2, 5),
    ),
    "positive weights by exp": lambda: With(
        lambda s, x: x @ s.w.exp(), w=_weight(_WIDTH, 5)
    ),
    "masked weights": lambda: With(
        lambda s, x: x @ (s.w * s.m),
        w=_weight(_WIDTH, 5),
        m=torch.ones(_WIDTH, 5).tril(),
    ),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(_WIDTH, 5)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(_WIDTH, 5)),
    "one layer twice": lambda: With(
        lambda s, x: s.w(s.w(x).tanh()), w=nn.Linear(_WIDTH, _WIDTH)
    ),
    "a weight and its transpose": lambda: With(
        lambda s, x: (x @ s.w).tanh() @ s.w.T, w=_weight(_WIDTH, 5)
    ),
    "parameter list": lambda: With(
        lambda s, x: sum(x @ w for w in s.ws),
        ws=nn.ParameterList([_weight(_WIDTH, 4) for _ in range(3)]),
    ),
    "standardised by buffers": lambda: With(
        lambda s, x: s.w((x - s.mean) / s.std),
        w=nn.Linear(_WIDTH, 5),
        mean=torch.rand(_WIDTH),
        std=torch.rand(_WIDTH) + 1,
    ),
    "random features": lambda: With(
        lambda s, x: s.w((x @ s.r).cos()), w=nn.Linear(6, 5), r=torch.randn(_WIDTH, 6)
    ),
    "gates of experts": lambda: With(
        lambda s, x: (s.g(x).softmax(1)[:, :, None] * s.e(x).view(-1, 3, 4)).sum(1),
        g=nn.Linear(_WIDTH, 3),
        e=nn.Linear(_WIDTH, 12),
    ),
    "radial basis": lambda: With(
        lambda s, x: (-(x[:, None] - s.c).square().sum(2)).exp(), c=_weight(6, _WIDTH)
    ),
    "batch norm of rows": lambda: nn.Sequential(
        nn.Linear(_WIDTH, 6), nn.BatchNorm1d(6), nn.ReLU()
    ),
}
_SEQUENCES: Makers = {
    "linear at each step": lambda: nn.Linear(_WIDTH, 4),
    "layer norm": lambda: nn.LayerNorm(_WIDTH),
    "layer norm without gains": lambda: nn.Sequential(
        nn.Linear(_WIDTH, _WIDTH), nn.LayerNorm(_WIDTH, elementwise_affine=False)
    ),
    "layer norm of two axes": lambda: nn.LayerNorm((_STEPS, _WIDTH)),
    "root mean square norm": lambda: nn.RMSNorm(_WIDTH),
    "rnn": lambda: With(lambda s, x: s.r(x)[0], r=nn.RNN(_WIDTH, 5, batch_first=True)),
    "rnn with relu": lambda: With(
        lambda s, x: s.r(x)[0],
        r=nn.RNN(_WIDTH, 5, nonlinearity="relu", batch_first=True),
    ),
    "gru": lambda: With(lambda s, x: s.r(x)[0], r=nn.GRU(_WIDTH, 5, batch_first=True)),
    "gru, last state": lambda: With(
        lambda s, x: s.r(x)[1][-1], r=nn.GRU(_WIDTH, 5, batch_first=True)
    ),
    "gru, both ways": lambda: With(
        lambda s, x: s.r(x)[0],
        r=nn.GRU(_WIDTH, 5, bidirectional=True, batch_first=True),
    ),
    "lstm": lambda: With(
        lambda s, x: s.r(x)[0], r=nn.LSTM(_WIDTH, 5, batch_first=True)
    ),
    "lstm, last state": lambda: With(
        lambda s, x: s.r(x)[1][0][-1], r=nn.LSTM(_WIDTH, 5, batch_first=True)
    ),
    "lstm, two layers both ways": lambda: With(
        lambda s, x: s.r(x)[0][:, -1],
        r=nn.LSTM(_WIDTH, 5, 2, bidirectional=True, batch_first=True),
    ),
    "lstm with a learned first state": lambda: With(
        lambda s, x: s.r(x, (s.h.expand(-1, x.shape[0], -1).contiguous(),) * 2)[0],
        r=nn.LSTM(_WIDTH, 5, batch_first=True),
        h=_weight(1, 1, 5),
    ),
    "gru cell in a loop": lambda: With(_looped, cell=nn.GRUCell(_WIDTH, _WIDTH)),
    "rnn cell in a loop": lambda: With(_looped, cell=nn.RNNCell(_WIDTH, _WIDTH)),
    "attention by hand": lambda: With(_attention, qkv=_qkv()),
    "attention, scaled dot product": lambda: With(_heads, qkv=_qkv()),
    "attention, causal": lambda: With(partial(_heads, is_causal=True), qkv=_qkv()),
    "attention with a mask's buffer": lambda: With(
        lambda s, x: _heads(s, x, attn_mask=s.mask), qkv=_qkv(), mask=_mask()
    ),
    "attention with learned biases": lambda: With(
        lambda s, x: _heads(s, x, attn_mask=s.bias),
        qkv=_qkv(),
        bias=_weight(_STEPS, _STEPS),
    ),
    "rotary positions": lambda: With(
        _rotated, qkv=_qkv(), cos=_positions().cos(), sin=_positions().sin()
    ),
    "linear attention": lambda: With(
        lambda s, x: s.q(x).softmax(2) @ (s.k(x).softmax(1).transpose(1, 2) @ x),
        q=nn.Linear(_WIDTH, _WIDTH),
        k=nn.Linear(_WIDTH, _WIDTH),
    ),
    "learned queries": lambda: With(
        lambda s, x: torch.softmax(s.q @ x.transpose(1, 2), -1) @ x,
        q=_weight(3, _WIDTH),
    ),
    "multi-head attention": lambda: With(
        lambda s, x: s.a(x, x, x, need_weights=False)[0],
        a=nn.MultiheadAttention(_WIDTH, 2, batch_first=True),
    ),
    "transformer layer": lambda: nn.TransformerEncoderLayer(
        _WIDTH, 2, 16, batch_first=True
    ),
    "transformer layer, norm first": lambda: nn.TransformerEncoderLayer(
        _WIDTH, 2, 16, batch_first=True, norm_first=True
    ),
    "sinusoidal positions": lambda: With(
        lambda s, x: s.w(x + s.p), w=nn.Linear(_WIDTH, 4), p=_positions()
    ),
    "learned positions": lambda: With(
        lambda s, x: (x + s.p).tanh(), p=_weight(_STEPS, _WIDTH)
    ),
    "class token": lambda: With(
        lambda s, x: s.a(torch.cat((s.t.expand(x.shape[0], -1, -1), x), 1))[:, 0],
        t=_weight(1, 1, _WIDTH),
        a=nn.TransformerEncoderLayer(_WIDTH, 2, 16, batch_first=True),
    ),
    "mixing over time": lambda: With(
        lambda s, x: x + s.w(x.transpose(1, 2)).transpose(1, 2),
        w=nn.Linear(_STEPS, _STEPS),
    ),
    "channels in the batch": lambda: With(
        lambda s, x: s.w(x.permute(0, 2, 1).reshape(-1, _STEPS)).reshape(-1, _WIDTH, 4),
        w=nn.Linear(_STEPS, 4),
    ),
    "graph product": lambda: With(
        lambda s, x: (s.a @ s.w(x)).relu(),
        w=nn.Linear(_WIDTH, 4),
        a=torch.rand(_STEPS, _STEPS),
    ),
    "moving average": lambda: With(
        lambda s, x: s.w(x - functional.avg_pool1d(x.mT, 5, 1, 2).mT),
        w=nn.Linear(_WIDTH, 4),
    ),
}
_WAVES: Makers = {
    "conv1d": lambda: nn.Conv1d(_WIDTH, 4, 3),
    "conv1d, same": lambda: nn.Conv1d(_WIDTH, 4, 3, padding="same"),
    "conv1d, causal and dilated": lambda: With(
        lambda s, x: s.c(functional.pad(x, (4, 0))),
        c=nn.Conv1d(_WIDTH, 4, 3, dilation=2),
    ),
    "conv1d, standardised weights": lambda: With(
        lambda s, x: functional.conv1d(
            x, (s.w - s.w.mean((1, 2), keepdim=True)) / s.w.std((1, 2), keepdim=True)
        ),
        w=_weight(4, _WIDTH, 3),
    ),
    "transposed conv1d": lambda: nn.ConvTranspose1d(_WIDTH, 4, 4, 2, 1),
    "instance norm": lambda: nn.InstanceNorm1d(_WIDTH, affine=True),
}
_PICTURES: Makers = {
    "conv2d": lambda: nn.Conv2d(_WIDTH, 4, 3),
    "conv2d without bias": lambda: nn.Conv2d(_WIDTH, 4, 3, bias=False),
    "conv2d, stride and padding": lambda: nn.Conv2d(_WIDTH, 4, 3, 2, 1),
    "conv2d, dilated": lambda: nn.Conv2d(_WIDTH, 4, 3, dilation=2),
    "conv2d in groups": lambda: nn.Conv2d(_WIDTH, 4, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(_WIDTH, _WIDTH, 3, groups=_WIDTH),
    "separable": lambda: nn.Sequential(
        nn.Conv2d(_WIDTH, _WIDTH, 3, groups=_WIDTH), nn.Conv2d(_WIDTH, 4, 1)
    ),
    "conv2d, mirrored edges": lambda: nn.Conv2d(
        _WIDTH, 4, 3, padding=1, padding_mode="reflect"
    ),
    "conv2d, circular edges": lambda: nn.Conv2d(
        _WIDTH, 4, 3, padding=1, padding_mode="circular"
    ),
    "transposed conv2d": lambda: nn.ConvTranspose2d(_WIDTH, 4, 3, 2, 1, 1),
    "batch norm behind conv": lambda: nn.Sequential(
        nn.Conv2d(_WIDTH, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
    ),
    "batch norm before conv": lambda: nn.Sequential(
        nn.BatchNorm2d(_WIDTH), nn.ReLU(), nn.Conv2d(_WIDTH, 4, 3)
    ),
    "batch norm without gains": lambda: nn.Sequential(
        nn.Conv2d(_WIDTH, 4, 3), nn.BatchNorm2d(4, affine=False)
    ),
    "group norm": lambda: nn.GroupNorm(2, _WIDTH),
    "instance norm of pictures": lambda: nn.InstanceNorm2d(_WIDTH, affine=True),
    "residual": lambda: With(
        lambda s, x: (x + s.c(x)).relu(), c=nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
    ),
    "dense": lambda: With(
        lambda s, x: torch.cat((x, s.c(x)), 1), c=nn.Conv2d(_WIDTH, 4, 3, padding=1)
    ),
    "squeeze and excitation": lambda: With(
        lambda s, x: x * s.w(x.mean((2, 3))).sigmoid()[:, :, None, None],
        w=nn.Linear(_WIDTH, _WIDTH),
    ),
    "patches as tokens": lambda: With(
        lambda s, x: s.c(x).flatten(2).transpose(1, 2), c=nn.Conv2d(_WIDTH, 4, 2, 2)
    ),
    "pools and back by places": lambda: With(
        lambda s, x: functional.max_unpool2d(
            *functional.max_pool2d(s.c(x), 2, return_indices=True), 2
        ),
        c=nn.Conv2d(_WIDTH, 4, 3, padding=1),
    ),
}
_OTHERS: tuple[tuple[tuple[int, ...], int, Makers], ...] = (
    (_VOLUME, 0, {"conv3d": lambda: nn.Conv3d(2, 3, 2)}),
    (
        (_STEPS,),
        _TOKENS,
        {
            "embedding": lambda: nn.Embedding(_TOKENS, 5),
            "embedding with padding": lambda: nn.Embedding(_TOKENS, 5, padding_idx=0),
            "mean of an embedding": lambda: With(
                lambda s, x: s.e(x).mean(1), e=nn.Embedding(_TOKENS, 5)
            ),
            "embedding tied to the output": lambda: With(
                lambda s, x: s.e(x).mean(1) @ s.e.weight.T, e=nn.Embedding(_TOKENS, 5)
            ),
        },
    ),
)


def _public(
    name: str, row: tuple[int, ...], tokens: int, make: Callable[[], Any]
) -> PublicModel:
    headed = partial(Headed, row, make, tokens)
    return PublicModel(name, IDIOMS, "own code", headed, row, tokens=tokens)


MODELS = tuple(
    [
        _public(name, row, tokens, make)
        for row, tokens, makers in (
            (_ROW, 0, _LINEAR),
            (_SERIES, 0, _SEQUENCES),
            (_WAVE, 0, _WAVES),
            (_PICTURE, 0, _PICTURES),
            *_OTHERS,
        )
        for name, make in makers.items()
    ]
)
