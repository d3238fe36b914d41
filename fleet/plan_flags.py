"""Flags that say what a fleet is and what it learns, and the plan that they make."""

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from starling.protocol.learning.score_policy import DEFAULT_QUARANTINE_S
from starling.records.runtime.settings_file import add_data_flags, data_options_of

if TYPE_CHECKING:
    from starling.fleet.plan import FleetPlan
    from starling.fleet.runtime.virtual_run import Pace


def add_plan_flags(run: argparse.ArgumentParser) -> None:
    """Adds them all, in groups."""
    _add_fleet(run)
    add_data_flags(run.add_argument_group("what is learned from data of your own"))
    _add_learning(run)
    _add_trust(run)
    _add_model(run)


def plan_of(options: argparse.Namespace) -> "FleetPlan":
    """The plan.

    Raises:
      ConfigError: If no fleet can be so.
    """
    # Imported late, so that --help and usage errors are quick.
    from starling.fleet.plan import FleetPlan

    named = {item.name for item in fields(FleetPlan)}
    plain = {k: v for k, v in vars(options).items() if k in named}
    plain["fault"] = "; ".join(options.fault)
    if plain["guard_patience"] is None:
        # Patience to the end, but for a task that never learned.
        plain["guard_patience"] = options.until_version
    return FleetPlan(**plain | _data_and_learning(options))


def pace_of(options: argparse.Namespace) -> "Pace":
    """The pace of virtual boards."""
    from starling.fleet.runtime.virtual_run import Pace

    return Pace(
        waves=options.waves or options.rule == "fedavg",
        speed_sigma=options.speed_sigma,
        virtual_time=options.virtual_time,
        over_select=options.over_select,
    )


def _add_fleet(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("the fleet")
    group.add_argument(
        "--devices",
        type=int,
        default=0,
        help="boards (default as many as the data name, or 10)",
    )
    group.add_argument(
        "--buffer", type=int, default=4, help="updates that make a version (default 4)"
    )
    group.add_argument("--leases", type=int, help="boards in flight at once")
    group.add_argument(
        "--coordinators",
        type=int,
        default=1,
        help="processes that keep the chain together (default 1)",
    )
    group.add_argument(
        "--brokers",
        type=int,
        default=1,
        help="over which coordinators and boards are dealt out (default 1)",
    )
    group.add_argument(
        "--fault-model",
        default="byzantine",
        help="byzantine, or crash for 2 or 3 coordinators that trust each other: then "
        "a majority decides, and nothing holds if one lies (default byzantine)",
    )
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TIMELINE",
        help="what goes wrong, as in 'kill coordinator 2 at 20s; restart coordinator "
        "2 at 28s; coordinator 4 lies from 30s; board 3 loses power at 35s; boards 1-2 "
        "reach the bound from version 5'; may be given several times",
    )
    group.add_argument(
        "--data",
        default="digits",
        help="digits, mnist, or data of your own: a .csv, .tsv, .parquet or .npz file,"
        " or a folder of these, of pictures or of WAV files; see starling data check",
    )
    group.add_argument(
        "--split",
        default="",
        help="iid, dirichlet:ALPHA, shards:S or natural (default natural where the data"
        " name boards, else iid)",
    )
    group.add_argument("--seed", type=int, default=1, help="of split and weights")
    _add_pace(group)


def _add_pace(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--virtual", action="store_true", help="all boards in this one process"
    )
    group.add_argument(
        "--waves", action="store_true", help="virtual only: versions in lock step"
    )
    group.add_argument(
        "--over-select",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="virtual only: in lock step, but a share more boards are asked than a "
        "version takes, and the last ones come too late",
    )
    group.add_argument(
        "--speed-sigma",
        type=float,
        default=0.25,
        metavar="SIGMA",
        help="virtual only: boards' speeds are lognormal with this (default 0.25)",
    )
    group.add_argument(
        "--virtual-time",
        action="store_true",
        help="virtual only: times are those of the boards, a training about 1 s",
    )


