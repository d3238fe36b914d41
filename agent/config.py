"""`agent.toml`: every key with its meaning, bounds and default."""

import math
from dataclasses import dataclass

from starling.agent.training.trainer_messages import ENGINE_NAMES
from starling.protocol.privacy.gaussian_dp import DELTA_MIN, EPSILON_MAX, Budget
from starling.protocol.schema.toml_settings import setting, table

FILE = "agent.toml"


@dataclass(frozen=True)
class DataSettings:
    """Data that the board trains on."""

    path: str = setting(
        "data",
        "Folder of .npz files and tables, or of pictures or sounds by class; "
        "relative to the agent's home.",
    )
    label: str = setting("", "Target column of CSV files; empty for the last one.")
    pledge: int = setting(
        0,
        "How many records the board says it has, a public number: the largest size of "
        "the task's that is no larger is sent. About as many as there are; never "
        "follows the data. 0 for the task's least.",
        least=0,
        most=1 << 20,
    )
    windows: int = setting(
        1,
        "Records in which one raw sample can stand, where recorded windows overlap; "
        "every charge grows with its square.",
        least=1,
        most=1024,
    )
    check_s: float = setting(
        60.0, "Seconds between looks at whether files changed.", least=1, most=86400
    )


@dataclass(frozen=True)
class PrivacySettings:
    """Privacy budget that the data's owner allows, over all tasks, ever."""

    required: bool = setting(
        True,
        "Whether noise is required; false lets tasks train without any, and lifts the "
        "cap below.",
    )
    epsilon: float = setting(
        8.0,
        "Total epsilon that the data set may ever pay, per record, added or removed.",
        least=1e-3,
        most=EPSILON_MAX,
    )
    delta: float = setting(
        1e-5,
        "Delta of that epsilon; well below one over the number of records.",
        least=DELTA_MIN,
        most=0.5,
    )

    trust_bundle: bool = setting(
        False,
        "Whether the task's own graph may clip, in place of the board. Quicker for "
        "small models; every epsilon then holds only if its publisher is honest.",
    )

    tell_health: bool = setting(
        False,
        "Whether coordinators may ask for what `starling agent check` says, without "
        "its row about the data.",
    )

    label_epsilon: float = setting(
        0.0,
        "Epsilon that each label may ever pay, to tasks that have labels drawn once "
        "and train on inputs as they are. Above 0 it declares all inputs of the data "
        "set public; 0 takes part in no such task.",
        least=0.0,
        most=EPSILON_MAX,
    )

    def labels_micro(self) -> int:
        """Epsilon that each label may pay, in units of 10^-6."""
        return math.floor(self.label_epsilon * 1e6)

    def cap(self) -> Budget | None:
        """The budget, or None if the owner requires none."""
        return Budget(self.epsilon, self.delta) if self.required else None


@dataclass(frozen=True)
class TrainingSettings:
    """Resources for training; 0 takes the board profile's value."""

    task: int = setting(0, "Number of the task to take part in.", least=0, most=65535)
    newest: bool = setting(
        True,
        "Whether to change over to the newest task that the chain proves to be open; "
        "false stays with `task`.",
    )
    board: str = setting("auto", "Board profile, or auto to detect it.")
    threads: int = setting(0, "Threads of the engine.", least=0, most=64)
    micro_batch: int = setting(
        0, "Records that are computed together.", least=0, most=64
    )
    engine: str = setting(
        ENGINE_NAMES[0],
        "What runs the graphs; ort-training needs onnxruntime-training-cpu.",
        choices=ENGINE_NAMES,
    )
    memory_mb: int = setting(
        0, "Private memory of the trainer in MiB.", least=0, most=1 << 20
    )
    timeout_s: float = setting(
        900.0, "Seconds after which a trainer is ended.", least=1, most=86400
    )
    keep_s: float = setting(
        0.0,
        "Seconds that an idle trainer stays loaded, for boards with memory to spare.",
        least=0,
        most=3600,
    )


