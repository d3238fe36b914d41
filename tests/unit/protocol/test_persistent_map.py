from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.persistent_map import PersistentMap

KEYS = st.binary(min_size=1, max_size=3)
WRITES = st.lists(st.tuples(KEYS, st.none() | st.integers()), max_size=40)


@given(WRITES)
def test_map_any_writes_equals_a_dictionary(
    writes: list[tuple[bytes, int | None]],
) -> None:
    plain: dict[bytes, int] = {}
    persistent: PersistentMap[int] = PersistentMap()

    for key, value in writes:
        if value is None:
            plain.pop(key, None)
            persistent = persistent.without(key)
        else:
            plain[key] = value
            persistent = persistent.put(key, value)

    assert list(persistent.items()) == sorted(plain.items())
    assert len(persistent) == len(plain)
    assert persistent.first() == (min(plain.items()) if plain else None)


def test_map_later_writes_leave_the_earlier_one_alone() -> None:
    before: PersistentMap[int] = PersistentMap[int]().put(b"a", 1)

    after = before.put(b"a", 2).without(b"a")

    assert before.get(b"a") == 1
    assert after.get(b"a") is None


@given(st.dictionaries(KEYS, st.integers(), max_size=40), st.lists(KEYS, max_size=40))
def test_map_without_many_keys_equals_a_dictionary(
    plain: dict[bytes, int], gone: list[bytes]
) -> None:
    persistent: PersistentMap[int] = PersistentMap()
    for key, value in plain.items():
        persistent = persistent.put(key, value)

    rest = persistent.without(*gone)

    kept = {key: value for key, value in plain.items() if key not in gone}
    assert list(rest.items()) == sorted(kept.items())
    assert sorted(rest.values()) == sorted(kept.values())
    assert len(rest) == len(kept)
    assert list(persistent.items()) == sorted(plain.items())
