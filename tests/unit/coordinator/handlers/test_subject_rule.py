"""The table of what coordinators say to each other, and its page."""

import re
from pathlib import Path

from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.handlers.peer_messages import SUBJECTS
from starling.coordinator.handlers.subject_rule import MessageCost

PAGE = Path(__file__).parents[4] / "docs" / "protocol.md"
ROW = re.compile(
    r"^\| `([A-Z]+)` \| (\d+) \| .* \| (\w+) \| (\w+) \| (yes|) ?\|$", re.M
)
_PAID = {
    "signature": MessageCost.SIGNATURE,
    "share": MessageCost.SHARE,
    "nothing": MessageCost.ASKED,
}


def test_each_subject_has_one_rule() -> None:
    assert set(SUBJECTS) == set(FrameSubject)


def test_page_shows_the_table() -> None:
    rows = ROW.findall(PAGE.read_text())
    shown = {
        name: (int(number), _PAID[paid], lane, bool(learners))
        for name, number, paid, lane, learners in rows
    }
    assert len(rows) == len(shown)
    assert shown == {
        subject.name: (
            subject.value,
            rule.cost,
            rule.lane.name.lower(),
            rule.learners,
        )
        for subject, rule in SUBJECTS.items()
    }
