"""Headless Chromium, driven through ChromeDriver: the W3C WebDriver protocol is JSON over plain HTTP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.programs import require_program
from tests.support.timing import PATIENCE, wait_until

# Root has no sandbox, a test has no screen, and a browser that looks for updates looks at other hosts.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
]

# The key under which WebDriver names an element.
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One browser session.  A window is named by its handle; commands go to the one switched to."""

    def __init__(self, driver: str, profile: Path, binary: str) -> None:
        self.base = driver
        options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self.command("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.base = f"{driver}/session/{answer['sessionId']}"

    def command(self, method: str, path: str, data: object = None) -> Any:
        """One WebDriver command; gives its value.

        Raises:
            AssertionError: the driver refused it; the text is its own.
        """
        body = json.dumps({} if data is None else data).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=6 * PATIENCE) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            with error:
                value = json.load(error)["value"]
            raise AssertionError(f"{method} {path}: {value['error']}: {value['message']}") from None

    def open(self, url: str) -> None:
        self.command("POST", "/url", {"url": url})

    def window(self) -> str:
        return str(self.command("GET", "/window"))

    def new_window(self) -> str:
        return str(self.command("POST", "/window/new", {"type": "window"})["handle"])

    def close_window(self) -> None:
        """Close the window; switch to another one before the next command."""
        self.command("DELETE", "/window")

    def switch_to(self, handle: str) -> None:
        self.command("POST", "/window", {"handle": handle})

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script as a function's body; gives what it returns."""
        return self.command("POST", "/execute/sync", {"script": script, "args": arguments})

    def text(self, selector: str) -> str:
        """What a person reads in the first element that `selector` names; a field's value."""
        found = self.run(
            "const e = document.querySelector(arguments[0]); return e && (e.value ?? e.innerText)", selector
        )
        assert found is not None, f"{selector} is not on the page"
        return str(found)

    def _element(self, selector: str) -> str:
        answer = self.command("POST", "/element", {"using": "css selector", "value": selector})
        return str(answer[_ELEMENT])

    def click(self, selector: str) -> None:
        self.command("POST", f"/element/{self._element(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        """Replace what is in a field, by keys, as a person would."""
        element = self._element(selector)
        self.command("POST", f"/element/{element}/clear")
        self.command("POST", f"/element/{element}/value", {"text": text})

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a <select>."""
        self.click(f'{selector} option[value="{value}"]')

    def drag(self, selector: str, start: tuple[int, int], *path: tuple[int, int]) -> None:
        """Press, move and release the mouse; points are counted from the middle of the element."""
        origin = {_ELEMENT: self._element(selector)}
        move = {"type": "pointerMove", "origin": origin, "duration": 20}
        actions: list[dict[str, object]] = [
            {**move, "x": start[0], "y": start[1]},
            {"type": "pointerDown", "button": 0},
            *({**move, "x": x, "y": y} for x, y in path),
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self.command("POST", "/actions", {"actions": [mouse]})

    def complaints(self) -> list[str]:
        """Warnings and errors in the browser's log since the last look: script errors, CSP violations, failed loads."""
        log = self.command("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def wait_for(self, selector: str, pattern: str) -> str:
        """Wait until the text of an element matches `pattern`; gives the text."""
        wait_until(lambda: re.search(pattern, self.text(selector)), what=f"{selector} shows {pattern}")
        return self.text(selector)


@contextmanager
def browser(folder: Path, authority: Path | None = None) -> Iterator[Browser]:
    """A new browser with an empty profile in `folder`; both programs are gone afterwards.

    Args:
        authority: The certificate, in PEM, of one that it trusts beside those it knows.
    """
    environment = {**os.environ, "HOME": str(folder)}
    if authority is not None:
        trust(folder, authority)
    binary = require_program("chromium", package="chromium")
    driver = require_program("chromedriver", package="chromium-driver")
    log = folder / "chromedriver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [driver, "--port=0"], stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment
        )
    try:
        wait_until(lambda: _port(log), what="ChromeDriver is up")
        session = Browser(f"http://127.0.0.1:{_port(log)}", folder / "profile", binary)
        try:
            yield session
        finally:
            session.command("DELETE", "")
    finally:
        process.terminate()
        process.wait(PATIENCE)


def trust(home: Path, authority: Path) -> None:
    """Note an authority where Chromium looks for those of its user: in NSS's database."""
    certutil = require_program("certutil", package="libnss3-tools")
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for command in (["-N", "--empty-password"], ["-A", "-n", "the tests' own", "-t", "C,,", "-i", str(authority)]):
        subprocess.run([certutil, "-d", f"sql:{database}", *command], check=True, timeout=PATIENCE, cwd=home)


def _port(log: Path) -> str:
    """The port that ChromeDriver says it has; empty until then."""
    found = re.search(r"started successfully on port (\d+)", log.read_text(errors="replace"))
    return found[1] if found else ""
