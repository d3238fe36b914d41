"""Tasks: their versions, how good these are, and what they cost in privacy."""

from starling.console.chain_facts import ChainFacts
from starling.console.markup import Html, element, joined, link, table
from starling.console.pages.layout import (
    OperatorFrame,
    PageFrame,
    act,
    card,
    figures,
    moment,
    optional,
    page,
    paid,
    trouble,
)
from starling.console.pages.overview import learning_charts
from starling.console.status_facts import TaskFacts, VersionFacts
from starling.coordinator.models.best_version import best_version

VERSIONS_SHOWN_MAX = 200
"""Newest of a task."""


def tasks(frame: PageFrame) -> Html:
    """The page of all tasks."""
    listed = frame.facts.tasks if frame.facts else ()
    rows: list[tuple[str | int | None, ...]] = [
        (
            link(f"/tasks/{task.number}", f"{task.number}: {task.name}"),
            f"{task.head:,}",
            optional(_newest(task, "accuracy"), ".1%"),
            optional(_newest(task, "loss"), ".4g"),
            f"{task.pending} of {task.buffer}",
            f"{task.leases} of {task.lease_places}",
            f"{task.waiting:,}",
        )
        for task in reversed(listed)
    ]
    heads = ("task", "version", "accuracy", "loss", "updates", "leases", "waiting")
    publish = Html("")
    if frame.operator is not None:
        publish = element("p", link("/publish", "Publish a task"))
    if not rows:
        empty = "No task is published yet: starling coordinator publish"
        return page(frame, "/tasks", "Tasks", element("p", empty), publish)
    return page(frame, "/tasks", "Tasks", table(heads, rows, "Tasks"), publish)


def task(frame: PageFrame, chain: ChainFacts, number: int) -> Html | None:
    """One task's page; None if there is none of that number."""
    listed = frame.facts.tasks if frame.facts else ()
    found = next((each for each in listed if each.number == number), None)
    if found is None:
        return None
    split = f"version {found.head + 1} cannot become final: the digests are split"
    return page(
        frame,
        "/tasks",
        f"Task {found.number}: {found.name}",
        element("p", trouble(split)) if found.split else Html(""),
        _pause(frame.operator, found),
        card("Learning", element("div", *learning_charts(found), class_="charts")),
        element("div", _now(found), _terms(chain, found), class_="cards"),
        _export(frame.operator, found),
        _versions(found),
    )


def _pause(operator: OperatorFrame | None, found: TaskFacts) -> Html:
    """Reason of a task's pause, and for an operator the button that ends it."""
    if not found.pause:
        return Html("")
    said = element("p", trouble(found.pause))
    if operator is None:
        return said
    button = element("button", "Let it go on")
    return card("Paused", said, act(operator, "/act/resume", button, task=found.number))


def _export(operator: OperatorFrame | None, found: TaskFacts) -> Html:
    """The form that downloads a version or its card, for an operator."""
    if operator is None:
        return Html("")
    numbers = [str(each.version) for each in reversed(found.versions)]
    named = [("latest", "the newest")]
    if best_version(found.versions, by_loss=found.by_loss) is not None:
        named.insert(0, ("best", "the best on held-out data"))
    named += [(number, number) for number in numbers[:VERSIONS_SHOWN_MAX]]
    options = [element("option", text, value=value) for value, text in named]
    form = act(
        operator,
        "/act/export",
        element("label", "Version ", element("select", *options, name="version")),
        element("button", "Download as ONNX"),
        element("button", "Download its card", formaction="/act/card"),
        task=found.number,
    )
    return card("Model", form)


def _now(found: TaskFacts) -> Html:
    attested = "; ".join(
        f"{digest[:12]} by {', '.join(names)}"
        for digest, names in sorted(found.attested.items())
    )
    return card(
        "Now",
        figures(
            [
                ("newest final version", f"{found.head:,}"),
                ("updates waiting", f"{found.pending} of {found.buffer}"),
                ("boards training", f"{found.leases} of {found.lease_places}"),
                ("boards waiting", f"{found.waiting:,}"),
                ("next version attested", attested or "-"),
            ]
        ),
    )


def _terms(chain: ChainFacts, found: TaskFacts) -> Html:
    lines = chain.terms.get(found.number, ("not known yet",))
    return card("Privacy", *(element("p", line.strip()) for line in lines))


def _versions(found: TaskFacts) -> Html:
    best = best_version(found.versions, by_loss=found.by_loss)
    rows = [
        _cells(each, is_best=each is best)
        for each in reversed(found.versions[-VERSIONS_SHOWN_MAX:])
    ]
    heads = ("version", "final", "updates", "accuracy", "loss", "staleness", "epsilon")
    text = f"Versions, newest first; {len(rows)} of {len(found.versions)}"
    return card(text, table(heads, rows, "Versions"))


def _cells(each: VersionFacts, *, is_best: bool) -> tuple[str | int | None, ...]:
    mark = element("strong", " best") if is_best else ""
    return (
        joined(f"{each.version:,}", mark),
        moment(each.time_ms),
        each.updates,
        optional(each.accuracy, ".2%"),
        optional(each.loss, ".4g"),
        f"{each.staleness:.2f}",
        paid(each.epsilon, each.version, ".3g"),
    )


def _newest(found: TaskFacts, name: str) -> float | None:
    values: list[float | None] = [getattr(each, name) for each in found.versions]
    return next((value for value in reversed(values) if value is not None), None)
