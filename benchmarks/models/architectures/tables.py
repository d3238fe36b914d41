"""Tables, recommendations and graphs."""

import torch
from torch import Tensor, nn

from benchmarks.models.public_model import PublicModel

_FAMILY = "tables, recommendation, graphs"
USERS = 100


class MatrixFactorisation(nn.Module):
    """Koren et al. 2009, with biases."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, width), nn.Embedding(USERS, width)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(USERS, 1)

    def forward(self, x: Tensor) -> Tensor:
        user, item = x[:, 0], x[:, 1]
        score = (self.users(user) * self.items(item)).sum(1, keepdim=True)
        return score + self.user_bias(user) + self.item_bias(item)


class NeuMF(nn.Module):
    """arXiv:1708.05031: factorisation beside a perceptron."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(USERS, width) for _ in range(4)])
        self.deep = nn.Sequential(nn.Linear(2 * width, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(width + 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        user, item = x[:, 0], x[:, 1]
        a, b, c, d = self.tables
        deep = self.deep(torch.cat([c(user), d(item)], 1))
        return self.head(torch.cat([a(user) * b(item), deep], 1))


class DeepFM(nn.Module):
    """arXiv:1703.04247: pairwise products by the square of the sum."""

    def __init__(self, fields: int = 6, width: int = 8) -> None:
        super().__init__()
        self.embed, self.linear = nn.Embedding(USERS, width), nn.Embedding(USERS, 1)
        self.deep = nn.Sequential(
            nn.Linear(fields * width, 32), nn.ReLU(), nn.Linear(32, 1)
        )
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        pairs = 0.5 * (y.sum(1).square() - y.square().sum(1)).sum(1, keepdim=True)
        return self.bias + self.linear(x).sum(1) + pairs + self.deep(y.flatten(1))


class FactorisationMachine(nn.Module):
    """Rendle 2010, over real features."""

    def __init__(self, features: int = 24, width: int = 4) -> None:
        super().__init__()
        self.v = nn.Parameter(0.1 * torch.randn(features, width))
        self.linear = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        pairs = (x @ self.v).square() - x.square() @ self.v.square()
        return self.linear(x) + 0.5 * pairs.sum(1, keepdim=True)


class DLRM(nn.Module):
    """arXiv:1906.00091: products of all pairs of dense and looked-up vectors."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, width))
        self.tables = nn.ModuleList([nn.Embedding(USERS, width) for _ in range(4)])
        row, column = torch.tril_indices(5, 5, -1)
        self.register_buffer("row", row)
        self.register_buffer("column", column)
        self.head = nn.Sequential(
            nn.Linear(width + 10, 16), nn.ReLU(), nn.Linear(16, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        dense = self.dense(torch.log1p(torch.relu(x[:, :8])))
        places = (torch.sigmoid(x[:, 8:]) * (USERS - 1)).long()
        parts = [table(places[:, k]) for k, table in enumerate(self.tables)]
        y = torch.stack([dense, *parts], 1)
        pairs = torch.bmm(y, y.transpose(1, 2))[:, self.row, self.column]
        return self.head(torch.cat([dense, pairs], 1))


class TwoTowers(nn.Module):
    """Yi et al. 2019: cosine of two normalised codes."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))
        self.two = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))
        self.heat = nn.Parameter(torch.tensor(5.0))

    def forward(self, x: Tensor) -> Tensor:
        one = nn.functional.normalize(self.one(x[:, :12]), dim=1)
        two = nn.functional.normalize(self.two(x[:, 12:]), dim=1)
        return self.heat * (one * two).sum(1, keepdim=True)


class WideAndDeep(nn.Module):
    """arXiv:1606.07792."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(24, 1)
        self.deep = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x) + self.deep(x)


class FTTransformer(nn.Module):
    """arXiv:2106.11959: a token for each number."""

    def __init__(self, features: int = 24, width: int = 16) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, width))
        self.bias = nn.Parameter(torch.randn(features, width))
        self.first = nn.Parameter(torch.randn(width))
        layer = nn.TransformerEncoderLayer(
            width, 2, 32, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = x.unsqueeze(-1) * self.weight + self.bias
        y = torch.cat([self.first.expand(len(x), 1, -1), y], 1)
        return self.head(self.encoder(y)[:, 0])


class SelfNormalising(nn.Module):
    """arXiv:1706.02515: SELU and alpha dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(24, 32),
            nn.SELU(),
            nn.AlphaDropout(0.1),
            nn.Linear(32, 32),
            nn.SELU(),
        )
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class DCN(nn.Module):
    """arXiv:2008.13535: cross layers of low rank."""

    def __init__(self, size: int = 24, rank: int = 4) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Linear(size, rank, bias=False) for _ in range(2)])
        self.up = nn.ModuleList([nn.Linear(rank, size) for _ in range(2)])
        self.head = nn.Linear(size, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for down, up in zip(self.down, self.up, strict=True):
            y = x * up(down(y)) + y
        return self.head(y)


class GCN(nn.Module):
    """arXiv:1609.02907: one fixed graph, its normalised adjacency a buffer."""

    def __init__(self, nodes: int = 12, into: int = 6) -> None:
        super().__init__()
        links = torch.eye(nodes) + torch.diag(torch.ones(nodes - 1), 1)
        links = links + torch.diag(torch.ones(nodes - 1), -1)
        root = links.sum(1).rsqrt()
        self.register_buffer("adjacency", root[:, None] * links * root[None])
        self.one, self.two = (
            nn.Linear(into, 16, bias=False),
            nn.Linear(16, 4, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.adjacency @ self.one(x))
        return (self.adjacency @ self.two(y)).mean(1)


class GAT(nn.Module):
    """arXiv:1710.10903: attention along the links of a fixed graph."""

    def __init__(self, nodes: int = 12, into: int = 6, width: int = 16) -> None:
        super().__init__()
        self.register_buffer("linked", torch.tril(torch.ones(nodes, nodes), 1).bool())
        self.w = nn.Linear(into, width, bias=False)
        self.left, self.right = nn.Linear(width, 1), nn.Linear(width, 1)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.w(x)
        scores = self.left(y) + self.right(y).transpose(1, 2)
        scores = nn.functional.leaky_relu(scores, 0.2)
        scores = scores.masked_fill(~self.linked, -9e15)
        return self.head(nn.functional.elu(torch.softmax(scores, -1) @ y).mean(1))


class DeepSets(nn.Module):
    """arXiv:1703.06114."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh()
        )
        self.rho = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.rho(self.phi(x).sum(1))


def _places(
    name: str, make: type[nn.Module], source: str, fields: int = 2
) -> PublicModel:
    return PublicModel(name, _FAMILY, source, make, (fields,), "bce", USERS)


def _reals(
    name: str,
    make: type[nn.Module],
    source: str,
    loss: str,
    row: tuple[int, ...] = (24,),
) -> PublicModel:
    return PublicModel(name, _FAMILY, source, make, row, loss)


MODELS = (
    _places("matrix factorisation", MatrixFactorisation, "Koren et al. 2009"),
    _places("NeuMF", NeuMF, "arXiv:1708.05031"),
    _places("DeepFM", DeepFM, "arXiv:1703.04247", 6),
    _reals("factorisation machine", FactorisationMachine, "Rendle 2010", "bce"),
    _reals("DLRM", DLRM, "arXiv:1906.00091", "bce", (12,)),
    _reals("two towers", TwoTowers, "Yi et al. 2019", "bce"),
    _reals("Wide & Deep", WideAndDeep, "arXiv:1606.07792", "bce"),
    _reals("FT-Transformer", FTTransformer, "arXiv:2106.11959", "cross-entropy"),
    _reals(
        "self-normalising network", SelfNormalising, "arXiv:1706.02515", "cross-entropy"
    ),
    _reals("DCN v2", DCN, "arXiv:2008.13535", "bce"),
    _reals("GCN", GCN, "arXiv:1609.02907", "cross-entropy", (12, 6)),
    _reals("GAT", GAT, "arXiv:1710.10903", "cross-entropy", (12, 6)),
    _reals("Deep Sets", DeepSets, "arXiv:1703.06114", "cross-entropy", (10, 6)),
)
