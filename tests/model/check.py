"""Checks the model of consensus with spin, as `make model` does.

Each case is one bounded model: either no run breaks what it asserts, or, with a bug
planted, some run must. Needs `spin` and a C compiler; installs nothing.

Source: Holzmann, "The Model Checker SPIN", IEEE Transactions on Software Engineering
23(5), 1997.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("consensus.pml")
DEPTH_MAX = 200_000
MEMORY_MIB = 2048
ANY = "-DBOUND=99"
"""Says nothing of liveness: only agreement is asserted."""


@dataclass(frozen=True)
class Case:
    """One bounded model.

    Attributes:
      name: What is asked.
      options: Macros of the model.
      holds: Whether nothing may break; else some run must.
      quick: Whether `make test` runs it, too.
    """

    name: str
    options: tuple[str, ...]
    holds: bool
    quick: bool = True


CASES = (
    Case(
        "calm from the start: decided within 3 rounds",
        ("-DROUNDS=6", "-DBOUND=3"),
        holds=True,
    ),
    Case(
        "quorums are not passed on: the lending liar lets nothing be decided",
        ("-DROUNDS=16", "-DBOUND=16", "-DNO_GOSSIP"),
        holds=False,
    ),
    Case(
        "up to 1 lossy round, then calm: decided within 5 rounds",
        ("-DROUNDS=6", "-DBOUND=5", "-DCALM_MAX=1"),
        holds=True,
        quick=False,
    ),
    Case(
        "up to 2 lossy rounds, then calm: decided within 5 rounds",
        ("-DROUNDS=7", "-DBOUND=5", "-DCALM_MAX=2"),
        holds=True,
        quick=False,
    ),
    Case(
        "agreement in 3 lossy rounds",
        ("-DROUNDS=3", ANY, "-DCALM_MAX=3"),
        holds=True,
        quick=False,
    ),
    Case(
        "agreement breaks if line 22 ignores the lock",
        ("-DROUNDS=4", ANY, "-DCALM_MAX=4", "-DNO_LOCK"),
        holds=False,
    ),
    Case(
        "agreement breaks if line 28 believes the valid round",
        ("-DROUNDS=4", ANY, "-DCALM_MAX=4", "-DNO_PROOF"),
        holds=False,
    ),
    Case(
        "agreement breaks if two of four are a quorum",
        ("-DROUNDS=4", ANY, "-DCALM_MAX=4", "-DMAJORITY"),
        holds=False,
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What the search found.

    Attributes:
      holds: Whether no run broke an assertion.
      states: States that it kept.
    """

    holds: bool
    states: int


def missing() -> list[str]:
    """The programs that are not there."""
    return [name for name in ("spin", "gcc") if shutil.which(name) is None]


def check(case: Case) -> Verdict:
    """Searches all runs of a case.

    Raises:
      RuntimeError: If the search did not come to an end.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copy(MODEL, place / MODEL.name)
        _run(place, "spin", "-a", *case.options, MODEL.name)
        memory = f"-DMEMLIM={MEMORY_MIB}"
        _run(place, "gcc", "-O2", "-w", "-DSAFETY", memory, "-o", "pan", "pan.c")
        printed = _run(place, "./pan", f"-m{DEPTH_MAX}")
    if "max search depth too small" in printed or "out of memory" in printed:
        raise RuntimeError(f"{case.name}: the search is not whole\n{printed}")
    errors = int(printed.split("errors:")[1].split()[0])
    if errors and "assertion violated" not in printed:
        raise RuntimeError(f"{case.name}: another error\n{printed}")
    states = int(printed.split("states, stored")[0].split()[-1])
    return Verdict(not errors, states)


def _run(place: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False
    )
    # The verifier's status is 0 whatever it found.
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Checks all cases; the status is 1 if one is not as it should be."""
    lacking = missing()
    if lacking:
        sys.stderr.write(f"not found: {', '.join(lacking)} (apt install spin gcc)\n")
        return 1
    wrong = 0
    for case in CASES:
        began_s = time.monotonic()
        verdict = check(case)
        right = verdict.holds == case.holds
        wrong += not right
        found = "holds" if verdict.holds else "breaks"
        took_s = time.monotonic() - began_s
        sys.stdout.write(
            f"{'ok' if right else 'WRONG':6}{found:7}{verdict.states:10,} states "
            f"{took_s:6.1f} s  {case.name}\n"
        )
        sys.stdout.flush()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
