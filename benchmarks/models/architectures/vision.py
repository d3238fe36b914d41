"""Pictures: small networks of torchvision and timm, and what their papers define.

Those of packages are the packages' own, with ten classes, at 64 or 96 pixels a side: a
board sees small pictures.
"""

import itertools
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.models.public_model import PublicModel

_FAMILY = "pictures"
_SIDE = 64


class LeNet5(nn.Module):
    """LeCun et al. 1998, with its tanh and average pools."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 120, 5),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(120, 84),
            nn.Tanh(),
            nn.Linear(84, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _Twice(nn.Sequential):
    def __init__(self, into: int, out: int) -> None:
        super().__init__(
            nn.Conv2d(into, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """arXiv:1505.04597 as in milesial/Pytorch-UNet, two levels."""

    def __init__(self, width: int = 8, *, bilinear: bool = False) -> None:
        super().__init__()
        self.first = _Twice(3, width)
        self.downs = nn.ModuleList(
            [_Twice(width, 2 * width), _Twice(2 * width, 4 * width)]
        )
        self.bilinear = bilinear
        ups = [(4 * width, 2 * width), (2 * width, width)]
        self.ups = nn.ModuleList([self._up(a, b) for a, b in ups])
        self.joins = nn.ModuleList([_Twice(2 * b, b) for _, b in ups])
        self.head = nn.Conv2d(width, 1, 1)

    def _up(self, into: int, out: int) -> nn.Module:
        if not self.bilinear:
            return nn.ConvTranspose2d(into, out, 2, 2)
        grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        return nn.Sequential(grow, nn.Conv2d(into, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.first(x)]
        for down in self.downs:
            kept.append(down(nn.functional.max_pool2d(kept[-1], 2)))
        y = kept.pop()
        for up, join in zip(self.ups, self.joins, strict=True):
            y, side = up(y), kept.pop()
            rows, columns = side.shape[2] - y.shape[2], side.shape[3] - y.shape[3]
            edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            y = join(torch.cat([side, nn.functional.pad(y, edges)], 1))
        return self.head(y)


class _Inverted(nn.Module):
    def __init__(
        self, into: int, out: int, stride: int, kernel: int, grow: int
    ) -> None:
        super().__init__()
        wide = into * grow
        self.kept = stride == 1 and into == out
        self.body = nn.Sequential(
            nn.Conv2d(into, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.kept else self.body(x)


def mcunet() -> nn.Module:
    """arXiv:2007.10319: inverted bottlenecks of kernels and widths that were sought."""
    plan = [
        (16, 8, 1, 3, 1), (8, 16, 2, 7, 3), (16, 16, 1, 3, 6), (16, 24, 2, 7, 5),
        (24, 24, 1, 5, 4), (24, 40, 2, 7, 5), (40, 40, 1, 7, 5), (40, 48, 1, 7, 4),
        (48, 96, 2, 7, 5), (96, 96, 1, 5, 5), (96, 160, 1, 7, 6),
    ]  # fmt: skip  # a table
    layers: list[nn.Module] = [
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
    ]
    layers += [_Inverted(*row) for row in plan]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(160, 10)
    )


def espcn() -> nn.Module:
    """arXiv:1609.05158: three convolutions and shuffled pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.Tanh(),
        nn.Conv2d(32, 16, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(16, 9, 3, padding=1),
        nn.PixelShuffle(3),
    )


def fsrcnn() -> nn.Module:
    """arXiv:1608.00367: shrink, map, expand, one transposed convolution."""
    layers: list[nn.Module] = [nn.Conv2d(1, 24, 5, padding=2), nn.PReLU(24)]
    layers += [
        nn.Conv2d(24, 8, 1),
        nn.PReLU(8),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.PReLU(8),
    ]
    layers += [nn.Conv2d(8, 24, 1), nn.PReLU(24)]
    grow = nn.ConvTranspose2d(24, 1, 9, 2, 4, output_padding=1)
    return nn.Sequential(*layers, grow)


class DnCNN(nn.Module):
    """arXiv:1608.03981: the noise is what is learned."""

    def __init__(self) -> None:
        super().__init__()
        middle: list[nn.Module] = []
        for _ in range(4):
            middle += [nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
            middle += [nn.ReLU()]
        first, last = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 1, 3, padding=1)
        self.body = nn.Sequential(first, nn.ReLU(), *middle, last)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.body(x)


