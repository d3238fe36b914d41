"""The coordinators of a virtual fleet: their keys, their genesis, their settings."""

from dataclasses import dataclass

from starling.agent.step.state import WaitTimes
from starling.coordinator.chain.consensus.round_state import Timeouts
from starling.coordinator.chain.node.node import ChainSettings
from starling.coordinator.leases.client_selection import SELECTIONS
from starling.coordinator.step.state import CoordinatorSettings
from starling.coordinator.update.admission_checks import AdmissionContext
from starling.fleet.faults.fault_timeline import ScheduledFault
from starling.fleet.monitor.coordinator_point import validator_name
from starling.protocol.chain.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.wire.topics import Topics

BLOCK_INTERVAL_S = 0.05
LEASE_S = 3600
HEARTBEAT_S = 2
"""As in a fleet of processes; one that is alone need not show that it lives."""
_HEARTBEAT_ALONE_S = 60
_TIMEOUTS = Timeouts(1.0, 0.5, 0.5)
_PATIENCE_S = 0.25
_CHUNKS_PER_S = 1e4

# What a board shows of itself is read from memory: it need not sign and show it. How
# long a training takes is drawn, not measured: there is nothing to hide.
STEADY_WAITS = WaitTimes(
    check_in_s=600.0,
    fetch_s=60.0,
    accept_s=600.0,
    final_s=3600.0,
    show_s=float("inf"),
    release_s=0.0,
)
# Where coordinators may be away, whoever is not answered asks again.
REPEATING_WAITS = WaitTimes(
    check_in_s=3.0,
    fetch_s=2.0,
    accept_s=5.0,
    final_s=30.0,
    show_s=float("inf"),
    release_s=0.0,
)


@dataclass(frozen=True)
class CommitteeShape:
    """Coordinators that keep the chain together, and what goes wrong with them.

    Attributes:
      coordinators: How many.
      brokers: Over which they and the boards are dealt out.
      fault_model: What the genesis says that may go wrong.
      faults: The timeline; its times count from when the task is open.
    """

    coordinators: int = 1
    brokers: int = 1
    fault_model: FaultModel = FaultModel.BYZANTINE
    faults: tuple[ScheduledFault, ...] = ()

    @property
    def steady(self) -> bool:
        """True if one coordinator is always there, so that nobody repeats anything."""
        return self.coordinators == 1 and not self.faults


@dataclass(frozen=True)
class CommitteeKeys:
    """Of the coordinators, by number, and of the operator."""

    signing: tuple[SigningKey, ...]
    opening: tuple[OpeningKey, ...]
    operator: SigningKey

    @classmethod
    def make(cls, count: int, draw: Draw) -> "CommitteeKeys":
        """Draws them."""
        pairs = [(SigningKey(draw(32)), OpeningKey(draw(32))) for _ in range(count)]
        # The genesis lists validators by their keys; so the numbers are the places.
        pairs.sort(key=lambda pair: pair[0].public)
        signing, opening = zip(*pairs, strict=True)
        return cls(signing, opening, SigningKey(draw(32)))

    def genesis(self, fleet: str, shape: CommitteeShape) -> Genesis:
        """The chain's beginning."""
        members = tuple(
            Validator(key.public, opening.public, validator_name(number))
            for number, (key, opening) in enumerate(
                zip(self.signing, self.opening, strict=True), 1
            )
        )
        return Genesis(
            FORMAT_VERSION,
            fleet,
            0,
            shape.fault_model,
            ValidatorSet(members),
            (self.operator.public,),
            _HEARTBEAT_ALONE_S if shape.steady else HEARTBEAT_S,
        )

    def settings(
        self, number: int, genesis: Genesis, shape: CommitteeShape, draw: Draw
    ) -> CoordinatorSettings:
        """Of one coordinator, from 1."""
        key, opening = self.signing[number - 1], self.opening[number - 1]
        return CoordinatorSettings(
            ledger=ChainSettings(
                genesis,
                key,
                block_interval_s=BLOCK_INTERVAL_S,
                timeouts=_TIMEOUTS,
                patience_s=_PATIENCE_S,
            ),
            gate=AdmissionContext(genesis.chain_id(), opening),
            topics=Topics(genesis.fleet),
            selection=SELECTIONS["task"],
            selection_seed=draw(32),
            lease_s=LEASE_S,
            chunks_per_s=_CHUNKS_PER_S,
            chunks_burst=int(_CHUNKS_PER_S),
            shared=shape.brokers == 1,
        )
