"""Pages on which an operator admits a board or publishes a task."""

from dataclasses import dataclass

from starling.console.markup import Html, element, link, table, whole
from starling.console.pages.layout import OperatorFrame, PageFrame, act, card, page

_ROWS = 24


@dataclass(frozen=True)
class TaskForm:
    """Values in the form of a task.

    Attributes:
      bundles: Names of the folders to choose from.
      bundle: The chosen one; empty for none yet.
      text: Content of the `task.toml`.
      force: Whether it may want more boards than there are.
    """

    bundles: tuple[str, ...]
    bundle: str
    text: str
    force: bool = False


@dataclass(frozen=True)
class TaskPrice:
    """Price of a task, as its button's page says.

    Attributes:
      name: Of the task.
      lines: The privacy statement, with warnings first.
      digest: Of the task that was priced, in hex.
    """

    name: str
    lines: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class NewcomerRow:
    """Somebody who came with a token and waits for an operator.

    Attributes:
      code: That it shows.
      kind: What it is, in lower case.
      name: At the broker.
    """

    code: str
    kind: str
    name: str


def admission_form(
    frame: PageFrame,
    operator: OperatorFrame,
    admitted: tuple[str, ...],
    newcomers: tuple[NewcomerRow, ...],
) -> Html:
    """The page on which boards are let in, by their request or by their code.

    Args:
      frame: Around it.
      operator: Who may.
      admitted: Boards whose admission can be downloaded, newest first.
      newcomers: Who waits.
    """
    text = (
        "What the board wrote to enrolment-request.json. It is checked, the board gets "
        "a certificate, and the chain registers it."
    )
    field = element("textarea", "", name="request", required=True, rows=10, cols=80)
    label = element("label", "Request ", field)
    form = act(operator, "/act/admit", label, element("button", "Admit the board"))
    return page(
        frame,
        "/boards",
        "Admit a board",
        _waiting(operator, newcomers),
        card("From its request", element("p", text), form),
        _admissions(admitted),
        still=True,
    )


def _waiting(operator: OperatorFrame, newcomers: tuple[NewcomerRow, ...]) -> Html:
    """Newcomers with a token, each with a button to accept and one to reject."""
    if not newcomers:
        return Html("")
    rows = [
        (
            element("strong", row.code),
            element(
                "div",
                f"{row.kind} {row.name}",
                act(
                    operator,
                    "/act/enrol",
                    element("button", "Accept", name="accept", value="1"),
                    element(
                        "button", "Reject", name="accept", value="0", class_="second"
                    ),
                    code=row.code,
                ),
            ),
        )
        for row in newcomers
    ]
    told = element("p", "Accept only who shows the same code, on its own screen.")
    heads = ("code", "who")
    return card("Waiting with a token", told, table(heads, [*rows], "Newcomers"))


def _admissions(admitted: tuple[str, ...]) -> Html:
    if not admitted:
        return Html("")
    links = [
        element("p", link(f"/boards/{name}/admission", f"admission of {name}"))
        for name in admitted
    ]
    told = "Give each board its own: starling agent enrol --admission FILE"
    return card("Admitted since the console runs", element("p", told), *links)


def task_form(frame: PageFrame, operator: OperatorFrame, asked: TaskForm) -> Html:
    """The page on which a task is written down; its button shows the price."""
    if not asked.bundles:
        none = (
            "No bundle lies here yet. Put one into the folder bundles of the "
            "coordinator's home: starling compile model.onnx --out HOME/bundles/NAME"
        )
        body = element("p", none)
        return page(frame, "/tasks", "Publish a task", card("Bundle", body), still=True)
    options = [
        element("option", name, value=name, selected=name == asked.bundle)
        for name in asked.bundles
    ]
    form = act(
        operator,
        "/act/price",
        element("label", "Bundle ", element("select", *options, name="bundle")),
        element(
            "label",
            "Settings, as in task.toml ",
            element("textarea", whole(asked.text), name="task", rows=_ROWS, cols=80),
        ),
        element(
            "label",
            element(
                "input", type="checkbox", name="force", value="1", checked=asked.force
            ),
            " even if so few boards are admitted that no version would be made",
        ),
        element("button", "Show what it costs"),
    )
    return page(frame, "/tasks", "Publish a task", card("Task", form), still=True)


def price_page(
    frame: PageFrame, operator: OperatorFrame, asked: TaskForm, price: TaskPrice
) -> Html:
    """The page that says what a task costs in privacy, and then has the button."""
    hidden = {"bundle": asked.bundle, "digest": price.digest}
    if asked.force:
        hidden["force"] = "1"
    form = act(
        operator,
        "/act/publish",
        # The settings go along, since nothing of a draft is kept here.
        element("textarea", whole(asked.text), name="task", hidden=True),
        element("button", f"Publish {price.name}"),
        **hidden,
    )
    again = element("p", link("/publish", "Change it first"))
    lines = [element("p", line.strip()) for line in price.lines]
    title = f"Publish {price.name}"
    said = card("What it costs the boards' owners", *lines)
    return page(frame, "/tasks", title, said, form, again, still=True)
