"""A key votes where it ran before and with its journal, or when an operator says so."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from starling.coordinator.chain.chain_step import JournalVote
from starling.coordinator.chain.consensus.voting_permit import RESUMPTION, resume
from starling.coordinator.chain.gossip_messages import JOURNAL_ENTRY, VoteJournalEntry
from starling.coordinator.runtime.storage.double_sign_guard import (
    BINDING_FILE,
    RESUMED_FILE,
    VotingStart,
    machine_name,
    voted_again,
    votes_from,
    write_resumption,
)
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ConfigError
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    genesis,
    sorted_validator_keys,
)

GENESIS = genesis(4)
KEYS = sorted_validator_keys(4)
HERE, ELSEWHERE = b"here", b"elsewhere"


@dataclass
class Home:
    """A coordinator's folders."""

    keys: Path
    state: Path

    def start(self, machine: bytes = HERE) -> int | None:
        """Starts and stops a coordinator; gives the height that it votes from."""
        return self.leave(machine).height

    def leave(self, machine: bytes = HERE) -> VotingStart:
        public, chain_id = KEYS[0].public, GENESIS.chain_id()
        leave = votes_from(self.keys, self.state, chain_id, public, machine)
        VoteJournal(self.state / VOTES_FILE).close()
        return leave

    def leave_without_opening(self) -> VotingStart:
        public, chain_id = KEYS[0].public, GENESIS.chain_id()
        return votes_from(self.keys, self.state, chain_id, public, HERE)

    def lose_journal(self) -> None:
        (self.state / VOTES_FILE).unlink()

    def resume(
        self, height: int, operator: SigningKey = OPERATOR, validator: int = 0
    ) -> None:
        chain_id, public = GENESIS.chain_id(), KEYS[validator].public
        write_resumption(self.state, resume(operator, chain_id, public, height))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "keys", tmp_path / "state")
    made.keys.mkdir()
    made.state.mkdir()
    return made


def test_first_start_and_every_start_with_its_journal_votes(home: Home) -> None:
    assert [home.start() for _ in range(3)] == [0, 0, 0]


def test_lost_journal_forbids_voting_for_good(home: Home) -> None:
    home.start()
    home.lose_journal()
    assert [home.start() for _ in range(3)] == [None, None, None]


def test_operators_word_lets_it_vote_from_a_height_on(home: Home) -> None:
    home.start()
    home.lose_journal()
    home.start()
    home.resume(17)
    assert [home.start(), home.start()] == [17, 17]


def test_operators_word_counts_for_one_loss_only(home: Home) -> None:
    home.start()
    home.lose_journal()
    home.start()
    home.resume(17)
    home.start()
    home.lose_journal()
    assert home.start() is None


def test_operators_word_is_refused_while_nothing_is_lost(home: Home) -> None:
    home.start()
    with pytest.raises(ConfigError, match="nothing to resume"):
        home.resume(17)


def test_first_vote_ends_what_the_word_was_given_for(home: Home) -> None:
    home.start()
    home.lose_journal()
    home.start()
    home.resume(17)
    assert home.leave() == VotingStart(17, OPERATOR.public)
    done = partial(voted_again, home.state)
    journal = VoteJournal(home.state / VOTES_FILE, on_first=done)
    assert home.leave_without_opening() == VotingStart(17, OPERATOR.public)
    entry = VoteJournalEntry(17, None, None, None)
    journal.append([JournalVote(JOURNAL_ENTRY.pack(entry), 17)], 16)
    journal.close()
    assert home.leave() == VotingStart(0)
    home.lose_journal()
    assert home.leave() == VotingStart(None)


def test_word_for_another_key_is_refused(home: Home) -> None:
    home.start()
    home.lose_journal()
    home.start()
    home.resume(17, validator=1)
    with pytest.raises(ConfigError, match="operator's word"):
        home.start()


def test_damaged_word_is_refused_at_every_byte(home: Home) -> None:
    home.start()
    home.lose_journal()
    home.start()
    home.resume(17)
    file = home.state / RESUMED_FILE
    whole = file.read_bytes()
    RESUMPTION.unpack(whole)
    for index in range(0, len(whole), 7):
        spoilt = bytearray(whole)
        spoilt[index] ^= 1
        file.write_bytes(bytes(spoilt))
        with pytest.raises(ConfigError):
            home.start()


def test_copied_key_does_not_start_on_another_machine(home: Home) -> None:
    home.start()
    with pytest.raises(ConfigError, match="another machine") as caught:
        home.start(ELSEWHERE)
    assert caught.value.file == str(home.keys / BINDING_FILE)


def test_moved_key_starts_once_the_operator_deletes_the_binding(home: Home) -> None:
    home.start()
    (home.keys / BINDING_FILE).unlink()
    assert home.start(ELSEWHERE) == 0


def test_second_process_with_the_same_folder_does_not_start(home: Home) -> None:
    running = VoteJournal(home.state / VOTES_FILE)
    running.append([JournalVote(b"", 1)][:0], 0)
    with pytest.raises(ConfigError, match="another process"):
        VoteJournal(home.state / VOTES_FILE)
    running.close()


@pytest.mark.parametrize(
    ("content", "name"), [(b"abc\n", b"abc"), (b"", b"unnamed"), (None, b"unnamed")]
)
def test_machine_without_a_name_is_unnamed(
    tmp_path: Path, content: bytes | None, name: bytes
) -> None:
    file = tmp_path / "machine-id"
    if content is not None:
        file.write_bytes(content)
    assert machine_name(file) == name
