"""The broker's folder, at a coordinator that has it."""

from pathlib import Path

from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.config import BrokerEndpointSettings
from starling.protocol.errors import ConfigError


def own_broker(settings: BrokerEndpointSettings) -> BrokerHome:
    """The folder whose authority issues certificates here.

    Raises:
      ConfigError: If this coordinator joined a broker elsewhere by a token.
    """
    if not settings.home:
        raise ConfigError(
            "this coordinator has no broker's folder, and so issues no certificate; "
            "run this at the one that has",
            key="broker.home",
        )
    return BrokerHome(Path(settings.home))
