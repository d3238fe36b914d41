"""Four machines that share nothing but wires, for four parties that found a chain.

`west` and `east` are to have a broker. Each machine has a wire to both of them, and
knows them by their host names. Starling was installed by the commands of
docs/servers.md, on one machine, whose root folder the others' are copies of.
"""

import re
import shutil
import subprocess
from pathlib import Path

from tests.deploy.machines import machine_images
from tests.deploy.machines.deployed_fleet import commands
from tests.deploy.machines.nspawn_machine import NspawnMachine

PARTIES = ("west", "east", "north", "south")
HOSTS = ("west", "east")
DOMAIN = "example.org"
_WIRES = (("east", "west"), ("north", "west"), ("north", "east"), ("south", "west"))
_MORE_WIRES = (("south", "east"),)
_PAGE = machine_images.REPOSITORY / "docs" / "how-to" / "found-by-token.md"
_SERVERS = machine_images.REPOSITORY / "docs" / "servers.md"


def page_commands() -> list[list[str]]:
    """Commands of the page: the founder's, the second broker's, and of one without."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", _PAGE.read_text("utf-8"), re.M | re.S)
    return [block.splitlines() for block in blocks]


class FoundingMachines:
    """The machines, by name.

    Attributes:
      machines: All four.
    """

    def __init__(self, folder: Path) -> None:
        """Installs on one, copies it, boots all, and lays the wires."""
        self._folder = folder
        self.machines: dict[str, NspawnMachine] = {}
        installed = self._installed()
        for name in PARTIES:
            root = machine_images.copy(installed, folder / name)
            self.machines[name] = NspawnMachine(root, name)
        shutil.rmtree(installed)
        for host in HOSTS:
            self.machines[host].tell_host(f"{host}.{DOMAIN}", "127.0.1.1")
        for number, (one, other) in enumerate((*_WIRES, *_MORE_WIRES), 1):
            self._tell(one, other, f"10.78.{number}.1")
            self._tell(other, one, f"10.78.{number}.2")
        for machine in self.machines.values():
            machine.boot()
        for number, (one, other) in enumerate((*_WIRES, *_MORE_WIRES), 1):
            self._connect(one, other, number)

    def _installed(self) -> Path:
        root = machine_images.copy(
            machine_images.debian_with_mosquitto(), self._folder / "installed"
        )
        for wheel in machine_images.coordinator_wheels().glob("*.whl"):
            shutil.copy(wheel, root / "root")
        machine = NspawnMachine(root, "installed")
        machine.boot()
        offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/root; "
        try:
            for line in commands(_SERVERS, "## Install"):
                if "apt-get" not in line:  # there is no network; it is in the image
                    machine.shell(offline + line.replace("sudo ", "sudo -E ", 1))
        finally:
            machine.cut_power()
        # A copied machine that had another's id would be taken for it.
        (root / "etc/machine-id").write_text("")
        return root

    def _tell(self, whom: str, of: str, address: str) -> None:
        """Makes a machine know another that has a broker."""
        if of in HOSTS:
            self.machines[whom].tell_host(f"{of}.{DOMAIN}", address)

    def _connect(self, one: str, other: str, number: int) -> None:
        ends = f"stf{number}", f"stg{number}"
        pair = ["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]]
        subprocess.run(pair, check=True)
        self.machines[one].plug_in(ends[0], f"10.78.{number}.2/30")
        self.machines[other].plug_in(ends[1], f"10.78.{number}.1/30")

    def said(self, name: str) -> str:
        """What a party's `init` has printed so far."""
        out = self._out(name)
        return out.read_text() if out.exists() else ""

    def begin(self, name: str, line: str) -> subprocess.Popen[bytes]:
        """Starts a command in a machine, without waiting for its end."""
        return self.machines[name].begin(line, self._out(name))

    def _out(self, name: str) -> Path:
        return self._folder / f"{name}.out"

    def close(self) -> None:
        """Ends all machines; their folders are left to who made them."""
        for machine in self.machines.values():
            machine.cut_power()
