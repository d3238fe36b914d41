"""Networks of keras.io's examples, small, and of `keras.applications`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks.models.public_model import KERAS, PublicModel

_FAMILY = "Keras examples"
WORDS, LENGTH = 200, 16


def _ended(start: Any, x: Any, classes: int = 10) -> Any:
    return keras.Model(start, layers.Dense(classes, activation="softmax")(x))


def _mnist() -> Any:
    x = start = keras.Input((28, 28, 1))
    for width in (16, 32):
        x = layers.MaxPooling2D(2)(layers.Conv2D(width, 3, activation="relu")(x))
    return _ended(start, layers.Dropout(0.5)(layers.Flatten()(x)))


def _perceptron() -> Any:
    x = start = keras.Input((24,))
    normal = layers.Normalization()
    normal.adapt(np.random.default_rng(5).normal(0.5, 2.0, (64, 24)))
    x = layers.Dense(32, activation="relu")(normal(x))
    return _ended(start, layers.Dense(16, activation="gelu")(x), 3)


def _series_fcn() -> Any:
    x = start = keras.Input((96, 1))
    for _ in range(3):
        x = layers.Conv1D(16, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return _ended(start, layers.GlobalAveragePooling1D()(x), 2)


def _series_transformer() -> Any:
    x = start = keras.Input((48, 1))
    for _ in range(2):
        y = layers.MultiHeadAttention(2, 8, dropout=0.1)(x, x)
        skip = layers.LayerNormalization(epsilon=1e-6)(y) + x
        y = layers.Conv1D(4, 1, activation="relu")(skip)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Conv1D(1, 1)(y)) + skip
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    return _ended(start, layers.Dense(16, activation="relu")(x), 2)


def _bidirectional() -> Any:
    x = start = keras.Input((LENGTH, 9))
    x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
    return _ended(start, layers.Bidirectional(layers.LSTM(8))(x), 4)


def _gru() -> Any:
    x = start = keras.Input((LENGTH, 9))
    return _ended(start, layers.GRU(16, unroll=True)(x), 4)


def _text_cnn() -> Any:
    x = start = keras.Input((LENGTH,))
    x = layers.Embedding(WORDS, 16)(x)
    x = layers.Conv1D(16, 7, padding="valid", activation="relu", strides=3)(x)
    x = layers.Dense(16, activation="relu")(layers.GlobalMaxPooling1D()(x))
    return keras.Model(start, layers.Dense(1, activation="sigmoid")(x))


class _Placed(layers.Layer):
    """Tokens and their places, as the example's own layer embeds them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = layers.Embedding(WORDS, 16)
        self.places = layers.Embedding(LENGTH, 16)

    def call(self, x: Any) -> Any:
        return self.words(x) + self.places(keras.ops.arange(LENGTH))


def _token_transformer() -> Any:
    start = keras.Input((LENGTH,))
    x = _Placed()(start)
    y = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    z = layers.Dense(16)(layers.Dense(32, activation="relu")(y))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(y + z))
    return _ended(start, x, 2)


def _denoiser() -> Any:
    x = start = keras.Input((28, 28, 1))
    for _ in range(2):
        x = layers.Conv2D(8, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    for _ in range(2):
        x = layers.Conv2DTranspose(8, 3, 2, activation="relu", padding="same")(x)
    x = layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x)
    return keras.Model(start, x)


def _anomalies() -> Any:
    x = start = keras.Input((96, 1))
    for width in (16, 8):
        x = layers.Conv1D(width, 7, 2, padding="same", activation="relu")(x)
    for width in (8, 16):
        x = layers.Conv1DTranspose(width, 7, 2, padding="same", activation="relu")(x)
    return keras.Model(start, layers.Conv1DTranspose(1, 7, padding="same")(x))


def _unet() -> Any:
    x = start = keras.Input((32, 32, 3))
    x = layers.ReLU()(
        layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same")(x))
    )
    skip = x
    for width in (8, 16):
        for _ in range(2):
            x = layers.SeparableConv2D(width, 3, padding="same")(layers.ReLU()(x))
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        x = skip = layers.add([x, layers.Conv2D(width, 1, 2, padding="same")(skip)])
    for width in (16, 8, 8):
        x = layers.Conv2DTranspose(width, 3, padding="same")(layers.ReLU()(x))
        x = layers.UpSampling2D(2)(layers.BatchNormalization()(x))
        skip = layers.Conv2D(width, 1, padding="same")(layers.UpSampling2D(2)(skip))
        x = skip = layers.add([x, skip])
    return keras.Model(
        start, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x)
    )


def _mobilenet() -> Any:
    return keras.applications.MobileNetV2(
        (64, 64, 3), alpha=0.35, weights=None, classes=10
    )


