"""Pipelines as users of scikit-learn write them, fitted on random tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    GradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from benchmarks.models.public_model import SKLEARN, PublicModel

_FAMILY = "scikit-learn"
COLUMNS, KINDS = 6, 4


def table(columns: int = COLUMNS) -> Any:
    """(120, columns) float32: the last two columns are whole numbers below `KINDS`."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(120, columns)).astype(np.float32)
    x[:, -2:] = rng.integers(0, KINDS, (120, 2))
    return x


def _fitted(model: Any, classes: int) -> Any:
    x = table()
    scores = x[:, :4] @ np.array([1.0, -1.0, 0.5, 0.2])
    if classes:
        y: Any = np.digitize(
            scores, np.quantile(scores, np.linspace(0, 1, classes + 1)[1:-1])
        )
    else:
        y = np.abs(scores).astype(np.float32)
    return model.fit(x, y)


def _columns() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    kinds = OneHotEncoder(handle_unknown="ignore")
    return ColumnTransformer([("n", numbers, [0, 1, 2, 3]), ("k", kinds, [4, 5])])


def _logistic() -> Any:
    return LogisticRegression(max_iter=50)


_MAKERS: dict[str, tuple[Callable[[], Any], int]] = {
    "LinearRegression": (LinearRegression, 0),
    "Ridge": (Ridge, 0),
    "Lasso": (lambda: Lasso(0.01), 0),
    "ElasticNet": (lambda: ElasticNet(0.01), 0),
    "SGDRegressor": (lambda: make_pipeline(StandardScaler(), SGDRegressor()), 0),
    "PoissonRegressor": (PoissonRegressor, 0),
    "TweedieRegressor": (lambda: TweedieRegressor(power=0), 0),
    "MLPRegressor": (lambda: MLPRegressor(hidden_layer_sizes=(16,), max_iter=20), 0),
    "LinearSVR": (LinearSVR, 0),
    "SVR": (SVR, 0),
    "TransformedTargetRegressor": (lambda: TransformedTargetRegressor(Ridge()), 0),
    "LogisticRegression, 2": (_logistic, 2),
    "LogisticRegression, 4": (_logistic, 4),
    "SGDClassifier, log": (lambda: SGDClassifier(loss="log_loss"), 2),
    "LinearSVC": (LinearSVC, 3),
    "SVC": (lambda: make_pipeline(StandardScaler(), SVC()), 2),
    "MLPClassifier, 2": (lambda: MLPClassifier((16,), max_iter=20), 2),
    "MLPClassifier, 4": (lambda: MLPClassifier((16, 8), max_iter=20), 4),
    "ColumnTransformer, logistic": (lambda: make_pipeline(_columns(), _logistic()), 3),
    "ColumnTransformer, MLP": (
        lambda: make_pipeline(_columns(), MLPClassifier((16,), max_iter=20)),
        3,
    ),
    "two StandardScalers": (
        lambda: make_pipeline(
            ColumnTransformer(
                [("a", StandardScaler(), [0, 1]), ("b", RobustScaler(), [2, 3])],
                remainder="passthrough",
            ),
            _logistic(),
        ),
        3,
    ),
    "MinMaxScaler, MLP": (
        lambda: make_pipeline(MinMaxScaler(), MLPClassifier((16,), max_iter=20)),
        3,
    ),
    "MaxAbsScaler, Ridge": (lambda: make_pipeline(MaxAbsScaler(), Ridge()), 0),
    "Normalizer, Binarizer": (
        lambda: make_pipeline(
            FeatureUnion([("n", Normalizer()), ("b", Binarizer(threshold=0.1))]),
            _logistic(),
        ),
        3,
    ),
    "KBinsDiscretizer": (
        lambda: make_pipeline(KBinsDiscretizer(4, encode="onehot-dense"), _logistic()),
        3,
    ),
    "PolynomialFeatures": (
        lambda: make_pipeline(PolynomialFeatures(2), StandardScaler(), Ridge()),
        0,
    ),
    "PowerTransformer": (lambda: make_pipeline(PowerTransformer(), _logistic()), 3),
    "QuantileTransformer": (
        lambda: make_pipeline(QuantileTransformer(n_quantiles=20), _logistic()),
        3,
    ),
    "PCA": (lambda: make_pipeline(StandardScaler(), PCA(3), _logistic()), 3),
    "TruncatedSVD": (lambda: make_pipeline(TruncatedSVD(3), LinearRegression()), 0),
    "SelectKBest": (
        lambda: make_pipeline(VarianceThreshold(), SelectKBest(k=3), _logistic()),
        3,
    ),
    "OrdinalEncoder": (
        lambda: make_pipeline(
            ColumnTransformer(
                [("o", OrdinalEncoder(), [4, 5])], remainder="passthrough"
            ),
            _logistic(),
        ),
        3,
    ),
    "KMeans distances": (
        lambda: make_pipeline(KMeans(3, n_init=1, random_state=1), _logistic()),
        3,
    ),
    "stacked forest": (
        lambda: StackingClassifier(
            [("forest", RandomForestClassifier(5, max_depth=3))], LogisticRegression()
        ),
        2,
    ),
    "stacked boosting": (
        lambda: StackingClassifier(
            [("boost", GradientBoostingClassifier(n_estimators=5))],
            LogisticRegression(),
        ),
        2,
    ),
}
"""Each with its classes; 0 is a regression."""


def _model(name: str, make: Callable[[], Any], classes: int) -> PublicModel:
    def fitted() -> Any:
        return _fitted(make(), classes)

    loss = {0: "mse", 2: "bce"}.get(classes, "cross-entropy")
    source = f"scikit-learn {name}"
    return PublicModel(name, _FAMILY, source, fitted, (COLUMNS,), loss, toolkit=SKLEARN)


MODELS = tuple([_model(name, *made) for name, made in _MAKERS.items()])
