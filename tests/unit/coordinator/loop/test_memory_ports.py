"""Ports in memory do what those on a disk do."""

import math

from starling.coordinator.chain.node.node import JournalVote
from starling.coordinator.loop.memory_ports import MemoryInbox, MemoryVoteJournal
from starling.coordinator.step.effects import RemoveInboxFile


def test_votes_of_durable_heights_go_with_the_next_ones() -> None:
    votes = MemoryVoteJournal()
    votes.append([JournalVote(b"one", 1), JournalVote(b"two", 2)], 0)
    assert list(votes.entries) == [b"one", b"two"]

    votes.append([JournalVote(b"three", 3)], 1)

    assert list(votes.entries) == [b"two", b"three"]


def test_dropped_transaction_is_read_once_in_each_life_until_it_is_settled() -> None:
    inbox = MemoryInbox()
    assert inbox.due_s == math.inf
    inbox.drop("b.tx", b"second")
    inbox.drop("a.tx", b"first")
    assert inbox.due_s == -math.inf

    fresh = inbox.fresh(lambda content, done: None)

    assert fresh == [("a.tx", b"first"), ("b.tx", b"second")]
    assert inbox.due_s == math.inf
    inbox.settle(RemoveInboxFile("a.tx"))
    inbox.reopen()
    assert inbox.fresh(lambda content, done: None) == [("b.tx", b"second")]