def _mixer() -> Any:
    x = start = keras.Input((32, 32, 3))
    x = layers.Reshape((16, 32))(layers.Conv2D(32, 8, 8)(x))
    for _ in range(2):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        y = layers.Dense(16)(layers.Dense(32, activation="gelu")(y))
        x = x + layers.Permute((2, 1))(y)
        y = layers.Dense(64, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(32)(y)
    return _ended(start, layers.GlobalAveragePooling1D()(x))


def _convmixer() -> Any:
    x = start = keras.Input((32, 32, 3))
    x = layers.BatchNormalization()(
        layers.Activation("gelu")(layers.Conv2D(32, 2, 2)(x))
    )
    for _ in range(2):
        y = layers.Activation("gelu")(layers.DepthwiseConv2D(5, padding="same")(x))
        x = layers.add([layers.BatchNormalization()(y), x])
        x = layers.BatchNormalization()(
            layers.Activation("gelu")(layers.Conv2D(32, 1)(x))
        )
    return _ended(start, layers.GlobalAveragePooling2D()(x))


def _causal() -> Any:
    x = start = keras.Input((64, 4))
    for rate in (1, 2, 4):
        y = layers.Conv1D(
            16, 3, padding="causal", dilation_rate=rate, activation="relu"
        )(x)
        x = layers.add([y, layers.Conv1D(16, 1)(x)])
    return _ended(start, layers.Lambda(lambda z: z[:, -1], output_shape=(16,))(x), 4)


def _distributed() -> Any:
    x = start = keras.Input((4, 16, 9))
    x = layers.TimeDistributed(layers.Conv1D(8, 3, activation="relu"))(x)
    x = layers.TimeDistributed(layers.MaxPooling1D(2))(x)
    x = layers.TimeDistributed(layers.Flatten())(x)
    return _ended(start, layers.LSTM(16)(x), 6)


def _superresolution() -> Any:
    x = start = keras.Input((16, 16, 1))
    for width, kernel in ((16, 5), (16, 3), (9, 3)):
        x = layers.Conv2D(width, kernel, padding="same", activation="relu")(x)
    x = layers.Reshape((16, 16, 3, 3))(x)
    x = layers.Reshape((48, 48, 1))(layers.Permute((1, 3, 2, 4))(x))
    return keras.Model(start, layers.Conv2D(1, 3, padding="same")(x))


def _gated() -> Any:
    x = start = keras.Input((24,))
    for _ in range(2):
        y = layers.Dense(24, activation="elu")(x)
        gate = layers.Dense(24, activation="sigmoid")(y)
        x = layers.LayerNormalization()(
            x + layers.Dropout(0.1)(layers.Dense(24)(y) * gate)
        )
    return _ended(start, x, 3)


def _model(
    name: str,
    make: Callable[[], Any],
    page: str,
    row: tuple[int, ...],
    loss: str = "cross-entropy",
    tokens: int = 0,
) -> PublicModel:
    source = f"keras.io/examples {page}" if page else "keras.applications"
    return PublicModel(name, _FAMILY, source, make, row, loss, tokens, KERAS)


MODELS = (
    _model("MNIST convnet", _mnist, "mnist_convnet", (28, 28, 1)),
    _model("normalised perceptron", _perceptron, "structured_data", (24,)),
    _model(
        "series FCN", _series_fcn, "timeseries_classification_from_scratch", (96, 1)
    ),
    _model(
        "series transformer",
        _series_transformer,
        "timeseries_classification_transformer",
        (48, 1),
    ),
    _model(
        "bidirectional LSTM", _bidirectional, "bidirectional_lstm_imdb", (LENGTH, 9)
    ),
    _model("GRU, unrolled", _gru, "working_with_rnns", (LENGTH, 9)),
    _model(
        "text CNN",
        _text_cnn,
        "text_classification_from_scratch",
        (LENGTH,),
        "bce",
        WORDS,
    ),
    _model(
        "token transformer",
        _token_transformer,
        "text_classification_with_transformer",
        (LENGTH,),
        tokens=WORDS,
    ),
    _model("convolutional denoiser", _denoiser, "autoencoder", (28, 28, 1), "bce"),
    _model(
        "anomaly autoencoder",
        _anomalies,
        "timeseries_anomaly_detection",
        (96, 1),
        "mse",
    ),
    _model(
        "U-Net, Xception style",
        _unet,
        "oxford_pets_image_segmentation",
        (32, 32, 3),
        "bce",
    ),
    _model("MobileNetV2 0.35", _mobilenet, "", (64, 64, 3)),
    _model("MLP-Mixer", _mixer, "mlp_image_classification", (32, 32, 3)),
    _model("ConvMixer", _convmixer, "convmixer", (32, 32, 3)),
    _model("causal TCN", _causal, "wavenet-like causal convolutions", (64, 4)),
    _model("time-distributed CNN", _distributed, "conv_lstm", (4, 16, 9)),
    _model(
        "ESPCN, Keras",
        _superresolution,
        "super_resolution_sub_pixel",
        (16, 16, 1),
        "mse",
    ),
    _model("gated residual network", _gated, "classification_with_grn_and_vsn", (24,)),
)
