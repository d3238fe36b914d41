"""Puts an agent together from its home: keys, journal, spool, link and core state."""

import logging
import os
import random
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from starling.agent.config import AgentConfig
from starling.agent.loop.restored_state import pending_uploads
from starling.agent.machine import begin
from starling.agent.runtime import machine_info
from starling.agent.runtime.board_metrics import metrics_file
from starling.agent.runtime.home_store import HomeStore
from starling.agent.runtime.privacy_ledger.label_journal import open_label_journal
from starling.agent.runtime.privacy_ledger.ledger_integrity import (
    OpenedLedger,
    open_ledger,
)
from starling.agent.runtime.process_trainer import TrainerSetup
from starling.agent.runtime.status_monitor import LOG, AgentPlace
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.followed_task import FollowedTask
from starling.agent.runtime.storage.proof_store import ProofFolder
from starling.agent.runtime.storage.spool import Spool, SpoolIndex
from starling.agent.runtime.storage.trusted_state_file import read_progress
from starling.agent.step.effects import Effect
from starling.agent.step.state import AgentSettings, AgentState, WaitTimes
from starling.agent.trainer.client import COMMAND, TrainerProcess, TrainerReported
from starling.agent.training.trainer_messages import ENGINE_NAMES, TrainerLimits
from starling.board_profiles import Profile
from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import LinkEvent, LinkSettings, renewal_topics
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.chain.enrolment import Admission
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ConfigError
from starling.protocol.ids import device_name
from starling.protocol.wire.topics import Topics

_RECEIVE_MAXIMUM = 16
"""Unacknowledged messages; they bound what a slow board has to hold."""
_MIB = 1 << 20
_OPEN = 0o027
"""Bits of a home's mode that let strangers in, or let its group write."""
_DAY_S = 86_400


@dataclass(frozen=True)
class AssembledAgent:
    """An agent that is ready to run.

    Attributes:
      home: Its home.
      config: As read from there.
      settings: Of the core.
      state: Of the core, at the start.
      effects: The first effects of the core.
      store: What its disk holds.
      trainer: Not started yet.
      setup: What a trainer needs to know.
      link: To the broker; not started yet.
      data: Folder of the data set.
      place: Where it runs, in words.
    """

    home: AgentHome
    config: AgentConfig
    settings: AgentSettings
    state: AgentState
    effects: tuple[Effect, ...]
    store: HomeStore
    trainer: TrainerProcess
    setup: TrainerSetup
    link: MqttLink
    data: Path
    place: AgentPlace


def assemble(
    home: AgentHome,
    config: AgentConfig,
    put: Callable[[LinkEvent | TrainerReported], None],
    now_s: float,
    trainer: Sequence[str] = COMMAND,
) -> AssembledAgent:
    """Opens everything that an agent needs; its home is locked already.

    Args:
      home: The agent's home.
      config: From there.
      put: Puts what threads have to say into the runner's queue.
      now_s: Monotonic time.
      trainer: What is started to train.

    Raises:
      ConfigError: If the board is not enrolled, a key is readable by others, a value
        is wrong, the privacy ledger has lost entries, or the data set is another's.
      StorageError: If the disk refuses.
    """
    _keep_apart(home, config)
    metrics = metrics_file(home, config)
    key = home.signing_key()
    admission = _admission(home)
    profile = board_profile(home, config)
    pinned = admission.pinned
    spool, index = Spool(home.spool), SpoolIndex(home.state / "index.json", LOG.warning)
    found = spool.load(pinned.chain_id, LOG.warning)
    data = home.data(config)
    opened = open_ledger(home, config.privacy.cap(), data, config.data.windows, index)
    boot = index.next_boot(max((item.boot for item in found), default=0))
    progress = read_progress(home.state / "progress", pinned)
    settings = _settings(config, profile, admission, key, boot, home)
    blobs = BlobStore(home.models)
    pace = settings.pace
    state, effects = begin(
        settings,
        progress.trusted,
        opened.ledger,
        blobs.sound(),
        pending_uploads([item.entry for item in found], index.is_accepted, pace, now_s),
        progress.manifest or None,
        now_s,
        _released_at_s(index, now_s),
    )
    link = _link_settings(home, config, admission, settings)
    return AssembledAgent(
        home,
        config,
        settings,
        state,
        effects,
        _store(home, opened, spool, index, blobs),
        TrainerProcess(put, home.state / "trainer.log", trainer),
        _setup(config, profile, data),
        MqttLink(link, put, random.SystemRandom().random),
        data,
        AgentPlace(link.address, profile.name, opened.place.value, metrics),
    )


def board_profile(home: AgentHome, config: AgentConfig) -> Profile:
    """Profile of this board, which has what its settings ask for.

    Raises:
      ConfigError: If there is no such profile, or its engine is not installed.
    """
    training, file = config.training, str(home.config_file)
    if training.engine != ENGINE_NAMES[0] and not machine_info.has_training_engine():
        raise ConfigError(
            "needs the wheel onnxruntime-training-cpu, which is not installed here",
            file=file,
            key="training.engine",
        )
    try:
        return machine_info.profile(training.board)
    except ConfigError as error:
        raise ConfigError(str(error), file=file, key="training.board") from error


