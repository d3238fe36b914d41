"""`starling tune`: clip and rate of a fleet, by simulated fleets on public data."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from starling.fleet.plan_flags import add_plan_flags, pace_of, plan_of
from starling.protocol.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from starling.service.arguments import command

_EXAMPLES = """\
  starling tune --data digits --devices 20 --buffer 4 --until-version 60
  starling tune --data public.csv --target price --privacy none --json
  starling tune --data mnist --model head --front whitened --epsilon 2 --waves

Fifteen pairs of clip and rate run for a ninth of --until-version, the best five for a
third, the best to its end; held-out loss decides. Only data that are public
or the operator's own may be tuned on: a choice made on boards' data tells of them, and
no ledger is charged here.
"""


def main(argv: list[str]) -> int:
    """Looks for clip and rate.

    Returns:
      The exit status.

    Raises:
      FederationError: What the user must know.
    """
    options = parser().parse_args(argv)
    # Imported late, so that --help and usage errors are quick.
    from starling.fleet.runtime.terminal_screen import terminated_as_interrupted
    from starling.fleet.runtime.tuning_run import tuned
    from starling.fleet.successive_halving import not_finite

    plan = plan_of(options)
    try:
        with terminated_as_interrupted():
            trials = tuned(plan, pace_of(options), _say)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    best = trials[-1]
    flags = _flags(best.candidate, plan.privacy)
    if options.json:
        document = {
            "flags": flags,
            "best": asdict(best),
            "trials": [asdict(trial) for trial in trials],
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        words = " ".join(f"{flag} {value:.4g}" for flag, value in flags.items())
        sys.stdout.write(f"{words}\n")
    return EXIT_FAILED if not_finite(best.loss) else EXIT_DONE


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "tune",
        "Clip and rate of a fleet, by simulated fleets on public data.",
        _EXAMPLES,
        "0 done, 1 every candidate diverged, 2 usage, 78 configuration, "
        "130 interrupted",
    )
    add_plan_flags(made)
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def _flags(candidate: Any, privacy: str) -> dict[str, float]:  # noqa: ANN401 - its module is imported late
    """The candidate as flags of `starling fleet run`."""
    if privacy == "none":
        return {"--local-learning-rate": candidate.rate}
    return {"--clip": candidate.clip, "--learning-rate": candidate.rate}


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