class TinyYOLO(nn.Module):
    """arXiv:1612.08242: a grid of boxes, with sigmoid centres and exponential sizes."""

    def __init__(self, boxes: int = 2, classes: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = [3, 8, 16, 32, 64]
        for into, out in itertools.pairwise(sizes):
            layers += [nn.Conv2d(into, out, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(out), nn.LeakyReLU(0.1), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(64, boxes * (5 + classes), 1)
        self.boxes = boxes
        self.register_buffer("anchors", torch.tensor([[1.0, 2.0], [3.0, 1.5]]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.body(x))
        n, _, h, w = y.shape
        y = y.view(n, self.boxes, -1, h, w).permute(0, 1, 3, 4, 2)
        sizes = torch.exp(y[..., 2:4]) * self.anchors[None, :, None, None, :]
        return torch.cat([torch.sigmoid(y[..., :2]), sizes, y[..., 4:]], -1)


class PointNet(nn.Module):
    """arXiv:1612.00593: shared layers over points, a learned transform, the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU())
        self.angles = nn.Linear(32, 9)
        self.body = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.ReLU(), nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        found = self.angles(self.turn(x).amax(2)).view(-1, 3, 3)
        turned = torch.bmm(x.transpose(2, 1), found + torch.eye(3, device=x.device))
        return self.head(self.body(turned.transpose(2, 1)).amax(2))


class Siamese(nn.Module):
    """Koch et al. 2015: two pictures, one network, their distance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 5, 2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.code, self.head = nn.Linear(16 * 25, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = [self.code(self.body(part)) for part in (x[:, :1], x[:, 1:])]
        return self.head(torch.abs(one - two))


def _torchvision(name: str, **options: Any) -> PublicModel:
    make = partial(
        torchvision.models.get_model, name, weights=None, num_classes=10, **options
    )
    width = f" {options['width_mult']}" if "width_mult" in options else ""
    title = f"{name}{width}"
    return PublicModel(
        title, "torchvision", f"torchvision {name}", make, (3, _SIDE, _SIDE)
    )


def _timm(name: str, side: int = _SIDE, **options: Any) -> PublicModel:
    make = partial(timm.create_model, name, pretrained=False, num_classes=10, **options)
    return PublicModel(f"timm {name}", "timm", f"timm {name}", make, (3, side, side))


def _own(
    name: str, make: Any, source: str, row: tuple[int, ...], loss: str = "cross-entropy"
) -> PublicModel:
    return PublicModel(name, _FAMILY, source, make, row, loss)


MODELS = (
    _own("LeNet-5", LeNet5, "LeCun et al. 1998", (1, 28, 28)),
    _own("U-Net", UNet, "arXiv:1505.04597, milesial/Pytorch-UNet", (3, 36, 36), "bce"),
    _own(
        "U-Net, bilinear",
        partial(UNet, bilinear=True),
        "arXiv:1505.04597, milesial/Pytorch-UNet",
        (3, 36, 36),
        "bce",
    ),
    _own("MCUNet", mcunet, "arXiv:2007.10319", (3, 96, 96)),
    _own("ESPCN", espcn, "arXiv:1609.05158", (1, 16, 16), "mse"),
    _own("FSRCNN", fsrcnn, "arXiv:1608.00367", (1, 16, 16), "mse"),
    _own("DnCNN", DnCNN, "arXiv:1608.03981", (1, 24, 24), "mse"),
    _own("Tiny YOLO", TinyYOLO, "arXiv:1612.08242", (3, 64, 64), "mse"),
    _own("PointNet", PointNet, "arXiv:1612.00593", (3, 64)),
    _own("siamese network", Siamese, "Koch et al. 2015", (2, 28, 28), "bce"),
    _torchvision("mobilenet_v2", width_mult=0.35),
    _torchvision("mobilenet_v3_small"),
    _torchvision("shufflenet_v2_x0_5"),
    _torchvision("squeezenet1_1"),
    _torchvision("mnasnet0_5"),
    _torchvision("efficientnet_b0"),
    _torchvision("regnet_y_400mf"),
    _torchvision("resnet18"),
    _timm("efficientnet_lite0"),
    _timm("mobilenetv3_small_050"),
    _timm("mobilenetv4_conv_small_050"),
    _timm("lcnet_050"),
    _timm("tinynet_e"),
    _timm("ghostnet_050"),
    _timm("mobilevit_xxs"),
    _timm("mobilevitv2_050"),
    _timm("edgenext_xx_small"),
    _timm("convnext_atto"),
    _timm("efficientvit_b0"),
    _timm("starnet_s1"),
    _timm("vit_tiny_patch16_224", img_size=_SIDE),
    _timm("levit_128s", img_size=_SIDE),
    _timm("resnet10t"),
)
