"""The terminal view of a running fleet, and the line per version where there is none.

Pure: from a `RunSnapshot` to what `rich` prints.
"""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from starling.fleet.monitor.run_snapshot import (
    CRASH_ONLY,
    CoordinatorPoint,
    DevicePoint,
    RunEvent,
    RunHeading,
    RunSnapshot,
    bytes_text,
    clock_text,
    sparkline,
)
from starling.protocol.wire.message_bodies import DevicePhase

DEVICE_ROWS_MAX = 16
"""Larger fleets are shown by phase only."""
EVENTS_SHOWN = 6
_SPARK_WIDTH = 40
_BAR_WIDTH = 6
_NEARLY_SPENT = 0.9
_SIDE_WIDTH = 36
_BOARDS_WIDTH = 56
"""In which all that is known of a board stands in a row."""
_STATE_WIDTH = 8
_BRIEF = ("board", "state", "updates", "refused", "epsilon")
_BEHIND = 12
"""Blocks that fit between two looks at the status files."""
_PHASE_STYLES = {
    DevicePhase.INIT: "dim",
    DevicePhase.READY: "cyan",
    DevicePhase.TRAINING: "bold green",
    DevicePhase.SLEEPING: "blue",
    DevicePhase.DISCONNECTED: "yellow",
    DevicePhase.LOST: "bold red",
}


def render(heading: RunHeading, snapshot: RunSnapshot) -> RenderableType:
    """The whole view.

    Args:
      heading: What does not change.
      snapshot: Now.
    """
    sides = Table.grid(expand=True)
    sides.add_column(ratio=1)
    sides.add_column(width=_SIDE_WIDTH)
    right = Group(_chain(snapshot), _privacy(heading, snapshot), _refusals(snapshot))
    sides.add_row(_boards(heading, snapshot), right)
    parts: list[RenderableType] = [_learning(heading, snapshot), sides]
    if len(snapshot.coordinators) > 1:
        parts.append(_council(heading, snapshot))
    if snapshot.events:
        parts.append(_events(snapshot))
    return Group(*parts)