@dataclass(frozen=True)
class AgentBrokerSettings:
    """Address of the broker, if another than the admission's."""

    host: str = setting("", "Name or address; empty for the admission's.", host=True)
    port: int = setting(0, "TCP port; 0 for the admission's.", least=0, most=65535)
    keepalive_s: int = setting(
        30, "Silence after which the connection is tried, in s.", least=5, most=3600
    )
    retry_first_s: float = setting(
        1.0,
        "Longest wait after a connection was lost, in s, doubled with each failure; a "
        "twentieth of the number of boards spares a broker that starts again.",
        least=0.1,
        most=3600,
    )
    retry_most_s: float = setting(
        60.0, "Longest wait before the next connection, in s.", least=1, most=3600
    )


@dataclass(frozen=True)
class SpoolSettings:
    """Room for updates that wait for their proof."""

    mb: int = setting(0, "MiB; 0 for the board profile's value.", least=0, most=4096)


@dataclass(frozen=True)
class InferenceSettings:
    """Use of the model for the board's own inference."""

    follow: bool = setting(
        True, "Fetch each version's averaged model and keep it in models/."
    )


@dataclass(frozen=True)
class PaceSettings:
    """Delays of the agent; each is jittered by a half."""

    check_in_s: float = setting(
        15.0, "For a lease, before it asks again, in s.", least=0.5, most=3600
    )
    accept_s: float = setting(
        20.0, "For a receipt, before it sends again, in s.", least=0.5, most=3600
    )
    rest_s: float = setting(
        10.0, "After a failed training, in s; doubles each time.", least=0.1, most=3600
    )
    between_s: float = setting(
        0.0, "Least time between two updates, in s.", least=0, most=604_800
    )
    period_days: float = setting(
        30.0,
        "Days over which the updates that a task plans for a board are spread; 0 for "
        "as fast as turns come. A budget that is spent at once learns nothing of what "
        "the data become later.",
        least=0,
        most=3650,
    )
    release_s: float = setting(
        0.5,
        "From a charge to its update, at first, in s; doubles where training takes "
        "longer, so that time tells next to nothing of the data.",
        least=0.05,
        most=3600,
    )


@dataclass(frozen=True)
class LogSettings:
    """Log on standard error."""

    level: str = setting(
        "info", "Least severity.", choices=("debug", "info", "warning", "error")
    )


@dataclass(frozen=True)
class MetricsSettings:
    """Metrics for the owner's own monitoring."""

    textfile: str = setting(
        "",
        "File for the textfile collector of node_exporter, ending in .prom, as in "
        "/run/starling/agent.prom; empty for none.",
    )


@dataclass(frozen=True)
class AgentConfig:
    """All of `agent.toml`."""

    config_version: int = setting(
        1,
        "Form of this file. A file of a later form is read; what this release does not "
        "know in it is left out and told in the log; in [data] and "
        "[privacy] it is refused.",
        least=1,
    )
    data: DataSettings = table(DataSettings, "What the board trains on.", strict=True)
    privacy: PrivacySettings = table(
        PrivacySettings,
        "What the owner of the data set allows, over all tasks, ever.",
        strict=True,
    )
    training: TrainingSettings = table(
        TrainingSettings, "How the board trains; 0 takes the board profile's value."
    )
    broker: AgentBrokerSettings = table(
        AgentBrokerSettings, "Where the broker is, if not where the admission says."
    )
    spool: SpoolSettings = table(
        SpoolSettings, "Room for updates that wait for their proof."
    )
    inference: InferenceSettings = table(
        InferenceSettings, "Whether the board follows the model for its own use."
    )
    pace: PaceSettings = table(
        PaceSettings, "How long the agent waits; each wait is jittered by a half."
    )
    log: LogSettings = table(LogSettings, "What is logged to standard error.")
    metrics: MetricsSettings = table(
        MetricsSettings, "Whether figures are written for Prometheus."
    )