def _add_learning(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("what it learns, and how privately")
    group.add_argument(
        "--privacy",
        default="record",
        help="record, record-dpsgd, device-gaussian, device-laplace, labels or none"
        " (default record)",
    )
    group.add_argument(
        "--epsilon", type=float, default=8.0, help="that a board's data may pay in all"
    )
    group.add_argument("--delta", type=float, default=1e-5, help="of that epsilon")
    group.add_argument("--releases", type=int, help="updates planned for one board")
    group.add_argument(
        "--until-version", type=int, default=100, help="end here (default 100)"
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="VERSIONS",
        help="end after so many versions without a lower held-out loss",
    )
    group.add_argument(
        "--guard-patience",
        type=int,
        metavar="VERSIONS",
        help="the task itself pauses after so many versions without a lower held-out"
        " loss of a quorum of coordinators, and the run ends; 0 for never (default:"
        " after ten if none was better than version 0)",
    )
    group.add_argument(
        "--baseline",
        action="store_true",
        help="train the same model on all data together, too, and say how far the"
        " fleet is from it (simulation only)",
    )
    group.add_argument(
        "--time-limit",
        dest="time_limit_s",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="end here at the latest (default 600)",
    )
    group.add_argument("--clip", type=float, help="norm of each example's gradient")
    group.add_argument("--learning-rate", type=float, help="server step")
    group.add_argument("--momentum", type=float, help="of the server")
    group.add_argument(
        "--robust",
        help="what a buffer passes first: none, mean, median, trimmed-mean, krum, "
        "multi-krum, bulyan, geometric-median, centred-clipping, ctma, "
        "nnm-trimmed-mean or spectral-clipping",
    )
    group.add_argument("--codec", default="block8", help="how vectors travel")
    group.add_argument(
        "--rule",
        default="fedbuff",
        help="how updates become versions: fedbuff, projected, fedasync, fedavg,"
        " ca2fl, fedadam, fedyogi or fedadagrad (default fedbuff)",
    )


def _add_trust(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("what is thought of boards, and which of them train")
    group.add_argument(
        "--scores",
        default="none",
        help="of updates, on training examples that no board has: none, projection or,"
        " without privacy, accuracy (default none)",
    )
    group.add_argument(
        "--quarantine",
        dest="quarantine_s",
        type=int,
        default=DEFAULT_QUARANTINE_S,
        metavar="SECONDS",
        help="without a lease where updates scored badly; 0 for never (default a day)",
    )
    group.add_argument(
        "--select",
        dest="weights",
        default="",
        metavar="W1,...,W5",
        help="of resources, timeliness, budget, the three together, and reputation",
    )


def _add_model(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("the model, and how boards train it")
    group.add_argument(
        "--model",
        help="softmax, linear, mlp, cnn, cnn-tanh, head, or an ONNX file (default by"
        " data)",
    )
    group.add_argument(
        "--front",
        metavar="NAME",
        help="what a head stands on: one of `starling fronts list`, or a file",
    )
    group.add_argument(
        "--loss", help="cross-entropy for labels; mse, huber or bce for numbers"
    )
    for flag, text in (
        ("--train", "train only weights whose names match"),
        ("--freeze", "leave weights whose names match as they are"),
        ("--local", "train these weights on each board, and never send them"),
    ):
        group.add_argument(
            flag,
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"{text}; several times, too",
        )
    group.add_argument(
        "--class-weights",
        metavar="W,W,...",
        help="a factor for each class, or balanced (measured: simulation only)",
    )
    group.add_argument(
        "--start",
        metavar="FILE",
        help="begin from an ONNX file's weights, a bundle's folder, or theta as .npy",
    )
    group.add_argument("--optimiser", help="sgd, momentum, adam or adamw")
    group.add_argument("--epochs", type=int, help="of a board's training")
    group.add_argument("--batch", type=int, help="examples of a local step")
    group.add_argument("--local-learning-rate", type=float, help="of a local step")
    group.add_argument(
        "--prox",
        type=float,
        metavar="MU",
        help="FedProx: holds local steps near the version that they began at",
    )
    group.add_argument(
        "--personal",
        type=float,
        metavar="LAMBDA",
        help="Ditto: each board trains a model of its own, too, drawn to the fleet's by"
        " LAMBDA; a fifth of its records is kept to compare the two on",
    )


def _data_and_learning(options: argparse.Namespace) -> dict[str, Any]:
    """Choices of data and learning, as the plan takes them."""
    from starling.fleet.learning_options import LearningOptions, class_weights
    from starling.fleet.learning_options import selection_weights as weights_of

    weights, balanced = class_weights(options.class_weights)
    learning = LearningOptions(
        loss=options.loss,
        train=tuple(options.train),
        freeze=tuple(options.freeze),
        local=tuple(options.local),
        class_weights=weights,
        balanced=balanced,
        start=options.start,
        optimiser=options.optimiser,
        epochs=options.epochs,
        batch=options.batch,
        local_learning_rate=options.local_learning_rate,
        prox=options.prox,
        personal=options.personal,
    )
    # Weights of one's own expect the units that they were trained in.
    own = (options.model or "").endswith(".onnx")
    if options.scale is None:
        options.scale = "declared" if own else "pooled"
    return {
        "data_options": data_options_of(options, options.loss),
        "learning": learning,
        "weights": weights_of(options.weights),
    }
