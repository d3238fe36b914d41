"""The overview says whether all is well, and what to do where it is not."""

from starling.console.pages.layout import PageFrame
from starling.console.pages.overview import overview
from starling.coordinator.health.status_checks import check_status
from tests.unit.console.status_documents import HOSTILE, document, frame, version

PAGE_BYTES_MAX = 60_000


def test_overview_shows_what_is_asked_for_first() -> None:
    made = overview(frame(), 42.0)

    for text in (
        "<title>Overview - meadow</title>",
        "<dt>accuracy</dt><dd>70.0%</dd>",
        "<dt>updates a minute</dt><dd>42</dd>",
        "held-out loss",
        '<a href="/boards?state=LOST">lost</a>',
        "<dt>signed the last block</dt><dd>north, south, east</dd>",
        "<dt>decide</dt><dd>3 of 4</dd>",
        "STALE",
        "boards train from the newest version",
        f"All {len(check_status(document()))} checks are well",
    ):
        assert text in made, text
    assert 'class="banner"' not in made


def test_overview_says_what_is_wrong_and_what_to_do() -> None:
    made = document()
    made["disk"]["trouble"] = "1 MB left"
    made["consensus"]["convicted"] = {"west": "equivocation"}

    page = overview(frame(made), None)

    assert "1 MB left" in page
    assert "make room" in page
    assert "<dt>faults named</dt><dd>west</dd>" in page
    assert "<dt>updates a minute</dt><dd>-</dd>" in page


def test_overview_of_a_coordinator_that_went_says_since_when() -> None:
    assert "does not run: 5 min without a word" in overview(frame(age_s=300.0), 0.0)
    assert "no status" in overview(PageFrame("", None, "no status"), None)
    assert "<dt>last block</dt><dd>5 min ago</dd>" in overview(frame(age_s=300.0), 0.0)


def test_hostile_names_are_text() -> None:
    made = document()
    made["tasks"][0]["name"] = HOSTILE
    made["broker"] = f"{HOSTILE} connected"
    made["state"] = HOSTILE
    made["consensus"]["signed_by"] = [HOSTILE]
    made["consensus"]["outvoted"] = {HOSTILE: 1}
    made["updates"]["refused"] = {HOSTILE: 1}

    page = overview(PageFrame(HOSTILE, frame(made).facts), 1.0)

    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page


def test_overview_of_thousands_of_versions_stays_small() -> None:
    made = document()
    made["tasks"][0]["versions"] = [version(n, n / 5000) for n in range(5000)]

    assert len(overview(frame(made), 1.0).encode()) < PAGE_BYTES_MAX


def test_task_without_accuracy_shows_its_loss() -> None:
    made = document()
    for row in made["tasks"][0]["versions"]:
        row["accuracy"] = None

    page = overview(frame(made), None)

    assert "held-out accuracy" not in page
    assert "held-out loss" in page


def test_updates_that_nobody_charged_for_are_not_called_free() -> None:
    made = document()
    made["privacy"]["epsilon_max"] = 0.0

    assert "<dt>epsilon paid at most</dt><dd>-</dd>" in overview(frame(made), 1.0)


def test_task_before_its_first_evaluation_says_so_once() -> None:
    made = document()
    made["tasks"][0]["versions"] = []

    page = overview(frame(made), None)

    assert page.count("nothing yet") == 1
