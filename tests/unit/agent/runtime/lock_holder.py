"""A process that holds the lock of a home, as an agent does, and can be halted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from starling.agent.runtime.storage.agent_home import AgentHome

_CODE = (
    "import sys; from pathlib import Path; from starling.durable.locks import lock;"
    "held = lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def lock_holder(home: AgentHome) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", _CODE, str(home.state / "lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def halt(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
