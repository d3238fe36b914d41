"""The four networks of MLPerf Tiny, from both toolkits, whole and in eight bits.

Sizes are the benchmark's own (arXiv:2106.07597, mlcommons/tiny); weights are fresh.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.models.public_model import (
    KERAS,
    LITE,
    LITE_INT8,
    QDQ,
    TF2ONNX,
    PublicModel,
)

_FAMILY, _SOURCE = "MLPerf Tiny", "arXiv:2106.07597"
_KERAS_FORMS = (TF2ONNX, LITE, LITE_INT8, QDQ)


class ResNet8(nn.Module):
    """Image classification: three residual stacks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self._conv(3, 16, 1)
        self.ones = nn.ModuleList(
            [self._conv(16, 16, 1), self._conv(16, 32, 2), self._conv(32, 64, 2)]
        )
        self.twos = nn.ModuleList(
            [self._conv(16, 16, 1), self._conv(32, 32, 1), self._conv(64, 64, 1)]
        )
        skips = [nn.Identity(), nn.Conv2d(16, 32, 1, 2), nn.Conv2d(32, 64, 1, 2)]
        self.skips = nn.ModuleList(skips)
        self.head = nn.Linear(64, 10)

    def _conv(self, into: int, out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(into, out, 3, stride, 1), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for one, two, skip in zip(self.ones, self.twos, self.skips, strict=True):
            x = torch.relu(two(torch.relu(one(x))) + skip(x))
        return self.head(x.mean((2, 3)))


def _separable(into: int, out: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(into, into, 3, stride, 1, groups=into, bias=False),
        nn.BatchNorm2d(into),
        nn.ReLU(),
        nn.Conv2d(into, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]


def mobilenet_v1() -> nn.Module:
    """Visual wake words: MobileNet, a quarter as wide."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
    ]
    sizes = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    for into, out, stride in zip(sizes[:-1], sizes[1:], strides, strict=True):
        layers += _separable(into, out, stride)
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 2)
    )


def ds_cnn() -> nn.Module:
    """Keyword spotting: depthwise separable convolutions over cepstra."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Dropout(0.2),
    ]
    for _ in range(4):
        layers += _separable(64, 64)
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12)
    )


def autoencoder() -> nn.Module:
    """Machine sounds (ToyADMOS): dense layers around a code of eight."""
    layers: list[nn.Module] = []
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    for into, out in itertools.pairwise(sizes):
        layers += [nn.Linear(into, out), nn.BatchNorm1d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 640))


def _keras_resnet8() -> Any:
    import keras
    from keras import layers

    def conv(x: Any, width: int, stride: int, kernel: int = 3) -> Any:
        return layers.Conv2D(width, kernel, stride, padding="same")(x)

    start = keras.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(conv(start, 16, 1)))
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.ReLU()(layers.BatchNormalization()(conv(x, width, stride)))
        y = layers.BatchNormalization()(conv(y, width, 1))
        x = x if stride == 1 else conv(x, width, stride, 1)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(start, layers.Dense(10, activation="softmax")(x))


def _keras_separable(
    start: Any, x: Any, plan: list[tuple[int, int]], classes: int
) -> Any:
    import keras
    from keras import layers

    x = layers.ReLU()(layers.BatchNormalization()(x))
    for width, stride in plan:
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2D(width, 1, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(start, layers.Dense(classes, activation="softmax")(x))


def _keras_mobilenet() -> Any:
    import keras
    from keras import layers

    start = keras.Input((96, 96, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(start)
    sizes = [16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    return _keras_separable(start, x, list(zip(sizes, strides, strict=True)), 2)


def _keras_ds_cnn() -> Any:
    import keras
    from keras import layers

    start = keras.Input((49, 10, 1))
    x = layers.Conv2D(64, (10, 4), 2, padding="same")(start)
    return _keras_separable(start, x, [(64, 1)] * 4, 12)


def _keras_autoencoder() -> Any:
    import keras
    from keras import layers

    x = start = keras.Input((640,))
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(width)(x)))
    return keras.Model(start, layers.Dense(640)(x))


def _model(
    name: str, make: Any, row: tuple[int, ...], loss: str = "cross-entropy"
) -> PublicModel:
    return PublicModel(name, _FAMILY, _SOURCE, make, row, loss)


def _keras_model(
    name: str, make: Any, row: tuple[int, ...], loss: str = "cross-entropy"
) -> PublicModel:
    return PublicModel(
        name, _FAMILY, _SOURCE, make, row, loss, toolkit=KERAS, forms=_KERAS_FORMS
    )


MODELS = (
    _model("resnet8", ResNet8, (3, 32, 32)),
    _model("MobileNetV1 0.25 (VWW)", mobilenet_v1, (3, 96, 96)),
    _model("DS-CNN (KWS)", ds_cnn, (1, 49, 10)),
    _model("autoencoder (AD)", autoencoder, (640,), "mse"),
    _keras_model("resnet8, Keras", _keras_resnet8, (32, 32, 3)),
    _keras_model("MobileNetV1 0.25, Keras", _keras_mobilenet, (96, 96, 3)),
    _keras_model("DS-CNN, Keras", _keras_ds_cnn, (49, 10, 1)),
    _keras_model("autoencoder, Keras", _keras_autoencoder, (640,), "mse"),
)
