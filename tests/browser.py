"""A real browser for tests of pages: Debian's chromium, without a window."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("chromium", "chromedriver")


def programs() -> tuple[str, str]:
    """Where the browser and its driver are; without them the test is skipped, or fails.

    It fails where `ITMC_REQUIRE_BROWSER` is 1.
    """
    found = [shutil.which(name) for name in _PROGRAMS]
    missing = [name for name, path in zip(_PROGRAMS, found, strict=True) if path is None]
    if missing:
        reason = f"no {' and no '.join(missing)}: no browser to open the page in"
        if os.environ.get("ITMC_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    browser, driver = found
    assert browser is not None and driver is not None
    return browser, driver


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """A browser, as selenium drives it, with a profile of its own; it ends with the block."""
    program, driver_program = programs()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    # A small /dev/shm, as in containers, would end the browser halfway.
    options.add_argument("--disable-dev-shm-usage")
    options.add_argument("--headless=new")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--window-size=1366,900")
    if os.geteuid() == 0:
        # The browser refuses to start its sandbox as root.
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With a driver at hand none is looked for on the network.
    service = webdriver.ChromeService(executable_path=driver_program)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, width: int, height: int) -> None:
    """Give the page a screen of so many pixels, narrower than a window could be."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def requests(driver: Any) -> list[str]:
    """The addresses that were asked for since the last call; `data:` is in the page itself."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    sent = (e["params"]["request"] for e in events if e["method"] == "Network.requestWillBeSent")
    return [request["url"] for request in sent if not request["url"].startswith("data:")]
