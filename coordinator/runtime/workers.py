"""Workers for what takes longer than a turn of the loop.

Each has one thread; results come back as events.
"""

import contextlib
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from starling.coordinator.aggregation.contribution_scores import (
    RootGradients,
    scores_of,
)
from starling.coordinator.loop.ports import ScoringInputs, Work
from starling.coordinator.runtime.evaluation.evaluation_messages import EvaluationError
from starling.coordinator.runtime.evaluation.evaluator import Evaluator
from starling.coordinator.step.effects import EvaluateVersion
from starling.coordinator.step.events import (
    EvaluationFailed,
    Event,
    ScoringFailed,
    VersionEvaluated,
    VersionScored,
)
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import Digest

log = logging.getLogger("starling.coordinator")

FAILURES_MAX = 3
"""Trials in a row of versions of one bundle, after which it is left until a restart."""
WAITING_BYTES_MAX = 64 << 20
"""Of parameters that wait for their trial; the newest may wait whatever it takes."""


UNSCORED_MAX = 4
"""Versions whose updates wait to be scored, with the sealed vectors of each."""


class _RootEvaluator:
    """One bundle on the root set; see `contribution_scores.RootModel`."""

    def __init__(self, root: Evaluator, bundle: Digest, packed: bytes) -> None:
        self._root = root
        self._named = bundle, packed

    def gradients(self, theta: bytes) -> RootGradients:
        return self._root.gradients(*self._named, theta)

    def accuracy(self, theta: bytes) -> float:
        found, _ = self._root.evaluate(*self._named, theta)
        if found is None:
            raise EvaluationError("a loss without classes has no accuracy")
        return found


class JobWorkers:
    """The threads; see `coordinator.loop.ports.JobExecutor`."""

    def __init__(
        self,
        evaluator: Evaluator | None,
        root: Evaluator | None,
        on_event: Callable[[Event], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Starts no thread before there is work.

        Args:
          evaluator: None if there is no held-out data.
          root: On the root set; None if there is none.
          on_event: Called from a worker's thread with each result.
          on_failure: Called there with what must end the process.
        """
        self._evaluator = evaluator
        self._root = root
        self._on_event = on_event
        self._on_failure = on_failure
        # A thread for each kind: to make the next version, for which all wait, never
        # stands behind a measurement of the last one.
        self._aggregation = ThreadPoolExecutor(1, "aggregation")
        self._evaluation = ThreadPoolExecutor(1, "evaluation")
        self._examination = ThreadPoolExecutor(1, "examination")
        self._scoring = ThreadPoolExecutor(1, "scoring")
        self._unscored: deque[Work] = deque(maxlen=UNSCORED_MAX)
        self._waiting: deque[tuple[int, Work]] = deque()
        self._waiting_lock = threading.Lock()
        # Of the evaluation's thread; the loop's only reads it.
        self._failures: Counter[Digest] = Counter()

    @property
    def evaluates(self) -> bool:
        """See `JobExecutor`."""
        return self._evaluator is not None

    def aggregate(self, work: Work) -> None:
        """See `JobExecutor`."""
        self._submit(self._aggregation, work)

    def examine(self, work: Work) -> None:
        """See `JobExecutor`."""
        self._submit(self._examination, work)

    def evaluate(self, asked: EvaluateVersion, bundle: bytes, inference: bytes) -> None:
        """See `JobExecutor`; a bundle that failed often is left.

        Where versions come faster than they are tried the oldest that wait are not.
        """
        evaluator = self._evaluator
        assert evaluator is not None
        if self._failures[asked.bundle] >= FAILURES_MAX:
            log.debug("task %d: its bundle failed too often", asked.task)
            return

        def work() -> Event:
            # A fleet must not stop because its measuring does.
            try:
                accuracy, loss = evaluator.evaluate(asked.bundle, bundle, inference)
            except EvaluationError as error:
                self._failures[asked.bundle] += 1
                return EvaluationFailed(asked.task, asked.version, str(error))
            self._failures[asked.bundle] = 0
            return VersionEvaluated(asked.task, asked.version, accuracy, loss)

        with self._waiting_lock:
            # In a queue of our own: the pool's gives nothing back that is too much.
            self._waiting.append((len(inference), work))
            size = sum(each for each, _ in self._waiting)
            # The oldest go: the newest version says most about how the task goes.
            while size > WAITING_BYTES_MAX and len(self._waiting) > 1:
                size -= self._waiting.popleft()[0]
        self._evaluation.submit(self._evaluate_next).add_done_callback(self._ended)

    def score(self, inputs: ScoringInputs) -> None:
        """See `JobExecutor`; where versions come faster the oldest go unscored."""
        root, asked = self._root, inputs.asked
        assert root is not None

        def work() -> Event:
            try:
                model = _RootEvaluator(root, asked.bundle, inputs.bundle)
                values = scores_of(inputs.spec, inputs.theta, inputs.opened(), model)
            except (EvaluationError, ProtocolError) as error:
                return ScoringFailed(asked.task, asked.version, str(error))
            return VersionScored(asked.task, asked.version, values)

        # Beyond its length the oldest falls out; its turn then finds nothing, below.
        self._unscored.append(work)
        self._scoring.submit(self._score_next).add_done_callback(self._ended)

    def _score_next(self) -> None:
        # A deque's ends are safe on any thread.
        with contextlib.suppress(IndexError):
            self._on_event(self._unscored.popleft()())

    def _evaluate_next(self) -> None:
        with self._waiting_lock:
            if not self._waiting:
                return
            _, work = self._waiting.popleft()
        self._on_event(work())

    def stop(self) -> None:
        """Waits for what runs and forgets what waits; it is handed out again."""
        pools = (self._aggregation, self._evaluation, self._examination, self._scoring)
        # All before any is waited for: a trial that began meanwhile would hold the end
        # up for as long as a trial may take.
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for evaluator in (self._evaluator, self._root):
            if evaluator is not None:
                evaluator.abandon()
        for pool in pools:
            pool.shutdown()
        for evaluator in (self._evaluator, self._root):
            if evaluator is not None:
                evaluator.stop()

    def _submit(self, pool: ThreadPoolExecutor, work: Work) -> None:
        def carry() -> None:
            self._on_event(work())

        pool.submit(carry).add_done_callback(self._ended)

    def _ended(self, future: "Future[None]") -> None:
        # A bug in a worker must end the process like a bug in the loop.
        if not future.cancelled() and (error := future.exception()) is not None:
            self._on_failure(error)
