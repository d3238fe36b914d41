"""The label ledger of one data set: which class each label was drawn as, and its price.

Built from the batches of an append-only journal. It keeps these rules: a label that was
drawn is never drawn again under the same terms, whatever happens to files, trainers and
power, so that its epsilon is spent once; a record whose label became another one has
that drawn, too, and pays for both; one that comes new pays for itself alone; no record
pays more than the owner allows. The caller has a duty in return: what `respond` has
drawn is synced before anything is computed from it. It is another ledger than that of
releases (`agent.privacy.ledger`): neither counts what the other does.

A record is known by the digest of its inputs, which are public. Records with the same
inputs are twins: each has a place of its own, and a label goes to the place that had it
before. The order that is returned follows from digests and places, never from labels.

What is drawn under other terms (another epsilon, other classes, inputs of another form)
adds up: no record's account is below the sum of the dearest ones under each form of
inputs, since it cannot be told which record of the one is which of the other.

Source: Ghazi et al., NeurIPS 2021, arXiv:2102.06062 (LP-1ST); Erlingsson, Pihur,
Korolova 2014, arXiv:1407.6981, section 3 (answers that are kept).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from starling.agent.privacy.label_entries import (
    BATCH,
    BATCH_MAX,
    BATCHES_MAX,
    DrawnLabel,
    LabelBatch,
)
from starling.protocol.errors import DecodeError, LimitError, StorageError
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.privacy.randomised_response import DRAW_BITS, keep_threshold

_DRAW_BYTES = DRAW_BITS // 8


@dataclass(frozen=True)
class LabelTerms:
    """Terms under which labels are drawn.

    Attributes:
      inputs: Digest of what inputs are.
      classes: K.
      epsilon_micro: Of each answer, in units of 10^-6.
      cap_micro: Epsilon that each label may pay in all.
      losses: How often labels may have been drawn by lives of the board that its
        journal forgot: each counts for every label.
    """

    inputs: bytes
    classes: int
    epsilon_micro: int
    cap_micro: int
    losses: int = 0


@dataclass(frozen=True)
class LabelAnswers:
    """Answers for the records of a data set.

    Attributes:
      order: Numbers of the records that have an answer, in the order to train in.
      answers: Their classes.
      drawn: What was drawn now, to be synced before anything is made of it.
      outdated: How many labels became others and kept an old answer, for want of
        budget.
      left_out: Records that have no answer, for want of budget.
      most_micro: The dearest label's account, in units of 10^-6.
    """

    order: tuple[int, ...]
    answers: tuple[int, ...]
    drawn: tuple[DrawnLabel, ...]
    outdated: int
    left_out: int
    most_micro: int


class LabelLedger:
    """Drawn labels by record; grows by `add` and by what `respond` draws."""

    def __init__(self) -> None:
        """Nothing was drawn yet."""
        # By form of inputs and record: what each twin paid, in units of 10^-6.
        self._paid: dict[bytes, dict[bytes, list[int]]] = defaultdict(dict)
        # By terms and record: each twin's answers by label, the latest last.
        self._known: dict[_Terms, dict[bytes, list[dict[int, int]]]] = defaultdict(dict)
        self._dearest_micro = 0

    @classmethod
    def load(cls, payloads: Iterable[bytes]) -> "LabelLedger":
        """Rebuilds a ledger from a journal's payloads.

        Raises:
          StorageError: If one is no batch.
        """
        ledger = cls()
        for number, payload in enumerate(payloads):
            try:
                ledger.add(BATCH.unpack(payload))
            except (DecodeError, LimitError) as error:
                raise StorageError(f"label journal, entry {number}: {error}") from error
        return ledger

    def add(self, batch: LabelBatch) -> None:
        """Counts a batch."""
        terms = batch.inputs, batch.classes, batch.epsilon_micro
        for drawn in batch.drawn():
            self._count(terms, drawn)

    def respond(
        self,
        records: Sequence[tuple[bytes, int]],
        terms: LabelTerms,
        draw: Draw,
    ) -> LabelAnswers:
        """Answers each record's label: as before, or by a new draw that it pays for.

        Args:
          records: Digest of the inputs, and the label in [0, K), of each.
          terms: Of the task and the owner.
          draw: Cryptographically secure random bytes.

        Raises:
          ConfigError: If the terms are out of bounds.
          LimitError: If there are more new records than one training may draw for.
        """
        of = terms.inputs, terms.classes, terms.epsilon_micro
        responder = _Responder(terms, draw)
        apart_micro = self._apart_micro(terms)
        groups: dict[bytes, list[int]] = defaultdict(list)
        for number, (record, _) in enumerate(records):
            groups[record].append(number)
        rows: list[tuple[int, int]] = []
        drawn: list[DrawnLabel] = []
        outdated = 0
        for record in sorted(groups):
            labels = [records[number][1] for number in groups[record]]
            for number, twin, label in self._placed(of, record, groups[record], labels):
                answers = self._answers(of, record, twin)
                paid_micro = self._account(terms.inputs, record, twin) + apart_micro
                # A label with an answer costs nothing, however little room its account
                # has left.
                if label not in answers and paid_micro + terms.epsilon_micro <= (
                    terms.cap_micro
                ):
                    new = DrawnLabel(record, twin, label, responder.answer(label))
                    self._count(of, new)
                    drawn.append(new)
                answers = self._answers(of, record, twin)
                if not answers:
                    continue
                outdated += label not in answers
                latest = next(reversed(answers.values()))
                rows.append((number, answers.get(label, latest)))
        if len(drawn) > BATCHES_MAX * BATCH_MAX:
            raise LimitError(f"{len(drawn)} labels to draw at once")
        return LabelAnswers(
            tuple(number for number, _ in rows),
            tuple(answer for _, answer in rows),
            tuple(drawn),
            outdated,
            len(records) - len(rows),
            self._most_micro(terms.inputs) + apart_micro,
        )

    def _placed(
        self, of: "_Terms", record: bytes, numbers: list[int], labels: list[int]
    ) -> Iterator[tuple[int, int, int]]:
        """Number, twin and label of the records with the same inputs, by twin.

        A label goes to the first twin that had it; what is left fills what is left.
        """
        known = self._known[of].get(record, [])
        had: dict[int, list[int]] = defaultdict(list)
        # The lists below are popped from their ends, so that the first twin comes out
        # first.
        for twin in reversed(range(len(known))):
            for label in known[twin]:
                had[label].append(twin)
        free = dict.fromkeys(range(max(len(numbers), len(known))))
        places: dict[int, int] = {}
        for at, label in enumerate(labels):
            while at not in places and had[label]:
                twin = had[label].pop()
                if twin in free:
                    del free[twin]
                    places[at] = twin
        rest = [at for at in range(len(labels)) if at not in places]
        places.update(zip(rest, free, strict=False))
        for at, twin in sorted(places.items(), key=lambda item: item[1]):
            yield numbers[at], twin, labels[at]

    def _answers(self, of: "_Terms", record: bytes, twin: int) -> dict[int, int]:
        twins = self._known[of].get(record, [])
        return twins[twin] if twin < len(twins) else {}

    def _account(self, inputs: bytes, record: bytes, twin: int) -> int:
        twins = self._paid[inputs].get(record, [])
        return twins[twin] if twin < len(twins) else 0

    def _count(self, of: "_Terms", drawn: DrawnLabel) -> None:
        inputs, _, epsilon_micro = of
        known = self._known[of].setdefault(drawn.record, [])
        known += [{} for _ in range(drawn.twin + 1 - len(known))]
        # Taken out first, so that the mapping's last entry is the latest draw, which is
        # the answer of a label without room for one of its own.
        known[drawn.twin].pop(drawn.label, None)
        known[drawn.twin][drawn.label] = drawn.answer
        paid = self._paid[inputs].setdefault(drawn.record, [])
        paid += [0] * (drawn.twin + 1 - len(paid))
        paid[drawn.twin] += epsilon_micro
        self._dearest_micro = max(self._dearest_micro, epsilon_micro)

    def _most_micro(self, inputs: bytes) -> int:
        accounts = self._paid[inputs].values()
        return max((max(twins) for twins in accounts), default=0)

    def _apart_micro(self, terms: LabelTerms) -> int:
        """The most that a label can have paid beside its account under these inputs."""
        others = [inputs for inputs in self._paid if inputs != terms.inputs]
        each_micro = max(self._dearest_micro, terms.epsilon_micro)
        lost_micro = terms.losses * each_micro
        return sum(self._most_micro(inputs) for inputs in others) + lost_micro


_Terms = tuple[bytes, int, int]


class _Responder:
    """Draws answers; no label's answer depends on another's."""

    def __init__(self, terms: LabelTerms, draw: Draw) -> None:
        self._keep = keep_threshold(terms.epsilon_micro, terms.classes)
        self._others = terms.classes - 1
        self._draw = draw

    def answer(self, label: int) -> int:
        """The label, or one of the other classes, each as likely."""
        if self._word() < self._keep:
            return label
        other = self._below(self._others)
        return other + (other >= label)

    def _word(self) -> int:
        return int.from_bytes(self._draw(_DRAW_BYTES), "little")

    def _below(self, count: int) -> int:
        # What is left of 2^64 beyond a multiple of the count would favour small ones.
        most = (1 << DRAW_BITS) // count * count
        while (word := self._word()) >= most:
            continue
        return word % count
