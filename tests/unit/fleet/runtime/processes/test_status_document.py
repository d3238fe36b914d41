"""A status is read whole or not at all, on machines that lack the compiler, too."""

import subprocess
import sys
from pathlib import Path

from starling.fleet.runtime.processes.status_document import read_status


def test_read_status_is_none_without_a_whole_document(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert read_status(path) is None
    path.write_text('{"state": "run')
    assert read_status(path) is None
    for other in ("[]", "[" * 100_000):
        path.write_text(other)
        assert read_status(path) is None
    path.write_text('{"state": "running"}')
    assert read_status(path) == {"state": "running"}


def test_reader_of_a_deployment_needs_no_compiler() -> None:
    program = (
        "import sys\n"
        "sys.modules['onnx'] = None\n"
        "import starling.fleet.runtime.deployment_reader\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
