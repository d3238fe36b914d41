from collections import Counter

from starling.coordinator.leases.lease_table import Grant, LeaseTable, draw_for
from starling.protocol.ids import DeviceId, PublicKey, TaskId, Version
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import CheckIn

LEASE = Envelope(1, 80, PublicKey(bytes(32)), 1, b"", bytes(64))
SAID = CheckIn(TaskId(0), Version(0), 0, 0, 0, 16)


def board(number: int) -> DeviceId:
    return DeviceId(bytes([number]) * 16)


def grant(ends_at_s: float = 10.0) -> Grant:
    return Grant(Version(0), LEASE, 0.0, ends_at_s)


def waiting(places: int, boards: int, seed: bytes = b"") -> LeaseTable:
    table = LeaseTable(places)
    for number in range(boards):
        device = board(number)
        table = table.wait(device, SAID, float, draw_for(seed, device, 1))
    return table


def test_next_waiting_no_free_place_is_nobody() -> None:
    table = waiting(1, 3).grant(board(9), grant())

    assert table.next_waiting() is None


def test_wait_twice_counts_once() -> None:
    table = waiting(1, 1).wait(board(0), SAID, float, bytes(8))

    assert len(table.waiting) == 1


def test_grant_ends_waiting_and_takes_a_place() -> None:
    table = waiting(2, 2).grant(board(0), grant())

    assert table.free == 1
    assert [device for _, (device, _) in table.waiting.items()] == [board(1)]


def test_grant_again_replaces_the_lease_of_the_board() -> None:
    table = LeaseTable(2).grant(board(0), grant(7.0)).grant(board(0), grant(9.0))

    assert table.free == 1
    assert table.expire(8.0).free == 1


def test_expire_frees_ended_places_only() -> None:
    table = LeaseTable(3)
    for number, ends_at_s in enumerate((5.0, 6.0, 7.0)):
        table = table.grant(board(number), grant(ends_at_s))

    assert table.wake_at_s == 5.0
    assert table.expire(6.0).free == 2
    assert table.expire(6.0).wake_at_s == 7.0
    assert table.expire(4.9) is table


def test_dealt_counts_used_leases_and_those_in_force() -> None:
    table = LeaseTable(3)
    for number in range(3):
        table = table.grant(board(number), grant())

    assert table.use(board(0), 1.0).dealt == {0: 3}
    assert table.release(board(0)).dealt == {0: 2}
    assert table.expire(10.0).dealt == {0: 0}


def test_dealt_leaves_out_a_lease_that_takes_twice_as_long_as_usual() -> None:
    usual = LeaseTable(3).grant(board(0), grant(99.0))
    for round_s in range(1, 60):
        usual = usual.use(board(0), 1.0 * round_s)
        usual = usual.grant(board(0), Grant(Version(0), LEASE, round_s, 99.0))
    table = usual.grant(board(1), Grant(Version(1), LEASE, 60.0, 99.0))

    assert table.usual_s < 1.1
    assert table.expire(61.0).dealt[Version(1)] == 1
    slow = table.expire(62.5)
    assert slow.dealt[Version(1)] == 0
    # It keeps its place, and its update is as welcome as any.
    assert slow.free == 1
    assert slow.expire(99.0).free == 3


def test_forget_drops_the_counts_of_old_versions() -> None:
    table = LeaseTable(3).grant(board(0), grant()).use(board(0), 1.0)

    assert table.forget(Version(1)).dealt == {}
    assert table.forget(Version(0)).dealt == {0: 1}


def test_release_unknown_board_changes_nothing() -> None:
    table = LeaseTable(1)

    assert table.release(board(0)) is table
    assert table.wake_at_s == float("inf")


def test_selection_uniform_gives_every_board_the_same_chance() -> None:
    # 1000 draws among 5: a fair share is 200 +- 65 in all but 1 of 10^6 runs.
    winners = Counter[DeviceId]()
    for trial in range(1000):
        found = waiting(1, 5, trial.to_bytes(4)).next_waiting()
        assert found is not None
        winners[found[0]] += 1

    assert len(winners) == 5
    assert all(abs(count - 200) < 65 for count in winners.values())
