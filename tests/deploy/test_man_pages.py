"""Manual pages: every verb and option stands there, and roff takes them as text."""

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

from starling.__main__ import COMMANDS
from starling.service.completion import words_of
from tests.deploy.packaging_scripts import packaging_script
from tests.reference_pages import command_parts

REQUESTS = {".TH", ".SH", ".SS", ".TP", ".PP", ".nf", ".fi"}


writer = packaging_script("man/man_pages.py")


@pytest.mark.parametrize("command", COMMANDS)
def test_page_has_every_verb_and_option_and_no_stray_request(command: str) -> None:
    parser = importlib.import_module(COMMANDS[command][0]).parser()
    shown = "".join(command_parts(command, parser, "x"))

    text = writer.page(command)

    plain = text.replace("\\-", "-")
    for words in words_of({command: parser}).values():
        for word in words:
            if word in shown:
                assert word in plain or word.upper() in plain, word
    started = {line.split(" ")[0] for line in text.splitlines() if line[:1] in ".'"}
    assert started <= REQUESTS


def test_text_that_roff_would_take_for_its_own_is_escaped() -> None:
    said = ".so /etc/passwd\n'ab\na\\fBb --c"

    assert writer.escaped(said) == "\\&.so /etc/passwd\n\\&'ab\na\\efBb \\-\\-c"


def test_pages_are_well_formed(tmp_path: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed: apt-get install groff-base")
    for path in writer.write(tmp_path, list(COMMANDS)):
        words = [groff, "-man", "-ww", "-z", "-Tutf8", path]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stderr == "", path.name


def test_overview_names_every_command() -> None:
    text = writer.overview().replace("\\-", "-")

    assert all(f"starling-{command}" in text for command in COMMANDS)
