"""The ledger never overdraws, never pays twice, never forgets."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import (
    CHARGE,
    WINDOWS_MAX,
    Charge,
    ProvenReleases,
    ReleasePrice,
    Slot,
)
from starling.protocol.errors import BudgetExceeded, ConfigError, Reason, StorageError
from starling.protocol.ids import ChainId, TaskId, Version
from starling.protocol.learning.task import E12, MICRO, PrivacyPolicy
from starling.protocol.privacy.gaussian_dp import (
    Budget,
    charge_from_sigma,
    charge_max,
    epsilon_from_charge,
    noise_multiplier,
)
from starling.protocol.privacy.mechanisms import (
    GAUSSIAN,
    MECHANISMS,
    NONE,
    RECORD_GAUSSIAN,
    calibrate,
    equivalent_charge,
    release_costs,
)
from starling.protocol.privacy.renyi_dp import (
    PURE,
    gaussian_costs,
    renyi_epsilon,
    times,
)

CHAIN = ChainId(bytes(32))
DELTA = 1e-5


def policy_for(epsilon: float, releases: int, clip_q24: int = 1 << 20) -> PrivacyPolicy:
    sigma = noise_multiplier(Budget(epsilon, DELTA), releases)
    micro, e12 = round(epsilon * MICRO), round(DELTA * E12)
    return PrivacyPolicy(RECORD_GAUSSIAN, clip_q24, sigma, micro, e12, releases)


TWO = policy_for(2.0, 10)
OPEN = PrivacyPolicy(NONE, 0, 0, 0, 0, 1)


def slot(base: int, task: int = 0, chain: ChainId = CHAIN) -> Slot:
    return chain, TaskId(task), Version(base)


def spend(
    ledger: PrivacyLedger, policy: PrivacyPolicy, task: int = 0, chain: ChainId = CHAIN
) -> tuple[PrivacyLedger, list[bytes]]:
    """Releases until the ledger refuses."""
    entries: list[bytes] = []
    while ledger.releases_left(chain, TaskId(task), policy):
        base = len(entries)
        ledger, _, entry = ledger.charge(slot(base, task, chain), policy)
        entries.append(entry)
    with pytest.raises(BudgetExceeded) as caught:
        ledger.charge(slot(len(entries), task, chain), policy)
    assert caught.value.reason is Reason.BUDGET_EXCEEDED
    return ledger, entries


def test_task_budget_is_spent_in_exactly_the_planned_releases() -> None:
    ledger, entries = spend(PrivacyLedger.load(Budget(8.0, DELTA), []), TWO)
    assert len(entries) == 10
    assert 1.9999 < ledger.epsilon() <= 2.0
    assert ledger.releases_left(CHAIN, TaskId(0), TWO) == 0


def test_cap_counts_all_tasks_and_chains() -> None:
    ledger = PrivacyLedger.load(Budget(2.5, DELTA), [])
    ledger, first = spend(ledger, TWO)
    ledger, second = spend(ledger, TWO, task=1)
    ledger, third = spend(ledger, TWO, chain=ChainId(bytes(31) + b"\1"))
    assert len(first) == 10
    assert 0 < len(second) < 10
    assert not third
    assert ledger.epsilon() <= 2.5


def test_ledger_is_rebuilt_from_its_entries() -> None:
    cap = Budget(8.0, DELTA)
    ledger, entries = spend(PrivacyLedger.load(cap, []), TWO)
    assert PrivacyLedger.load(cap, entries) == ledger


def test_second_charge_of_a_base_version_is_refused_though_paid_for() -> None:
    ledger = PrivacyLedger.load(Budget(8.0, DELTA), [])
    ledger, charge, _ = ledger.charge(slot(3), TWO)
    with pytest.raises(BudgetExceeded) as caught:
        ledger.charge(slot(3), TWO)
    assert caught.value.reason is Reason.REPLAYED
    assert ledger.charged(*slot(3)) == charge
    assert ledger.charged(*slot(4)) is None
    ledger.charge(slot(3, task=1), TWO)


def test_lowered_cap_counts_what_was_spent_under_the_higher_one() -> None:
    _, entries = spend(PrivacyLedger.load(Budget(8.0, DELTA), []), TWO)
    lowered = PrivacyLedger.load(Budget(1.0, DELTA), entries)
    assert lowered.releases_left(CHAIN, TaskId(1), TWO) == 0
    with pytest.raises(BudgetExceeded, match="would bring epsilon from"):
        lowered.quote(slot(0, task=1), TWO)


def test_overlapping_windows_cost_their_square() -> None:
    ledger = PrivacyLedger.load(Budget(8.0, DELTA), [])
    _, charge, _ = ledger.charge(slot(0), TWO, windows=2)
    assert charge.units == charge_from_sigma(TWO.sigma_micro, 2)
    assert ledger.releases_left(CHAIN, TaskId(0), TWO, windows=2) == 2


def test_release_without_noise_needs_an_owner_without_cap() -> None:
    capped = PrivacyLedger.load(Budget(8.0, DELTA), [])
    with pytest.raises(BudgetExceeded) as caught:
        capped.charge(slot(0), OPEN)
    assert caught.value.reason is Reason.POLICY_MISMATCH
    uncapped, charge, entry = PrivacyLedger.load(None, []).charge(slot(0), OPEN)
    assert (charge.mechanism, charge.units) == (NONE, 0)
    assert uncapped.epsilon(DELTA) == math.inf
    assert uncapped.releases_left(CHAIN, TaskId(0), OPEN) is None
    # A cap set afterwards cannot be kept any more.
    with pytest.raises(BudgetExceeded, match="without noise before"):
        PrivacyLedger.load(Budget(8.0, DELTA), [entry]).charge(slot(1), TWO)


def test_uncapped_ledger_still_keeps_the_task_budget() -> None:
    ledger, entries = spend(PrivacyLedger.load(None, []), TWO)
    assert len(entries) == 10
    assert ledger.epsilon(DELTA) <= 2.0
    with pytest.raises(ConfigError, match="delta"):
        ledger.epsilon()


@pytest.mark.parametrize(
    "policy",
    [
        PrivacyPolicy(200, 1, MICRO, MICRO, 1, 1),
        PrivacyPolicy(RECORD_GAUSSIAN, 1, 1, MICRO, 1, 1),
        PrivacyPolicy(RECORD_GAUSSIAN, 1, MICRO, 1 << 40, 1, 1),
        PrivacyPolicy(RECORD_GAUSSIAN, 1, MICRO, MICRO, E12, 1),
    ],
    ids=["mechanism", "sigma", "epsilon", "delta"],
)
def test_policy_that_is_no_guarantee_is_refused(policy: PrivacyPolicy) -> None:
    ledger = PrivacyLedger.load(Budget(8.0, DELTA), [])
    with pytest.raises(BudgetExceeded) as caught:
        ledger.charge(slot(0), policy)
    assert caught.value.reason is Reason.POLICY_MISMATCH
    assert ledger.releases_left(CHAIN, TaskId(0), policy) == 0


@pytest.mark.parametrize("windows", [0, WINDOWS_MAX + 1])
def test_impossible_number_of_windows_is_refused(windows: int) -> None:
    with pytest.raises(BudgetExceeded, match="windows"):
        PrivacyLedger.load(None, []).charge(slot(0), TWO, windows)


def test_damaged_or_repeated_entry_stops_the_ledger() -> None:
    _, _, entry = PrivacyLedger.load(None, []).charge(slot(0), TWO)
    with pytest.raises(StorageError, match="entry 1: paid before"):
        PrivacyLedger.load(None, [entry, entry])
    for cut in range(len(entry)):
        with pytest.raises(StorageError, match="entry 0"):
            PrivacyLedger.load(None, [entry[:cut]])
    with pytest.raises(StorageError, match="entry 0"):
        PrivacyLedger.load(None, [entry + b"\0"])


def test_entry_bytes_and_mechanism_numbers_do_not_change() -> None:
    charge = Charge(*slot(7, task=2), RECORD_GAUSSIAN, 6_304_990, 1, MICRO, 1, 9)
    assert CHARGE.pack(charge).hex() == (
        "99c420" + "00" * 32 + "020701ce006034de01ce000f42400109"
    )
    assert MECHANISMS == {
        "none": 0,
        "record-gaussian": 1,
        "record-dpsgd": 2,
        "device-gaussian": 3,
        "device-laplace": 4,
        "label-response": 5,
    }


def other(name: str, epsilon: float, releases: int) -> PrivacyPolicy:
    """A policy as an operator would publish it."""
    number, samples = MECHANISMS[name], name == "record-dpsgd"
    schedule = (MICRO // 10, 5) if samples else (MICRO, 1)
    sigma = calibrate(number, Budget(epsilon, DELTA), releases, *schedule)
    charge = 0
    if number not in GAUSSIAN:
        costs = release_costs(number, sigma, *schedule, 1)
        charge = equivalent_charge(costs, releases, DELTA)
    amounts = (round(epsilon * MICRO), round(DELTA * E12), releases)
    return PrivacyPolicy(number, 1 << 20, sigma, *amounts, *schedule, charge)


OTHERS = {
    name: other(name, 2.0, 7)
    for name in ("record-dpsgd", "device-gaussian", "device-laplace")
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_mechanism_is_paid_for_exactly_the_planned_releases(name: str) -> None:
    ledger, entries = spend(PrivacyLedger.load(Budget(2.0, DELTA), []), OTHERS[name])
    assert len(entries) == 7
    assert ledger.epsilon() <= 2.0
    assert PrivacyLedger.load(Budget(2.0, DELTA), entries) == ledger


@pytest.mark.parametrize("releases", [1, 10, 15, 50])
def test_laplace_alone_spends_its_budget_and_no_more(releases: int) -> None:
    policy, cap = other("device-laplace", 8.0, releases), Budget(8.0, DELTA)
    ledger, entries = spend(PrivacyLedger.load(cap, []), policy)
    assert len(entries) == releases
    # A few releases are paid as pure epsilons, many at an order: nothing is wasted.
    assert 0.94 * 8.0 < ledger.epsilon() <= 8.0


def test_laplace_that_only_the_chain_knows_of_counts_as_if_it_could_be_gaussian() -> (
    None
):
    policy, cap = other("device-laplace", 8.0, 10), Budget(8.0, DELTA)
    number, units = policy.mechanism, policy.charge
    rate = ReleasePrice(number, policy.sigma_micro, MICRO, 1, units)
    found = ProvenReleases(3, CHAIN, TaskId(1), 0, 1, units, 0, 1, 1 << number, (rate,))
    ledger, _ = PrivacyLedger.load(cap, []).admit(found)
    ledger, entries = spend(ledger, policy)
    # Nothing shows what the units were for: no plain sum decides, and less is paid.
    assert 0 < len(entries) < 9
    assert ledger.epsilon() <= 8.0


def test_laplace_beside_what_is_not_pure_is_charged_at_the_order() -> None:
    cap = Budget(8.0, DELTA)
    ledger, _, _ = PrivacyLedger.load(cap, []).charge(slot(0), TWO)
    policy = other("device-laplace", 8.0, 10)
    ledger, entries = spend(ledger, policy, task=1)
    assert 0 < len(entries) < 10
    assert ledger.epsilon() <= 8.0


def test_mixture_is_charged_at_renyi_orders_and_never_overdraws() -> None:
    cap = Budget(3.0, DELTA)
    ledger = PrivacyLedger.load(cap, [])
    ledger, first = spend(ledger, OTHERS["record-dpsgd"])
    ledger, second = spend(ledger, TWO, task=1)
    assert len(first) == 7
    assert 0 < len(second) < 10
    assert 2.0 < ledger.epsilon() <= 3.0
    assert PrivacyLedger.load(cap, [*first, *second]) == ledger
    # Alone, and on the exact curve, what is Gaussian would cost less.
    alone = PrivacyLedger.load(cap, second)
    assert alone.epsilon() < renyi_epsilon(times(gaussian_costs(1), alone.units), DELTA)


def test_first_other_mechanism_must_find_room_at_renyi_orders() -> None:
    ledger = PrivacyLedger.load(Budget(2.0, DELTA), [])
    ledger, entries = spend(ledger, TWO)
    assert len(entries) == 10
    for name in ("record-dpsgd", "device-laplace"):
        assert ledger.releases_left(CHAIN, TaskId(1), OTHERS[name]) == 0
        with pytest.raises(BudgetExceeded, match="would bring epsilon from"):
            ledger.quote(slot(0, task=1), OTHERS[name])


def test_noise_may_vary_over_a_board_s_life() -> None:
    cap = Budget(4.0, DELTA)
    ledger = PrivacyLedger.load(cap, [])
    for task, epsilon in enumerate((0.5, 1.0, 2.0, 1.5)):
        policy = other("record-dpsgd", epsilon, 3)
        for base in range(3):
            ledger, _, _ = ledger.charge(slot(base, task), policy)
    total = ledger.epsilon()
    # Each task alone stays below its own epsilon; together less than the sum.
    assert 2.0 < total <= 4.0


def test_windows_weigh_on_records_and_not_on_whole_boards() -> None:
    ledger = PrivacyLedger.load(None, [])
    steps = replace(OTHERS["record-dpsgd"], epsilon_micro=200 * MICRO)
    _, one, _ = ledger.charge(slot(0), steps)
    _, two, _ = ledger.charge(slot(0), steps, windows=2)
    # More than their square: the sampling rate weighs as well.
    assert two.units > 4 * one.units
    assert all(a > b for a, b in zip(two.costs[:PURE], one.costs[:PURE], strict=True))
    for name in ("device-gaussian", "device-laplace"):
        _, one, _ = ledger.charge(slot(0), OTHERS[name])
        _, two, _ = ledger.charge(slot(0), OTHERS[name], windows=2)
        assert (two.units, two.costs) == (one.units, one.costs)


@pytest.mark.parametrize(
    "changed",
    [
        {"sampling_micro": 0},
        {"steps": 0},
        {"charge": 0},
        {"mechanism": RECORD_GAUSSIAN},
        {"mechanism": RECORD_GAUSSIAN, "charge": 0},
    ],
    ids=str,
)
def test_schedule_that_is_none_is_refused(changed: dict[str, int]) -> None:
    policy = replace(OTHERS["record-dpsgd"], **changed)
    with pytest.raises(BudgetExceeded) as caught:
        PrivacyLedger.load(Budget(8.0, DELTA), []).charge(slot(0), policy)
    assert caught.value.reason is Reason.POLICY_MISMATCH


def test_entry_without_a_cost_stops_the_ledger() -> None:
    _, charge, _ = PrivacyLedger.load(None, []).charge(slot(0), OTHERS["record-dpsgd"])
    for bad in (
        replace(charge, mechanism=9),
        replace(charge, sampling_micro=0),
        replace(charge, steps=0),
        replace(charge, sigma_micro=0),
    ):
        with pytest.raises(StorageError, match="entry 0"):
            PrivacyLedger.load(None, [CHARGE.pack(bad)])


@pytest.mark.parametrize("cap", [1.0, 3.0, 8.0])
@given(st.lists(st.sampled_from(["record", *OTHERS]), max_size=20))
@settings(deadline=None, max_examples=25)  # every new budget is searched
def test_no_mixture_overdraws_or_is_forgotten(cap: float, wishes: list[str]) -> None:
    budget = Budget(cap, DELTA)
    ledger, entries = PrivacyLedger.load(budget, []), []
    for base, wish in enumerate(wishes):
        policy = TWO if wish == "record" else OTHERS[wish]
        task = list(MECHANISMS.values())[policy.mechanism]
        left = ledger.releases_left(CHAIN, TaskId(task), policy)
        try:
            ledger, _, entry = ledger.charge(slot(base, task), policy)
        except BudgetExceeded:
            assert left == 0
        else:
            assert left
            entries.append(entry)
        assert ledger.epsilon() <= cap
        # A restart after any effect knows of every charge that was synced.
        assert PrivacyLedger.load(budget, entries) == ledger


POLICIES = {epsilon: policy_for(epsilon, 3) for epsilon in (0.5, 1.0, 4.0)}


@settings(deadline=None)  # every new cap is searched for its charge
@given(
    st.sampled_from([0.3, 1.0, 2.0, 4.1, 6.0]),
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(sorted(POLICIES)), st.integers(1, 3)
        ),
        max_size=25,
    ),
)
def test_no_sequence_of_charges_overdraws(
    cap: float, wishes: list[tuple[int, float, int]]
) -> None:
    ledger = PrivacyLedger.load(Budget(cap, DELTA), [])
    for base, (task, epsilon, windows) in enumerate(wishes):
        before = ledger
        policy = POLICIES[epsilon]
        left = ledger.releases_left(CHAIN, TaskId(task), policy, windows)
        try:
            ledger, _, _ = ledger.charge(slot(base, task), policy, windows)
        except BudgetExceeded:
            assert left == 0
            assert ledger is before
        else:
            assert left
        assert epsilon_from_charge(ledger.units, DELTA) <= cap
        assert ledger.units <= charge_max(Budget(cap, DELTA))
