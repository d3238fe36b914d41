"""Material that a fleet starts from: data dealt out, a model compiled for them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler import ORIGIN, Bundle, compile_model, started_from
from starling.engine.npy_vector import read_vector
from starling.fleet.datasets.hold_out import root_rows
from starling.fleet.datasets.partition import Examples, deal, hold_out
from starling.fleet.fronts.front_catalog import FRONTS, check_not_seen
from starling.fleet.fronts.head_model import HEAD, NAME, head_model, metadata
from starling.fleet.learning_options import LearningOptions
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import DataShares, model_name
from starling.fleet.reference_models import MODEL_SUFFIX, build_model
from starling.fleet.runtime.dataset_catalog import (
    FleetDataSet,
    examples_file,
    open_data_set,
)
from starling.fleet.runtime.fronts.front_builder import open_front
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.learning.score_policy import (
    SCORE_RULES,
    ScoreRule,
    root_digest,
)
from starling.protocol.model.training_bundle import (
    THETA,
    BundleManifest,
    LossSettings,
)
from starling.protocol.privacy.clipping_functions import NORM, weights_lost
from starling.records.record_set import LABELS
from starling.records.scaling import POOLED_NOTE

OWN_TEST_OF = 5
"""One of so many of a board's examples compares its own model with the fleet's."""
_BCE = "bce"


@dataclass(frozen=True)
class TrainingMaterial:
    """Everything that a fleet starts from; a function of the plan.

    Attributes:
      data: The data set.
      boards: Each board's examples, in the data's own units.
      shares: What they hold.
      bundle: The packed training bundle.
      plan: What was asked for, with what was left to the data filled in.
      root: Training examples that coordinators have and no board; None without scores.
      own_tests: For each board, examples like its own that it does not train on; empty
        where boards have no models of their own.
    """

    data: FleetDataSet
    boards: list[Examples]
    shares: DataShares
    bundle: bytes
    plan: FleetPlan
    root: Examples | None = None
    own_tests: tuple[Examples, ...] = ()


def prepare(plan: FleetPlan) -> TrainingMaterial:
    """Reads the data, deals them out, builds and compiles the model.

    Raises:
      ConfigError: Naming the flag or file at fault.
    """
    rng = np.random.default_rng(plan.seed)
    data = _with_loss(open_data_set(plan.data, rng, plan.data_options), plan)
    # Before anything is dealt out: no board has a record of the root set.
    data, root = with_root(data, plan)
    owners = data.owners
    plan = plan.resolved(0 if owners is None else len(owners.names), len(data.training))
    who = None if owners is None else (owners.codes, owners.names)
    boards = deal(data.training, plan.devices, plan.split, rng, who)
    data, boards, own_tests = _with_own_tests(data, boards, plan)
    # Of what boards train on: pledges must not count what was kept aside.
    shares = shares_of(data, boards, root)
    settings, data = _loss_settings(plan.learning, data)
    if plan.privacy.startswith("record"):
        # A bundle that this package compiles clips to a norm.
        lost = weights_lost(settings.class_weights, NORM)
        data = replace(data, notes=(*data.notes, *([lost] if lost else [])))
    if plan.head_on is not None:
        plan, data, made = _on_front(plan, plan.head_on, data)
        compiled = _compile(made, plan.learning, data, settings)
    else:
        compiled = _compiled(plan, shares, data, settings, rng)
        if origin := compiled.manifest.origin:
            note = f"the model's first weights say of themselves: {origin}"
            data = replace(data, notes=(*data.notes, note))
    bundle = _started(plan, data, compiled, settings)
    return TrainingMaterial(data, boards, shares, bundle.packed, plan, root, own_tests)


def with_root(
    data: FleetDataSet, plan: FleetPlan
) -> tuple[FleetDataSet, Examples | None]:
    """The data without the root set's records, and these, if updates are scored.

    Raises:
      ConfigError: If they are to be scored by labels that the data do not have.
    """
    if SCORE_RULES[plan.scores] is ScoreRule.NONE:
        return data, None
    if SCORE_RULES[plan.scores] is ScoreRule.ACCURACY and data.loss != LABELS:
        raise ConfigError("the targets are no labels", key="--scores")
    # A generator of its own, so that all else is as it would be without scores.
    chosen = root_rows(data.training.y, np.random.default_rng((plan.seed, 2)))
    rest = np.setdiff1d(np.arange(len(data.training)), chosen)
    owners = None if data.owners is None else data.owners.take(rest)
    root = data.training.take(chosen)
    return replace(data, training=data.training.take(rest), owners=owners), root


def shares_of(
    data: FleetDataSet, boards: Sequence[Examples], root: Examples | None
) -> DataShares:
    """Sizes of the boards' shares, with the digest of the coordinators' root set."""
    sizes = [len(board) for board in boards]
    return DataShares(
        data.training.x.shape[1:],
        min(sizes),
        max(sizes),
        data.loss,
        data.reuse,
        "" if root is None else root_digest(examples_file(root)).hex(),
    )


def _with_own_tests(
    data: FleetDataSet, boards: list[Examples], plan: FleetPlan
) -> tuple[FleetDataSet, list[Examples], tuple[Examples, ...]]:
    """Each board's examples without a fifth of them, and that fifth."""
    if plan.learning.personal is None:
        return data, boards, ()
    # Of its own, so that all else is as it would be without models of their own.
    rng = np.random.default_rng((plan.seed, 4))
    parts = [
        hold_out(board, len(board) // OWN_TEST_OF if len(board) > 1 else 0, rng)
        for board in boards
    ]
    note = "a fifth of each board's records compares its own model with the fleet's"
    if data.reuse > 1:
        note += "; windows overlap, so that both have seen parts of them"
    data = replace(data, notes=(*data.notes, note))
    return data, [part for part, _ in parts], tuple([rest for _, rest in parts])


def _with_loss(data: FleetDataSet, plan: FleetPlan) -> FleetDataSet:
    """The data set with the loss that was asked for.

    Raises:
      ConfigError: If its targets are of another kind.
    """
    loss = plan.learning.loss
    if loss is None or loss == data.loss:
        return data
    if LABELS in (loss, data.loss):
        there = "labels" if data.loss == LABELS else "numbers"
        raise ConfigError(f"the data's targets are {there}", key=f"--loss {loss}")
    if loss != _BCE:
        return replace(data, loss=loss)
    y = np.concatenate([data.training.y, data.held_out.y])
    # The logarithms of the loss have no value elsewhere.
    if y.min() < 0 or y.max() > 1:
        raise ConfigError(
            "targets must lie in [0, 1]; take mse, or cross-entropy for labels",
            key=f"--loss {loss}",
        )
    # Shares are shares: nothing to scale.
    table = data.table
    if table is not None:
        plain = [replace(item, scale=1.0, offset=0.0) for item in table.targets]
        table = replace(table, targets=tuple(plain))
    return replace(data, loss=loss, table=table)


def _loss_settings(
    learning: LearningOptions, data: FleetDataSet
) -> tuple[LossSettings, FleetDataSet]:
    """Class weights, given or measured; the latter with a note."""
    weights = learning.class_weights
    if not weights and not learning.balanced:
        return LossSettings(), data
    if data.loss != LABELS:
        raise ConfigError("the targets are no labels", key="--class-weights")
    if learning.balanced:
        counts = np.bincount(data.training.y, minlength=data.classes)
        if not counts.all():
            raise ConfigError(
                f"no record to learn class {_class_name(data, int(counts.argmin()))} "
                "from",
                key="--class-weights",
            )
        balance = len(data.training) / (len(counts) * counts)
        weights = tuple([float(f"{weight:.6g}") for weight in balance])
        note = POOLED_NOTE.format(columns="class weights").replace("scales of ", "")
        data = replace(data, notes=(*data.notes, note))
    if len(weights) != data.classes:
        raise ConfigError(
            f"{len(weights)} weights for {data.classes} classes", key="--class-weights"
        )
    return LossSettings(weights), data


def _class_name(data: FleetDataSet, number: int) -> str:
    return data.labels[number] if data.labels else str(number)


def _compiled(
    plan: FleetPlan,
    shares: DataShares,
    data: FleetDataSet,
    settings: LossSettings,
    rng: np.random.Generator,
) -> Bundle:
    """Makes a model or reads one, and compiles it.

    Raises:
      ConfigError: If the model does not fit the data, or its file cannot be read.
    """
    if plan.model is None or not plan.model.endswith(MODEL_SUFFIX):
        name = model_name(plan, shares)
        made = build_model(name, shares.shape, data.classes, rng)
        return _compile(made, plan.learning, data, settings)
    path = Path(plan.model)
    ports = compile_model(path, loss=data.loss).manifest
    known = FRONTS.get(metadata(onnx.load(path, load_external_data=False), NAME))
    if known is not None:
        check_not_seen(known, data.name)
    _check_fits(ports, shares, data, plan.model)
    if data.labels and len(data.labels) < ports.output.shape[-1]:
        # The model knows more classes than the data have.
        spare = range(len(data.labels), ports.output.shape[-1])
        data = replace(data, labels=(*data.labels, *[f"class {at}" for at in spare]))
    return _compile(path, plan.learning, data, settings)


def _on_front(
    plan: FleetPlan, name: str, data: FleetDataSet
) -> tuple[FleetPlan, FleetDataSet, onnx.ModelProto]:
    """A head on a front, which is trained alone and says where its front comes from.

    Raises:
      ConfigError: If there is no such front, it has seen the data, or they do not fit.
    """
    front = open_front(name, _say)
    known = FRONTS.get(metadata(front, NAME))
    if known is not None:
        check_not_seen(known, data.name)
    made = head_model(front, data.training.x.shape[1:], data.classes)
    learning = plan.learning
    if not learning.train and not learning.freeze:
        plan = replace(plan, learning=replace(learning, train=(HEAD,)))
    title = known.name if known is not None else name
    origin = metadata(front, ORIGIN) or "nothing says where it comes from"
    note = f"accuracy is of a head on the front {title}: {origin}"
    return plan, replace(data, notes=(*data.notes, note)), made


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _compile(
    model: onnx.ModelProto | Path,
    learning: LearningOptions,
    data: FleetDataSet,
    settings: LossSettings,
) -> Bundle:
    return compile_model(
        model,
        loss=data.loss,
        train=learning.train,
        freeze=learning.freeze,
        local=learning.local,
        classes=data.labels,
        preprocessing=data.preprocessing,
        settings=settings,
        table=data.table,
    )


def _check_fits(
    ports: BundleManifest, shares: DataShares, data: FleetDataSet, file: str
) -> None:
    outputs = ports.output.shape[-1] if ports.output.shape else 1
    labels = data.loss == LABELS
    fits = outputs >= data.classes if labels else outputs == data.classes
    if ports.input.shape == shares.shape and fits:
        return
    what = f"of {data.classes} classes" if labels else f"with {data.classes} targets"
    raise ConfigError(
        f"takes {ports.input.shape} and gives {outputs} scores; the data are "
        f"{shares.shape} {what}",
        file=file,
        key="--model",
    )


def _started(
    plan: FleetPlan, data: FleetDataSet, bundle: Bundle, settings: LossSettings
) -> Bundle:
    """The bundle with the parameters of `--start`, if there is one."""
    start = plan.learning.start
    if start is None:
        return bundle
    try:
        theta = _parameters_of(Path(start), plan, data, bundle, settings)
        return started_from(bundle, theta)
    except ProtocolError as error:
        raise ConfigError(str(error), file=start, key="--start") from error
    except OSError as error:
        detail = error.strerror or "cannot be read"
        raise ConfigError(detail, file=start, key="--start") from error
    except ConfigError as error:
        raise ConfigError(error.detail, file=start, key="--start") from error


def _parameters_of(
    path: Path,
    plan: FleetPlan,
    data: FleetDataSet,
    bundle: Bundle,
    settings: LossSettings,
) -> NDArray[np.float32]:
    if path.suffix == MODEL_SUFFIX:
        other = _compile(path, plan.learning, data, settings)
        _check_alike(other.manifest, bundle.manifest)
        return other.theta
    file = path / THETA if path.is_dir() else path
    return read_vector(file.read_bytes(), file.name)


def _check_alike(other: BundleManifest, mine: BundleManifest) -> None:
    shapes: Sequence[list[tuple[int, ...]]] = [
        [item.shape for item in each.parameters if item.trainable]
        for each in (other, mine)
    ]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"its trained weights are {shapes[0]}, those of the model {shapes[1]}"[:400]
        )
