"""What holds of every state, whatever transactions led to it."""

from coordinator.ledger import accounts, forfeits, views
from coordinator.ledger.accounts import ACCOUNT
from coordinator.ledger.settlement import settlement_key
from protocol.light import version_key
from protocol.statetree import StateTree


def check_invariants(tree: StateTree) -> None:
    """Raises AssertionError, naming the task, if a state contradicts itself."""
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


def check_supply(tree: StateTree, supply: int) -> None:
    """Raises AssertionError if a credit was made or lost."""
    held = [ACCOUNT.unpack(packed) for _, packed in tree.items(b"account/")]
    assert all(each.balance >= 0 and each.deposit >= 0 for each in held)
    pools = [key for key, _ in tree.items(b"pool/")]
    total = accounts.treasury(tree) + accounts.burned(tree)
    total += sum(each.balance + each.deposit for each in held)
    total += sum(views.number_at(tree, key) for key in pools)
    assert total == supply


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
    versions = {key for key, _ in tree.items(b"version/%d/" % number)}
    assert versions == {version_key(number, v) for v in kept}, number
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
