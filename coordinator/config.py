"""`coordinator.toml`: every key with its meaning, bounds and default."""

from dataclasses import dataclass

from starling.coordinator.chain.storage.snapshot import SNAPSHOT_BLOCKS
from starling.coordinator.leases.client_selection import SELECTIONS
from starling.protocol.chain.evidence import AGE_HEIGHTS_MAX
from starling.protocol.schema.toml_settings import setting, table

FILE = "coordinator.toml"


@dataclass(frozen=True)
class BrokerEndpointSettings:
    """Address of the MQTT broker for the coordinator, and for boards."""

    host: str = setting(
        "127.0.0.1", "Name or address of the broker, for us.", host=True
    )
    port: int = setting(8883, "TCP port of the broker.", least=1, most=65535)
    board_host: str = setting(
        "",
        "Name or address that admissions tell boards; empty for the broker's first "
        "`--host`.",
        host=True,
    )
    home: str = setting(
        "", "Folder of the broker, whose authority signs the boards' certificates."
    )
    shared: bool = setting(
        True,
        "Whether all coordinators are at this broker, and so hear every board "
        "themselves; false with a bridge, and of no effect beside --peer.",
    )


@dataclass(frozen=True)
class LeaseSettings:
    """Leases that boards get."""

    duration_s: int = setting(
        600,
        "Seconds after which an unused lease goes to the next board; the longest time "
        "that a board may take to train and send.",
        least=5,
        most=86400,
    )
    selection: str = setting(
        "task",
        "Who gets a free lease: by the weights of the task, or everybody alike.",
        choices=tuple(SELECTIONS),
    )


@dataclass(frozen=True)
class TransferSettings:
    """Rate at which boards may pull models."""

    chunks_per_s: float = setting(
        32.0,
        "Chunks of 64 KiB that one board may ask for each second, in the long run.",
        least=0.1,
        most=10000,
    )
    chunks_burst: int = setting(
        512, "Chunks that it may ask for at once.", least=16, most=1 << 16
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """Evaluation of final versions."""

    data: str = setting(
        "",
        "An .npz file with arrays x and y that no board trains on; empty for none. "
        "Relative to the home.",
    )
    root: str = setting(
        "",
        "An .npz file with arrays x and y, a few training examples of every class that "
        "no board has: what updates are scored with in tasks that pin its digest. "
        "Empty for none.",
    )
    batch: int = setting(
        512, "Examples evaluated at once, a matter of memory.", least=1, most=1 << 16
    )


@dataclass(frozen=True)
class LedgerSection:
    """Pace of the chain."""

    block_interval_s: float = setting(
        0.02,
        "Shortest time between two blocks of our own, in seconds; a longer one makes "
        "fewer and larger blocks.",
        least=0.0,
        most=60.0,
    )
    propose_timeout_s: float = setting(
        0.7,
        "How long the others wait for a proposal before they pass its maker over; each "
        "further round waits longer.",
        least=0.05,
        most=60.0,
    )
    vote_timeout_s: float = setting(
        0.3,
        "How long a coordinator waits for the votes of the rest once a quorum voted.",
        least=0.02,
        most=60.0,
    )
    transactions_max: int = setting(
        1000, "Most transactions of a block.", least=1, most=1000
    )


@dataclass(frozen=True)
class StorageSettings:
    """Retention on disk."""

    versions_kept: int = setting(
        20,
        "Newest versions of the model whose bytes are kept, beside the best one that "
        "was evaluated.",
        least=4,
        most=1 << 20,
    )
    audit_blocks: int = setting(
        1000,
        "Blocks for which the sealed vectors of used updates are kept, for audits.",
        least=0,
        most=1 << 40,
    )
    audit_s: int = setting(
        10_000,
        "Seconds by the chain's clock for which they are kept at least; as long as "
        "evidence is taken at most.",
        least=0,
        most=366 * 86_400,
    )
    vectors_mib: int = setting(
        1024,
        "MiB of sealed vectors that are kept beyond that, for traces and rollbacks; "
        "above it the oldest go.",
        least=0,
        most=1 << 20,
    )
    body_blocks: int = setting(
        100_000,
        "Blocks whose transactions are kept; header and certificate of older ones "
        "stay. More than evidence may be old, with room for snapshots; they stay for "
        "the time of evidence, too.",
        least=AGE_HEIGHTS_MAX + 2 * SNAPSHOT_BLOCKS,
        most=1 << 40,
    )


@dataclass(frozen=True)
class CoordinatorConfig:
    """All of `coordinator.toml`."""

    config_version: int = setting(
        1,
        "Form of this file. A file of a later form is read; what this release does not "
        "know in it is left out and told in the log.",
        least=1,
    )
    log: str = setting(
        "info", "What goes to the log.", choices=("debug", "info", "warning", "error")
    )
    broker: BrokerEndpointSettings = table(BrokerEndpointSettings, "The MQTT broker.")
    leases: LeaseSettings = table(LeaseSettings, "Turns of the boards.")
    transfer: TransferSettings = table(TransferSettings, "Pulling of models.")
    evaluation: EvaluationSettings = table(EvaluationSettings, "Held-out data.")
    ledger: LedgerSection = table(LedgerSection, "The chain.")
    storage: StorageSettings = table(StorageSettings, "The disk.")
