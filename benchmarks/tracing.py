"""Attackers that `starling chain trace` names, and honest boards that it suspects.

`python -m benchmarks.tracing` runs virtual fleets in which a fifth of the boards attack
from the first version on, and traces the newest version of each, as an operator would:
from the chain, the kept vectors and held-out examples. `none` is a fleet without an
attacker. Sending no noise is honest where a task has none, and is left out there.

    python -m benchmarks.tracing                                   # digits, an hour
    python -m benchmarks.tracing --splits iid --privacy none       # 15 minutes
"""

import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness.attacked_fleet import attacked_plan, attackers_of, fleet_parser
from benchmarks.harness.result_file import keep
from starling.coordinator.cli.chain_command import parser as chain_parser
from starling.coordinator.cli.chain_trace import trace
from starling.fleet.attacks.attack_schedule import AttackKind
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.virtual_run import Pace, run_prepared
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.ids import device_name


@dataclass(frozen=True)
class Cell:
    """One traced fleet.

    Attributes:
      data: Name of the data set.
      split: How it was dealt out.
      privacy: `record` or `none`.
      attack: What a fifth of the boards did.
      seed: Of the fleet.
      attackers: How many there were.
      named: How many of them are suspects.
      honest: How many boards were honest.
      accused: How many of them are suspects.
      loss: Of the traced version, on held-out examples.
      loss_without: Of the version without the suspects; None without any.
    """

    data: str
    split: str
    privacy: str
    attack: str
    seed: int
    attackers: int
    named: int
    honest: int
    accused: int
    loss: float
    loss_without: float | None


def measure(data: str, split: str, privacy: str, attack: str, seed: int) -> Cell:
    """Runs a fleet and traces its newest version."""
    plan = replace(attacked_plan(data, split, privacy, attack), seed=seed)
    bad = attackers_of(plan)
    names: list[str] = []

    def watch(fleet: VirtualFleet) -> str:
        names[:] = [device_name(each) for each in fleet.identities]
        return ""

    material = prepare(plan)
    with tempfile.TemporaryDirectory() as folder:
        home, held_out = Path(folder) / "fleet", Path(folder) / "held_out.npz"
        run_prepared(material, Pace(), home=home, watch=watch)
        np.savez(held_out, x=material.data.held_out.x, y=material.data.held_out.y)
        words = ["trace", "--home", str(home / "coordinator"), "--data", str(held_out)]
        found, _ = trace(chain_parser().parse_args(words), lambda _height: None)
    suspects = {each["board"] for each in found["suspects"]}
    without = found["without_suspects"]
    return Cell(
        data,
        split,
        privacy,
        attack,
        seed,
        bad,
        len(suspects & set(names[:bad])),
        plan.devices - bad,
        len(suspects & set(names[bad:])),
        found["losses"]["harm"],
        without and without["harm"],
    )


def shown(cells: list[Cell]) -> Table:
    """The cells: attacks down, splits and privacy across."""
    table = Table(title="attackers named, honest boards accused")
    places = list(dict.fromkeys((cell.split, cell.privacy) for cell in cells))
    table.add_column("attack")
    for split, privacy in places:
        table.add_column(f"{split}, {privacy}", justify="right")
    for attack in dict.fromkeys(cell.attack for cell in cells):
        row = []
        for place in places:
            here = [
                cell
                for cell in cells
                if (cell.split, cell.privacy) == place and cell.attack == attack
            ]
            row.append(_text(here) if here else "")
        table.add_row(attack, *row)
    return table


def _text(cells: list[Cell]) -> str:
    named, attackers = (
        sum(each.named for each in cells),
        sum(each.attackers for each in cells),
    )
    accused, honest = (
        sum(each.accused for each in cells),
        sum(each.honest for each in cells),
    )
    return f"{named} of {attackers}, {accused} of {honest}"


def main(argv: list[str]) -> int:
    """Prints the table and writes the results."""
    options = fleet_parser("benchmarks.tracing").parse_args(argv)
    cells = [
        measure(options.data, split, privacy, attack, seed)
        for split in options.splits
        for privacy in options.privacy
        for attack in options.attacks
        for seed in range(1, options.seeds + 1)
        if privacy != "none" or attack != AttackKind.NO_NOISE.value
    ]
    console = Console()
    console.print(shown(cells))
    named, attackers = sum(c.named for c in cells), sum(c.attackers for c in cells)
    accused, honest = sum(c.accused for c in cells), sum(c.honest for c in cells)
    console.print(
        f"named {named / max(attackers, 1):.1%} (goal 95 %), "
        f"accused {accused / honest:.2%} (goal 1 %)"
    )
    keep("tracing", [asdict(cell) for cell in cells])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