def _facts(rows: list[tuple[str, RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, value in rows:
        table.add_row(name, value)
    return table


def _learning(heading: RunHeading, snapshot: RunSnapshot) -> Panel:
    known = [p.accuracy for p in snapshot.versions if p.accuracy is not None]
    accuracy, losses = Text(), snapshot.losses
    if not known and losses:
        # Of numbers no accuracy is known.
        accuracy.append(f"{losses[-1]:7.4g}  ", style="bold green")
        accuracy.append(sparkline(losses, _SPARK_WIDTH), style="green")
        accuracy.append(f"  from {losses[0]:.4g}", style="dim")
    elif known:
        accuracy.append(f"{known[-1]:7.1%}  ", style="bold green")
        accuracy.append(sparkline(known, _SPARK_WIDTH), style="green")
        accuracy.append(f"  from {known[0]:.1%}", style="dim")
    else:
        accuracy.append("      -  waiting for the first evaluation", style="dim")
    pace = "none now" if snapshot.is_idle else f"{snapshot.updates_per_s:.1f}/s"
    rate = Text(f"{snapshot.accepted:4d} accepted, {pace}")
    rate.append(
        f"   up {bytes_text(snapshot.bytes_up)}, "
        f"down {bytes_text(snapshot.bytes_down)}",
        style="dim",
    )
    rows: list[tuple[str, RenderableType]] = [
        ("accuracy" if known or not losses else "loss", accuracy),
        ("version", _versions(heading, snapshot)),
        ("updates", rate),
    ]
    if snapshot.held_out is not None and snapshot.held_out.text:
        rows.append(("held out", Text(snapshot.held_out.text, style="bold red")))
    return Panel(
        _facts(rows),
        title=f"[bold]starling[/] · {heading.title}",
        title_align="left",
        border_style="green",
    )


def _versions(heading: RunHeading, snapshot: RunSnapshot) -> RenderableType:
    """The newest version, and the way to the last one if there is to be one."""
    gone = f"{clock_text(snapshot.time_s)} gone"
    if not heading.until_version:
        return Text(f"{snapshot.version:4d}  ", style="bold") + Text(gone, style="dim")
    versions = Table.grid(padding=(0, 1))
    versions.add_row(
        Text(f"{snapshot.version:4d} of {heading.until_version}", style="bold"),
        _bar(heading.until_version, snapshot.version, _SPARK_WIDTH, "green"),
        Text(f"{gone}, about ", style="dim")
        + Text(clock_text(snapshot.remaining_s(heading.until_version)), style="bold")
        + Text(" to go", style="dim"),
    )
    return versions


def _bar(total: float, done: float, width: int, colour: str) -> ProgressBar:
    return ProgressBar(
        total,
        min(total, done),
        width=width,
        complete_style=colour,
        finished_style=colour,
    )


def _boards(heading: RunHeading, snapshot: RunSnapshot) -> Panel:
    counts = Text("  ").join(
        Text(f"{count} {phase.name.lower()}", style=_PHASE_STYLES[phase])
        for phase, count in snapshot.phases()
    )
    if len(snapshot.devices) > DEVICE_ROWS_MAX:
        return Panel(counts, title="boards", title_align="left")
    return Panel(
        Group(_BoardTable(heading, snapshot.devices), counts),
        title="boards",
        title_align="left",
    )


class _BoardTable:
    """A row for each board; on a narrow terminal what matters most of it."""

    def __init__(self, heading: RunHeading, devices: Sequence[DevicePoint]) -> None:
        self._heading = heading
        self._devices = devices

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        brief = options.max_width < _BOARDS_WIDTH
        rows = [_board_row(self._heading, each, brief=brief) for each in self._devices]
        table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
        for name in rows[0] if rows else _BRIEF:
            right = name in {"model", "updates", "refused", "up"}
            # A long state gives way, so that all others stay whole.
            most = _STATE_WIDTH if brief and name == "state" else None
            table.add_column(
                name,
                justify="right" if right else "left",
                no_wrap=True,
                max_width=most,
            )
        for row in rows:
            table.add_row(*row.values())
        yield table


def _board_row(
    heading: RunHeading, device: DevicePoint, *, brief: bool
) -> dict[str, RenderableType]:
    """Cells by column."""
    refused = sum(device.refused.values())
    row: dict[str, RenderableType] = {
        "board": Text(device.id[: 6 if brief else 8], style="cyan"),
        "state": Text(device.phase.name.lower(), style=_PHASE_STYLES[device.phase]),
        "model": "-" if device.version is None else str(device.version),
        "updates": str(device.accepted),
        "refused": Text(str(refused), style="bold red" if refused else "dim"),
        "epsilon": _epsilon(heading, device, brief=brief),
        "up": bytes_text(device.bytes_up),
    }
    return {name: row[name] for name in _BRIEF} if brief else row


def _epsilon(
    heading: RunHeading, device: DevicePoint, *, brief: bool
) -> RenderableType:
    """Epsilon that a board's data have paid; where there is room, beside the cap."""
    if not heading.privacy:
        return Text("-", style="dim")
    cap = heading.privacy.epsilon_cap
    colour = "yellow" if device.epsilon > _NEARLY_SPENT * cap else "cyan"
    if brief:
        return Text(f"{device.epsilon:4.1f}", style=colour)
    epsilon = Table.grid(padding=(0, 1))
    bar = _bar(cap, device.epsilon, _BAR_WIDTH, colour)
    epsilon.add_row(f"{device.epsilon:4.1f}", bar)
    return epsilon


def _chain(snapshot: RunSnapshot) -> Panel:
    tips = (c.tip for c in snapshot.coordinators if c.height == snapshot.height)
    tip = next(tips, "")
    rows: list[tuple[str, RenderableType]] = [
        ("height", Text(str(snapshot.height), style="bold")),
        ("tip", tip[:12] or "-"),
        ("validators", str(len(snapshot.coordinators))),
    ]
    if snapshot.finality_s is not None:
        rows.append(("finality", f"{1000 * snapshot.finality_s:.0f} ms"))
    if snapshot.restarts:
        restarted = Text(str(snapshot.restarts), style="yellow")
        rows.append(("restarted", restarted))
    return Panel(_facts(rows), title="chain", title_align="left")


def _council(heading: RunHeading, snapshot: RunSnapshot) -> Panel:
    """Rows of the coordinators: position and problems."""
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "coordinator", "height", "round", "signed", "hears"):
        right = name in {"height", "round"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_column("what is the matter", ratio=1, no_wrap=True)
    others = len(snapshot.coordinators) - 1
    for point in snapshot.coordinators:
        # Who is down or cut off still says what it last knew.
        hears = "-" if point.down else f"{len(point.hears)} of {others}"
        table.add_row(
            str(point.number),
            Text(point.id[:8], style="cyan"),
            str(point.height),
            Text(str(point.round), style="yellow" if point.round else "dim"),
            Text("yes", style="green") if point.signed else Text("no", style="yellow"),
            Text(hears, style="" if len(point.hears) == others else "yellow"),
            _matter(snapshot, point),
        )
    rows: list[RenderableType] = [table]
    paused = snapshot.paused
    if paused is not None:
        lasts_s = snapshot.time_s - paused.from_s
        words = f"finality pauses since {paused.since}, {lasts_s:.0f} s: {paused.why}"
        rows.append(Text(words, style="bold red"))
    decide = f"{snapshot.quorum} of {len(snapshot.coordinators)} decide"
    if heading.crash_only:
        decide += f" · [bold red]{CRASH_ONLY}[/]"
    return Panel(Group(*rows), title=f"coordinators · {decide}", title_align="left")


def _matter(snapshot: RunSnapshot, point: CoordinatorPoint) -> Text:
    """Problems of a coordinator by its peers, and its faults by the timeline."""
    name = f"coordinator {point.number}"
    fellows = [other for other in snapshot.coordinators if other is not point]
    outvoted = any(name in other.named for other in fellows)
    proven = {what for other in fellows for who, what in other.convicted if who == name}
    behind = snapshot.height - point.height
    words = [
        ("down", "bold red") if point.down else ("", ""),
        (f"{behind} blocks behind", "yellow") if behind > _BEHIND else ("", ""),
        (point.silence, "yellow"),
        ("was outvoted on a model", "bold red") if outvoted else ("", ""),
        (f"convicted: {', '.join(sorted(proven))}" if proven else "", "bold red"),
        (f"({point.ordered})" if point.ordered else "", "dim"),
    ]
    return Text("  ").join(Text(text, style=style) for text, style in words if text)


def _privacy(heading: RunHeading, snapshot: RunSnapshot) -> Panel:
    terms = heading.privacy
    if terms is None:
        body: RenderableType = Text("none: updates are not noised", style="yellow")
        return Panel(body, title="privacy", title_align="left")
    spent = Text(f"{snapshot.epsilon_max:.2f}", style="bold")
    spent.append(f" of {terms.epsilon_cap:g} at most", style="dim")
    rows: list[tuple[str, RenderableType]] = [
        ("epsilon", spent),
        ("delta", terms.delta_text),
        ("unit", terms.unit),
        ("adjacency", terms.adjacency),
        ("noise", terms.noise_text),
    ]
    return Panel(_facts(rows), title="privacy", title_align="left")


def _refusals(snapshot: RunSnapshot) -> Panel:
    rows = [
        (reason.lower().replace("_", " "), Text(str(count), style="red"))
        for reason, count in snapshot.refusals()
    ]
    body: RenderableType = _facts([*rows]) if rows else Text("none", style="dim")
    return Panel(body, title="refused", title_align="left")


def _events(snapshot: RunSnapshot) -> Panel:
    shown = [
        Text(event_line(event), style="yellow", no_wrap=True, overflow="ellipsis")
        for event in snapshot.events[-EVENTS_SHOWN:]
    ]
    return Panel(Group(*shown), title="what happened", title_align="left")


def event_line(event: RunEvent) -> str:
    """One line for something that happened."""
    return f"{clock_text(event.time_s):>5}  {event.text}"


def _goodness(snapshot: RunSnapshot) -> str:
    """Accuracy, or the loss where none is known."""
    if snapshot.accuracy is not None:
        return f"accuracy {snapshot.accuracy:6.1%}"
    losses = snapshot.losses
    return f"loss {losses[-1]:10.4g}" if losses else f"accuracy {'-':>6}"


def line(heading: RunHeading, snapshot: RunSnapshot) -> str:
    """One line that reads well in a log."""
    newest = snapshot.versions[-1] if snapshot.versions else None
    staleness = newest.staleness_mean if newest else None
    parts = [
        f"{clock_text(snapshot.time_s):>5}",
        f"version {snapshot.version:3d}/{heading.until_version}",
        _goodness(snapshot),
        f"updates {snapshot.accepted:4d} ({snapshot.updates_per_s:.1f}/s)",
        f"staleness {'-':>4}" if staleness is None else f"staleness {staleness:4.2f}",
    ]
    if heading.privacy:
        cap = heading.privacy.epsilon_cap
        parts.append(f"epsilon {snapshot.epsilon_max:5.2f} of {cap:g}")
    parts.append(f"height {snapshot.height:4d}")
    parts.append(f"up {bytes_text(snapshot.bytes_up)}")
    if heading.crash_only:
        parts.append("CRASH-ONLY")
    down = [str(point.number) for point in snapshot.coordinators if point.down]
    if down:
        parts.append(f"down {' '.join(down)}")
    if snapshot.paused is not None:
        parts.append(f"NOT FINAL since {snapshot.paused.since}")
    held_out = snapshot.held_out
    if held_out is not None and held_out.text:
        word = "PAUSED" if held_out.paused else "WORSE"
        parts.append(
            f"{word}: loss {held_out.newest_loss:.4g}, best {held_out.best_loss:.4g}"
        )
    refused = sum(count for _, count in snapshot.refusals())
    if refused:
        parts.append(f"refused {refused}")
    if snapshot.restarts:
        parts.append(f"restarted {snapshot.restarts}")
    return "  ".join(parts)
