"""The limits of a confined process, where the system has set lower ones."""

import subprocess
import sys

CONFINED = """
import resource
from starling.sandbox import confinement
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
    resource.setrlimit(limit, (40, 40))
resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29))
confinement.limit_memory(1 << 12)
confinement.enter([])
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA):
    print(*resource.getrlimit(limit))
"""


def test_limits_that_are_lower_already_stay() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFINED], capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert done.stdout.split() == ["40", "40", "40", "40", f"{1 << 29}", f"{1 << 29}"]
