"""The page as a PDF, printed by the Chromium or Chrome that the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from initstudy.store import StoreError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Milliseconds of the page's own clock within which it draws its charts.
DRAWN_WITHIN = 60_000
SECONDS = 300


def write(page: Path, out: Path) -> Path:
    """Prints a page.

    Args:
        page: The page, an HTML file.
        out: The PDF file to write.

    Raises:
        StoreError: There is no browser, or it fails.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise StoreError(f"--format pdf: needs Chromium or Chrome ({', '.join(BROWSERS)}) on PATH")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={profile}",
            f"--virtual-time-budget={DRAWN_WITHIN}",
            f"--print-to-pdf={out.resolve()}",
            page.resolve().as_uri(),
        ]
        if os.geteuid() == 0:
            # With its sandbox Chromium refuses to run as root; the page is our own file.
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"--format pdf: {browser} did not end in {SECONDS} s") from error
    if done.returncode or not out.exists():
        raise StoreError(f"--format pdf: {browser} failed: {done.stderr.strip()[-200:]}")
    return out
