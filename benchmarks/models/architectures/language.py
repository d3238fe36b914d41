"""Words, sounds and sequences: text networks, keyword spotters, transformers."""

from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.models.public_model import PublicModel

_WORDS, _SOUND, _TRANSFORMER = "text", "sound", "transformers"
VOCABULARY, LENGTH = 200, 16


class TextCNN(nn.Module):
    """arXiv:1408.5882."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 32)
        self.convs = nn.ModuleList([nn.Conv1d(32, 16, k) for k in (3, 4, 5)])
        self.head = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x).transpose(1, 2)
        found = [torch.relu(conv(y)).amax(2) for conv in self.convs]
        return self.head(torch.cat(found, 1))


class FastText(nn.Module):
    """arXiv:1607.01759: the mean of the words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCABULARY, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).mean(1))


class CharLSTM(nn.Module):
    """opacus examples/char-lstm-classification.py."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 32)
        self.lstm = nn.LSTM(32, 32, batch_first=True)
        self.head = nn.Linear(32, 18)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0][:, -1])


class IMDB(nn.Module):
    """opacus examples/imdb.py: an embedding, the mean by an adaptive pool."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.embed(x).transpose(1, 2)).squeeze(-1)
        return self.two(self.one(y))


class GRUAttention(nn.Module):
    """arXiv:1409.0473: a bidirectional GRU, attention that leaves padding out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 24, padding_idx=0)
        self.gru = nn.GRU(24, 16, batch_first=True, bidirectional=True)
        self.score, self.head = nn.Linear(32, 1), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(self.embed(x))
        scores = self.score(torch.tanh(y)).squeeze(-1).masked_fill(x == 0, -1e9)
        return self.head((torch.softmax(scores, 1).unsqueeze(-1) * y).sum(1))


class NextWord(nn.Module):
    """A causal transformer with a registered mask and a tied embedding."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        mask = torch.triu(torch.full((LENGTH, LENGTH), float("-inf")), 1)
        self.register_buffer("mask", mask)
        angle = torch.arange(LENGTH)[:, None] * torch.exp(
            torch.arange(0, width, 2) * -0.3
        )
        self.register_buffer(
            "pe", torch.stack([angle.sin(), angle.cos()], 2).flatten(1)
        )
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.encoder(self.embed(x) + self.pe, mask=self.mask)
        return self.head(y[:, -1])


class KWT(nn.Module):
    """arXiv:2104.00769: the keyword transformer, one patch a step."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(40, width)
        self.place = nn.Parameter(torch.randn(1, 50, width))
        self.first = nn.Parameter(torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(
            width, 1, 128, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 12))

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x.transpose(1, 2))
        y = torch.cat([self.first.expand(x.shape[0], -1, -1), y], 1) + self.place
        return self.head(self.encoder(y)[:, 0])


class M5(nn.Module):
    """arXiv:1610.00087: raw waveforms."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = [(1, width, 80, 8), (width, width, 3, 1), (width, 2 * width, 3, 1)]
        for into, out, kernel, stride in sizes:
            layers += [nn.Conv1d(into, out, kernel, stride), nn.BatchNorm1d(out)]
            layers += [nn.ReLU(), nn.MaxPool1d(4)]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(2 * width, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.body(x).mean(2)), 1)


class BCResNet(nn.Module):
    """arXiv:2106.04140: residuals broadcast over frequencies."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 5, (2, 1), 2)
        self.over = nn.ModuleList([self._over(width) for _ in range(2)])
        self.along = nn.ModuleList([self._along(width) for _ in range(2)])
        self.head = nn.Conv2d(width, 12, 1)

    def _over(self, width: int) -> nn.Sequential:
        conv = nn.Conv2d(width, width, (3, 1), padding=(1, 0), groups=width, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width))

    def _along(self, width: int) -> nn.Sequential:
        conv = nn.Conv2d(width, width, (1, 3), padding=(0, 1), groups=width, bias=False)
        last = nn.Conv2d(width, width, 1, bias=False)
        return nn.Sequential(
            conv, nn.BatchNorm2d(width), nn.SiLU(), last, nn.Dropout2d(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        for over, along in zip(self.over, self.along, strict=True):
            z = over(y)
            y = torch.relu(y + z + along(z.mean(2, keepdim=True)))
        return self.head(y.mean((2, 3), keepdim=True)).flatten(1)


class MelSpotter(nn.Module):
    """Waveform to spectrum, mel filters as a buffer, and a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))
        bins, points = torch.arange(33).float(), torch.linspace(0, 32, 14)
        rise = (bins[None] - points[:-2, None]) / (points[1] - points[0])
        self.register_buffer("mel", (1 - (rise - 1).abs()).clamp(min=0))
        self.body = nn.Sequential(nn.Linear(12, 32), nn.ReLU())
        self.head = nn.Linear(32, 12)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.squeeze(1).unfold(1, 64, 32) * self.window
        spectrum = torch.fft.rfft(frames)
        power = spectrum.real.square() + spectrum.imag.square()
        return self.head(self.body(torch.log(power @ self.mel.T + 1e-6)).mean(1))


class _Whole(nn.Module):
    """A Hugging Face model that takes tokens and gives logits alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).logits


def _bert(kind: str, attention: str) -> nn.Module:
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
        "num_labels": 4,
        "attn_implementation": attention,
    }
    config: Any = getattr(transformers, f"{kind}Config")
    model: Any = getattr(transformers, f"{kind}ForSequenceClassification")
    if kind == "DistilBert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    if kind in ("Albert", "Electra"):
        sizes |= {"embedding_size": 16}
    if kind == "GPT2":
        sizes |= {"n_positions": 32, "pad_token_id": 0}
    return _Whole(model(config(**sizes)))


def _vit() -> nn.Module:
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, num_labels=4,
    )  # fmt: skip  # a table
    return _Whole(transformers.ViTForImageClassification(config))


def _tokens(name: str, make: Any, source: str, family: str = _WORDS) -> PublicModel:
    return PublicModel(name, family, source, make, (LENGTH,), tokens=VOCABULARY)


MODELS = (
    _tokens("TextCNN", TextCNN, "arXiv:1408.5882"),
    _tokens("fastText", FastText, "arXiv:1607.01759"),
    _tokens("char-LSTM", CharLSTM, "opacus examples/char-lstm-classification.py"),
    _tokens("IMDB embedding", IMDB, "opacus examples/imdb.py"),
    _tokens("GRU with attention", GRUAttention, "arXiv:1409.0473"),
    _tokens("next word, tied", NextWord, "arXiv:1706.03762", _TRANSFORMER),
    *[
        _tokens(
            f"{kind}, {attention}",
            partial(_bert, kind, attention),
            f"transformers {kind}ForSequenceClassification",
            _TRANSFORMER,
        )
        for kind in ("Bert", "DistilBert", "Roberta", "Electra", "Albert")
        for attention in ("eager", "sdpa")
        if attention == "sdpa" or kind in ("Bert", "DistilBert")
    ],
    PublicModel("ViT", _TRANSFORMER, "transformers ViT", _vit, (3, 32, 32)),
    PublicModel("KWT", _SOUND, "arXiv:2104.00769", KWT, (40, 49)),
    PublicModel("M5", _SOUND, "arXiv:1610.00087", M5, (1, 2000)),
    PublicModel("BC-ResNet-1", _SOUND, "arXiv:2106.04140", BCResNet, (1, 40, 50)),
    PublicModel(
        "mel spectrum", _SOUND, "Davis and Mermelstein 1980", MelSpotter, (1, 1024)
    ),
)
