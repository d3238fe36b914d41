"""What holds of every state, whatever transactions led to it."""

from coordinator.ledger import accounts, forfeits, layout, versions, views
from coordinator.ledger.accounts import ACCOUNT
from coordinator.ledger.settlement import settlement_key
from protocol.genesis import Genesis
from protocol.light import task_key, version_key
from protocol.statetree import StateTree

CHAIN_KEYS = set(
    b"operator operators motions board boards clock learner learners key fault "
    b"absence epoch epochs parameter upgrade account treasury burned tasks published "
    b"waiting".split()
)
TASK_KEYS = set(
    b"task head version update pending job attest dissent forfeits pool settled paid "
    b"score scored opinion".split()
)
"""What stands for each task, by its number."""


def check_invariants(tree: StateTree) -> None:
    """Raises AssertionError, naming the task, if a state contradicts itself."""
    _check_keys(tree)
    waiting = []
    for number in range(views.task_count(tree)):
        _check_task(tree, number)
        progress = views.progress(tree, number)
        assert progress is not None
        lost = forfeits.of_head(tree, number, progress.head)
        if (progress.pending or lost) and views.open_job(tree, number) is None:
            waiting.append(number)
    assert views.waiting(tree) == tuple(waiting)
    boards = [key for key, _ in tree.items(b"board/")]
    assert len(boards) == views.board_count(tree)
    operators = [key for key, _ in tree.items(b"operator/")]
    assert len(operators) == views.operator_count(tree) >= 1
    for key, owner in tree.items(b"key/"):
        board = views.board(tree, owner)
        assert board is not None, key
        assert board.rotations > 0, key
    assert StateTree().update(dict(tree.items())).root() == tree.root()


def check_members(tree: StateTree, genesis: Genesis, height: int) -> None:
    """Raises AssertionError if a state tells of validators that left.

    Args:
      tree: A state while a block is made, before what ends it.
      genesis: What the chain started from.
      height: Of that block. If it is the first one of a set, its end drops what is of
        those who left.
    """
    members = {
        member.public
        for each in (height - 1, height)
        for member in views.validators(tree, genesis, each).members
    }
    absent = {key.removeprefix(b"absence/") for key, _ in tree.items(b"absence/")}
    assert absent <= members
    for number in range(views.task_count(tree)):
        attested = {entry.validator for entry in views.attestations(tree, number)}
        assert attested <= members, number
        prefix = layout.dissent_key(number, b"")
        outvoted = {key.removeprefix(prefix) for key, _ in tree.items(prefix)}
        assert outvoted <= members, number


def check_supply(tree: StateTree, supply: int) -> None:
    """Raises AssertionError if a credit was made or lost."""
    held = [ACCOUNT.unpack(packed) for _, packed in tree.items(b"account/")]
    assert all(each.balance >= 0 and each.deposit >= 0 for each in held)
    pools = [key for key, _ in tree.items(b"pool/")]
    total = accounts.treasury(tree) + accounts.burned(tree)
    total += sum(each.balance + each.deposit for each in held)
    total += sum(views.number_at(tree, key) for key in pools)
    assert total == supply


def _check_keys(tree: StateTree) -> None:
    """Every key is one that the layout names, and of a task that there is."""
    for key, _ in tree.items(b""):
        name, *rest = key.split(b"/", 2)
        assert name in CHAIN_KEYS | TASK_KEYS, key
        if name in TASK_KEYS:
            assert tree.get(task_key(int(rest[0]))) is not None, key
    known = views.epochs(tree)
    numbers = range(known.first, known.following)
    epochs = {key for key, _ in tree.items(b"epoch/")}
    assert epochs == {layout.epoch_key(number) for number in numbers}


def _check_task(tree: StateTree, number: int) -> None:
    spec = views.task(tree, number)
    progress = views.progress(tree, number)
    assert spec is not None
    assert progress is not None
    policy = spec.aggregation
    queue = views.pending(tree, number)
    job = views.job_record(tree, number)
    places = set() if job is None else set(job.places)
    stored = [key for key, _ in tree.items(b"pending/%d/" % number)]
    assert len(queue) == progress.pending, number
    assert len(stored) == progress.pending + len(places), number
    assert progress.first <= progress.following, number
    first = views.pending_at(tree, number, progress.first)
    assert (first is not None) == (progress.pending > 0), number
    if job is None:
        assert progress.pending < policy.buffer, number
        assert not views.attestations(tree, number), number
    else:
        assert job.version == progress.head + 1, number
        assert 1 <= len(places) <= policy.buffer, number
        assert max(places) < progress.first, number
    oldest = progress.head - policy.staleness_max
    for entry in queue:
        assert oldest <= entry.base <= progress.head, number
        known = views.update_of(tree, number, entry.board, entry.base)
        assert known == entry.transaction, number
    kept = range(max(0, oldest - 0), progress.head + 1)
    digests = {key for key, _ in tree.items(b"version/%d/" % number)}
    shown = range(max(0, oldest - versions.DISSENT_VERSIONS), progress.head + 1)
    assert digests == {version_key(number, v) for v in shown}, number
    settled = {key for key, _ in tree.items(b"settled/%d/" % number)}
    assert settled <= {settlement_key(number, v) for v in kept if v}, number
    for renewed in kept[1:]:
        if settlement_key(number, renewed) not in settled:
            same = views.version(tree, number, renewed - 1)
            assert views.version(tree, number, renewed) == same, number
    for prefix in (b"paid", b"score", b"scored", b"opinion"):
        for key, _ in tree.items(prefix + b"/%d/" % number):
            assert int(key.split(b"/")[2]) in kept, key
    for key, _ in tree.items(b"update/%d/" % number):
        signed = views.history(tree, number, key.rsplit(b"/", 1)[1])
        bases = [entry.base for entry in signed]
        assert bases == sorted(set(bases)), number
