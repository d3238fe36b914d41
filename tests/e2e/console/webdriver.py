"""A headless Chromium, driven over the WebDriver protocol by Debian's chromedriver.

Source: w3.org/TR/webdriver2, sections 10 to 17.
"""

import base64
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starling.broker.runtime.mosquitto_process import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
DEADLINE_S = 120.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._path = ""

    def begin(self, downloads: Path, *, dark: bool) -> None:
        words = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        words += ["--disable-dev-shm-usage", "--force-device-scale-factor=1"]
        if dark:
            words.append("--blink-settings=preferredColorScheme=0")
        options = {
            "binary": CHROMIUM,
            "args": words,
            "prefs": {"download.default_directory": str(downloads)},
        }
        asked = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"pageLoad": 100_000, "script": 100_000},
        }
        made = self._call("POST", "/session", capabilities={"alwaysMatch": asked})
        self._path = f"/session/{made['sessionId']}"

    def end(self) -> None:
        if self._path:
            self._call("DELETE", self._path)

    def open(self, url: str) -> None:
        self._call("POST", f"{self._path}/url", url=url)

    def run(self, script: str) -> Any:  # noqa: ANN401 - whatever the script returns
        return self._call("POST", f"{self._path}/execute/sync", script=script, args=[])

    def click(self, selector: str) -> None:
        self._call("POST", f"{self._path}/element/{self._find(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        place = f"{self._path}/element/{self._find(selector)}/value"
        self._call("POST", place, text=text)

    def fill(self, selector: str, text: str) -> None:
        """Puts a long text into a field at once."""
        where = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{where}.value = {json.dumps(text)}")

    def resize(self, width: int, height: int) -> None:
        """Makes pages so wide and high, also less than a window can be."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 1}
        self._command("Emulation.setDeviceMetricsOverride", **shape, mobile=False)

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def until(self, condition: str) -> None:
        """Waits until a script's expression is true, over new pages, too."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < deadline_s, f"{condition}: {self.text()}"
            time.sleep(0.1)

    def complaints(self) -> list[str]:
        """Warnings and errors of the pages so far; not what Chromium would advise."""
        rows = self._call("POST", f"{self._path}/se/log", type="browser")
        return [row["message"] for row in rows if row["level"] in ("WARNING", "SEVERE")]

    def picture(self, file: Path) -> None:
        """Writes the whole page as a PNG."""
        made = self._command(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True
        )
        file.write_bytes(base64.b64decode(made["data"]))

    def _command(self, name: str, **values: object) -> Any:  # noqa: ANN401 - JSON
        """A command of the browser's own protocol."""
        path = f"{self._path}/goog/cdp/execute"
        return self._call("POST", path, cmd=name, params=values)

    def _find(self, selector: str) -> str:
        made = self._call(
            "POST", f"{self._path}/element", using="css selector", value=selector
        )
        return str(made[_ELEMENT])

    def _call(self, method: str, path: str, **body: object) -> Any:  # noqa: ANN401 - JSON
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
        sent = json.dumps(body) if method == "POST" else None
        link.request(method, path, sent, {"Content-Type": "application/json"})
        answer = json.loads(link.getresponse().read())
        link.close()
        value = answer["value"]
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{path} {body}: {value['message']}")
        return value


@contextmanager
def browser(folder: Path, *, dark: bool = False) -> Iterator[Browser]:
    """A browser that writes what it downloads into `folder / "downloads"`."""
    assert CHROMEDRIVER is not None
    downloads = folder / "downloads"
    downloads.mkdir(exist_ok=True)
    port = free_port()
    with (folder / "chromedriver.log").open("w") as log:
        child = subprocess.Popen(
            [CHROMEDRIVER, f"--port={port}", "--allowed-ips=127.0.0.1"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert child.stdout is not None
        window = Browser(port)
        try:
            for line in child.stdout:
                if "started successfully" in line:
                    break
            window.begin(downloads, dark=dark)
            try:
                yield window
            finally:
                window.end()
        finally:
            child.terminate()
            child.wait(DEADLINE_S)
            child.stdout.close()
