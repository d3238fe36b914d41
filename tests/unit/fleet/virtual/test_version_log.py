"""The fleet's versions: first knowledge counts, and each is evaluated once."""

from starling.fleet.virtual.version_log import VersionLog
from starling.fleet.virtual.workload import Score, ZeroWorkload
from starling.protocol.ids import Version


class Counting(ZeroWorkload):
    """Notes what is evaluated; the loss is how many examples came before."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[bytes] = []

    def evaluate(self, inference: bytes) -> Score:
        self.asked.append(inference)
        loss = float(len(self.asked))
        return lambda: (None, loss)


def test_version_is_new_to_the_fleet_once() -> None:
    log = VersionLog(Counting())

    found = [log.reached(Version(version), 2.0) for version in (0, 0, 1, 0, 1)]

    assert found == [True, False, True, False, False]
    assert (log.head, log.times_s) == (1, {0: 2.0, 1: 2.0})


def test_version_is_evaluated_once_whoever_asks() -> None:
    labour = Counting()
    log = VersionLog(labour)

    for version, inference in ((1, b"a"), (1, b"a"), (2, b"b"), (1, b"a")):
        log.evaluate(Version(version), inference)
    assert log.metrics == {1: (None, 1.0)}
    log.finish()

    assert labour.asked == [b"a", b"b"]
    assert log.metrics == {1: (None, 1.0), 2: (None, 2.0)}
