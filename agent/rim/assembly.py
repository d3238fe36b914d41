"""Puts an agent together from its home: keys, journal, spool, link and core state."""

import logging
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config import AgentConfig
from agent.effects import Effect
from agent.machine import begin
from agent.orders import Limits
from agent.rim import board
from agent.rim.blobs import BlobStore
from agent.rim.hands import LOG, Hands, Work
from agent.rim.home import Home
from agent.rim.ledger import open_ledger
from agent.rim.progress import read_progress
from agent.rim.proofs import ProofFolder
from agent.rim.spool import Found, Index, Spool
from agent.rim.trainer_process import TrainerProcess, TrainerSpoke
from agent.state import Pace, Settings, State, Waiting
from broker.backoff import BackoffPolicy
from broker.events import LinkEvent, LinkSettings
from broker.rim.link import Link
from durable.files import require_private
from firmware_profiles import Profile
from protocol.enrolment import Admission
from protocol.errors import ConfigError
from protocol.ids import DeviceId, TaskId
from protocol.keys import SigningKey
from protocol.topics import Topics

_RECEIVE_MAXIMUM = 16
"""Unacknowledged messages; they bound what a slow board has to hold."""
_MIB = 1 << 20


@dataclass(frozen=True)
class Parts:
    """An agent that is ready to run.

    Attributes:
      home: Its home.
      config: As read from there.
      settings: Of the core.
      state: Of the core, at the start.
      effects: The core's first wishes.
      hands: What carries them out.
      data: Folder of the data set.
      board: The board profile's name.
      broker: Where the broker is.
      claim: Where the data set says whose it is, in words.
    """

    home: Home
    config: AgentConfig
    settings: Settings
    state: State
    effects: tuple[Effect, ...]
    hands: Hands
    data: Path
    board: str
    broker: str
    claim: str


def assemble(
    home: Home,
    config: AgentConfig,
    put: Callable[[LinkEvent | TrainerSpoke], None],
    now_s: float,
) -> Parts:
    """Opens everything that an agent needs; its home is locked already.

    Args:
      home: The agent's home.
      config: From there.
      put: Puts what threads have to say into the runner's queue.
      now_s: Monotonic time.

    Raises:
      ConfigError: If the board is not enrolled, a key is readable by others, a value
        is wrong, the privacy ledger has lost entries, or the data set is another's.
      StorageError: If the disk refuses.
    """
    _keep_apart(home, config)
    key = home.signing_key()
    admission = _admission(home)
    profile = board.profile(config.training.board)
    pinned = admission.pinned
    spool, index = Spool(home.spool), Index(home.state / "index.json", LOG.warning)
    found = spool.load(pinned.chain_id, LOG.warning)
    data = home.data(config)
    opened = open_ledger(home, config.privacy.cap(), data, config.data.windows, index)
    boot = index.next_boot(max((item.boot for item in found), default=0))
    progress = read_progress(home.state / "progress", pinned)
    settings = _settings(config, profile, admission, key, boot, home.identity())
    blobs = BlobStore(home.models)
    state, effects = begin(
        settings,
        progress.trusted,
        opened.ledger,
        blobs.sound(),
        _waiting(found, index, now_s),
        progress.manifest or None,
        now_s,
    )
    link_settings = _link_settings(home, config, admission, settings)
    hands = Hands(
        home,
        Work(
            str(data.absolute()),
            config.data.label,
            _limits(config, profile),
            config.privacy.trust_bundle,
        ),
        opened.journal,
        spool,
        index,
        ProofFolder(home.proofs),
        blobs,
        TrainerProcess(put, home.state / "trainer.log"),
        Link(link_settings, put, random.SystemRandom().random),
        settings.topics.up(settings.device),
        _nowhere,
        _never,
    )
    broker = f"{link_settings.host}:{link_settings.port}"
    return Parts(
        home,
        config,
        settings,
        state,
        effects,
        hands,
        data,
        profile.name,
        broker,
        opened.place.value,
    )


def _keep_apart(home: Home, config: AgentConfig) -> None:
    """The home for its owner alone, and the data where a trainer sees nothing else."""
    closed = home.make_private()
    if closed:
        # A file that was copied in was out of reach as long as its folders were closed.
        level = logging.WARNING if home.path in closed else logging.INFO
        LOG.log(level, "closed to others: %s (%d in all)", closed[0], len(closed))
    # A trainer reads all of the data folder, and nothing may be in there but data.
    data = home.data(config).resolve()
    if home.path.resolve().is_relative_to(data):
        raise ConfigError(
            "holds the agent's home, keys and all; data need a folder of their own",
            file=str(home.config_file),
            key="data.path",
        )
    for name in ("keys", "state", "spool"):
        if data.is_relative_to((home.path / name).resolve()):
            raise ConfigError(
                f"is in {name}/; data need a folder of their own",
                file=str(home.config_file),
                key="data.path",
            )


def _admission(home: Home) -> Admission:
    require_private(home.tls.key)
    admission = home.admission()
    if admission is None:
        raise ConfigError(
            f"missing: not enrolled; run: starling agent enrol --home {home.path}",
            file=str(home.admission_file),
        )
    return admission


def _nowhere(event: object) -> None:
    raise AssertionError(f"nobody takes {event}")


def _never(why: str) -> bool:
    raise AssertionError(why)


def _waiting(found: Sequence[Found], index: Index, now_s: float) -> list[Waiting]:
    # What has a receipt is sent again after a while, should its proof stay away.
    pace = Pace()
    return [
        Waiting(item.entry, True, now_s + pace.final_s)
        if index.is_accepted(item.entry)
        else Waiting(item.entry, False, now_s)
        for item in found
    ]


def _settings(
    config: AgentConfig,
    profile: Profile,
    admission: Admission,
    key: SigningKey,
    boot: int,
    identity: DeviceId,
) -> Settings:
    pace = config.pace
    return Settings(
        key,
        Topics(admission.genesis.fleet),
        TaskId(config.training.task),
        boot,
        os.urandom(16),
        config.data.pledge,
        config.data.windows,
        config.inference.follow,
        profile.resources_ppm,
        profile.bundle_mb * _MIB,
        (config.spool.mb or profile.spool_mb) * _MIB,
        pace=Pace(
            check_in_s=pace.check_in_s,
            accept_s=pace.accept_s,
            rest_s=pace.rest_s,
            between_s=pace.between_s,
            release_s=pace.release_s,
        ),
        rotated_from=identity,
        trust_bundle=config.privacy.trust_bundle,
    )


def _limits(config: AgentConfig, profile: Profile) -> Limits:
    training = config.training
    return Limits(
        training.threads or profile.threads,
        training.micro_batch or profile.micro_batch,
        training.memory_mb or profile.trainer_memory_mb,
        profile.niceness,
        training.engine,
    )


def _link_settings(
    home: Home, config: AgentConfig, admission: Admission, settings: Settings
) -> LinkSettings:
    return LinkSettings(
        config.broker.host or admission.broker_host,
        config.broker.port or admission.broker_port,
        settings.device,
        home.tls,
        config.broker.keepalive_s,
        receive_maximum=_RECEIVE_MAXIMUM,
        subscriptions=settings.topics.board_filters(settings.device),
        backoff=BackoffPolicy(most_s=config.broker.retry_most_s),
    )
