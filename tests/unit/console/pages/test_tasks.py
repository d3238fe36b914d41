"""Tasks, their versions and what they cost."""

from starling.console.chain_facts import ChainFacts
from starling.console.pages.layout import PageFrame
from starling.console.pages.tasks import VERSIONS_SHOWN_MAX, task, tasks
from tests.unit.console.status_documents import HOSTILE, document, frame, version


def test_tasks_are_listed_with_their_newest_figures() -> None:
    page = tasks(frame())

    assert '<a href="/tasks/0">0: digits</a>' in page
    assert 'data-head="accuracy">70.0%</td>' in page
    assert ">1 of 4</td>" in page
    assert "No task is published yet" in tasks(PageFrame("meadow", None))


def test_task_shows_versions_best_one_and_privacy() -> None:
    terms = {0: ("privacy: record-gaussian hides one record", "  epsilon 8")}

    page = task(frame(), ChainFacts(terms=terms), 0)

    assert page is not None
    assert "<p>epsilon 8</p>" in page
    assert ">2<strong> best</strong></td>" in page
    assert f"{'ab' * 6} by north" in page
    assert task(frame(), ChainFacts(), 1) is None


def test_split_task_is_said() -> None:
    made = document()
    made["tasks"][0]["attested"]["split"] = True

    page = task(frame(made), ChainFacts(), 0)

    assert page is not None
    assert "version 4 cannot become final" in page


def test_best_version_is_marked_by_what_the_task_is_ranked_by() -> None:
    made = document()
    made["tasks"][0]["versions"][1]["loss"] = 0.1

    by_accuracy = task(frame(made), ChainFacts(), 0)
    made["tasks"][0]["ranked_by"] = "loss"
    by_loss = task(frame(made), ChainFacts(), 0)

    assert by_accuracy is not None
    assert by_loss is not None
    assert "2<strong> best</strong>" in by_accuracy
    assert "1<strong> best</strong>" in by_loss


def test_of_many_versions_the_newest_are_shown() -> None:
    made = document()
    made["tasks"][0]["versions"] = [version(n) for n in range(3000)]

    page = task(frame(made), ChainFacts(), 0)

    assert page is not None
    assert f"{VERSIONS_SHOWN_MAX} of 3000" in page
    assert page.count("<time ") == VERSIONS_SHOWN_MAX


def test_hostile_task_is_text() -> None:
    made = document()
    made["tasks"][0]["name"] = HOSTILE
    made["tasks"][0]["attested"]["by_digest"] = {HOSTILE: [HOSTILE]}

    page = task(frame(made), ChainFacts(terms={0: (HOSTILE,)}), 0)

    assert page is not None
    assert "<script>alert" not in page + tasks(frame(made))