def _store(
    home: AgentHome,
    opened: OpenedLedger,
    spool: Spool,
    index: SpoolIndex,
    blobs: BlobStore,
) -> HomeStore:
    labels = open_label_journal(home, opened.ledger)
    proofs = ProofFolder(home.proofs)
    return HomeStore(home, opened.journal, labels, spool, index, proofs, blobs)


def _released_at_s(index: SpoolIndex, now_s: float) -> float:
    # By the wall clock: monotonic time begins again whenever the board does.
    since_s = index.since_released_s(time.time())
    return float("-inf") if since_s is None else now_s - since_s


def _keep_apart(home: AgentHome, config: AgentConfig) -> None:
    """The home for its owner alone, and the data where a trainer sees nothing else."""
    # A service's folder is made anew with a group that may enter it: no harm is done.
    was_open = bool(stat.S_IMODE(home.path.stat().st_mode) & _OPEN)
    closed = home.make_private()
    # systemd gives its own folder back to the group before each start.
    if closed and (was_open or closed != [home.path]):
        # A file that was copied in was out of reach as long as its folders were closed.
        level = logging.WARNING if was_open else logging.INFO
        LOG.log(level, "closed to others: %s (%d in all)", closed[0], len(closed))
    data = _data_folder(home, config)
    # A trainer reads all of the data folder, and nothing may be in there but data.
    if home.path.resolve().is_relative_to(data):
        raise ConfigError(
            "holds the agent's home, keys and all; data need a folder of their own",
            file=str(home.config_file),
            key="data.path",
        )
    for name in ("keys", "state", "spool", "labels"):
        # A trainer may read all of the data folder, which must not bring it keys, nor
        # updates that wait.
        if data.is_relative_to((home.path / name).resolve()):
            raise ConfigError(
                f"is in {name}/; data need a folder of their own",
                file=str(home.config_file),
                key="data.path",
            )


def _data_folder(home: AgentHome, config: AgentConfig) -> Path:
    """The folder that data are in, or will be."""
    why = "is no folder; name the one that the data files are in"
    try:
        data = home.data(config).resolve()
        if data.is_dir() or not data.exists():
            return data
    except RuntimeError as error:
        # Links that lead in a circle.
        why = str(error)
    raise ConfigError(why, file=str(home.config_file), key="data.path")


def _admission(home: AgentHome) -> Admission:
    home.require_secret(home.tls.key)
    admission = home.admission()
    if admission is None:
        raise ConfigError(
            f"missing: not enrolled; run: starling agent enrol --home {home.path}",
            file=str(home.admission_file),
        )
    return admission


def _settings(
    config: AgentConfig,
    profile: Profile,
    admission: Admission,
    key: SigningKey,
    boot: int,
    home: AgentHome,
) -> AgentSettings:
    pace = config.pace
    followed = FollowedTask.read(home.task_file, config.training)
    return AgentSettings(
        key,
        Topics(admission.genesis.fleet),
        followed.number,
        boot,
        # The core draws nothing itself, so that a step depends on its inputs alone.
        os.urandom(16),
        config.data.pledge,
        config.data.windows,
        config.inference.follow,
        profile.resources_ppm,
        profile.bundle_mb * _MIB,
        (config.spool.mb or profile.spool_mb) * _MIB,
        pace=WaitTimes(
            check_in_s=pace.check_in_s,
            accept_s=pace.accept_s,
            rest_s=pace.rest_s,
            between_s=pace.between_s,
            period_s=pace.period_days * _DAY_S,
            release_s=pace.release_s,
        ),
        rotated_from=home.identity(),
        newest=config.training.newest,
        left=followed.left,
        trust_bundle=config.privacy.trust_bundle,
        tells_health=config.privacy.tell_health,
        labels_micro=config.privacy.labels_micro(),
    )


def _setup(config: AgentConfig, profile: Profile, data: Path) -> TrainerSetup:
    training = config.training
    limits = TrainerLimits(
        training.threads or profile.threads,
        training.micro_batch or profile.micro_batch,
        training.memory_mb or profile.trainer_memory_mb,
        profile.niceness,
        training.engine,
    )
    return TrainerSetup(
        str(data.absolute()),
        config.data.label,
        limits,
        config.privacy.trust_bundle,
        training.timeout_s,
        training.keep_s,
        config.privacy.labels_micro(),
    )


def _link_settings(
    home: AgentHome, config: AgentConfig, admission: Admission, settings: AgentSettings
) -> LinkSettings:
    return replace(
        broker_link_settings(home, config, admission),
        receive_maximum=_RECEIVE_MAXIMUM,
        subscriptions=settings.topics.board_filters(settings.device),
        backoff=BackoffPolicy(config.broker.retry_first_s, config.broker.retry_most_s),
        renewal=renewal_topics(settings.topics, settings.device),
    )


def broker_link_settings(
    home: AgentHome, config: AgentConfig, admission: Admission
) -> LinkSettings:
    """Address of the broker, and the identity for it.

    Raises:
      ConfigError: If the board's key is not to be used.
    """
    return LinkSettings(
        config.broker.host or admission.broker_host,
        config.broker.port or admission.broker_port,
        device_name(home.identity()),
        home.tls,
        config.broker.keepalive_s,
    )
