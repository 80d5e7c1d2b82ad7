"""The pictures of docs/report.md: the page, the terminal, the W&B workspace.

    python -m initstudy +sweep=std_grid probes=full name=pictures
    python experiments/screenshots.py runs/pictures

Writes docs/pictures/*.png. Needs Chromium and the package `pyte`, a terminal without a window.
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from initstudy.report.data.sources import read
from initstudy.report.pictures import with_palette
from initstudy.report.wandb import workspace
from initstudy.store.frames import prepare

OUT = Path("docs/pictures")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLUMNS, ROWS = 132, 36
STYLE = """
body { margin: 0; background: #14171a; color: #d6dbe0; padding: 16px; display: inline-block }
pre span { vertical-align: top; height: 1.25em }
pre { font: 14px/1.25 'DejaVu Sans Mono', Menlo, monospace; margin: 0 }"""
NAMED = {
    "black": "#14171a",
    "red": "#ff7b72",
    "green": "#57c777",
    "brown": "#e0c35c",
    "blue": "#7cb7ff",
    "magenta": "#d2a8ff",
    "cyan": "#76d9e6",
    "white": "#d6dbe0",
    "default": "",
}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sweep = Path(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for name, theme, width, height in (
            ("page", "light", 1280, 900),
            ("phone", "light", 390, 844),
            ("phone_dark", "dark", 390, 844),
        ):
            page(chromium, sweep / "report/index.html", OUT / f"{name}.png", theme, width, height)
        progress = terminal(
            [
                sys.executable,
                "-m",
                "initstudy",
                "+sweep=std_grid",
                "tracking=off",
                "name=pictures_of_progress",
            ],
            seconds=14,
            rows=4,
        )
        shot(chromium, progress, OUT / "progress.png")
        leet = Path(sys.executable).with_name("wandb")
        seen = terminal([str(leet.absolute()), "leet", "wandb"], seconds=8, where=sweep)
        shot(chromium, seen, OUT / "leet.png")
        shot(chromium, layout(sweep), OUT / "workspace.png")


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


def page(chromium: Any, file: Path, out: Path, theme: str, width: int, height: int) -> None:
    """A page: light from its top, dark with one value chosen at the end of training."""
    size = {"width": width, "height": height}
    tab = chromium.new_context(
        offline=True, viewport=size, color_scheme=theme, device_scale_factor=1.5
    ).new_page()
    tab.goto(file.resolve().as_uri())
    tab.wait_for_function("() => window.drawn")
    tab.evaluate("() => window.drawn.then(() => null)")
    if theme == "dark":
        tab.select_option("#by", index=8)
        tab.focus("#step")
        tab.keyboard.press("End")
        tab.evaluate("document.querySelector('.tools').scrollIntoView()")
        tab.wait_for_timeout(500)
        picture = tab.screenshot()
    else:
        tall = 2300 if width > 640 else 1900
        area = {"x": 0, "y": 0, "width": width, "height": tall}
        picture = tab.screenshot(full_page=True, clip=area)
    out.write_bytes(with_palette(picture))


def terminal(
    command: list[str], seconds: float, rows: int = ROWS, where: Path | None = None
) -> str:
    """Runs a command in a terminal; returns what the terminal shows after some seconds, as HTML.

    The command runs in an empty folder, or in the one that is given.
    """
    import pyte

    screen = pyte.Screen(COLUMNS, rows)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as folder:
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, COLUMNS, 0, 0))
        environment = os.environ | {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": os.getcwd(),
            "WANDB_ERROR_REPORTING": "false",
        }
        process = subprocess.Popen(
            command,
            cwd=where or folder,
            stdin=child,
            stdout=child,
            stderr=child,
            env=environment,
            close_fds=True,
            start_new_session=True,
        )
        os.close(child)
        until = time.monotonic() + seconds
        while time.monotonic() < until and process.poll() is None:
            if select.select([parent], [], [], 0.1)[0]:
                # There is nothing more to read once the command has ended.
                with suppress(OSError):
                    stream.feed(os.read(parent, 65536))
        # The processes that it has started end with it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(parent)
    if where is not None:
        shorten(screen, str(where.resolve()), str(where))
    lines = (screen.buffer[row] for row in range(rows))
    drawn = ["".join(cell(line[column]) for column in range(COLUMNS)) for line in lines]
    return f"<style>{STYLE}</style><pre>{chr(10).join(drawn).rstrip()}</pre>"


def shorten(screen: Any, path: str, shown: str) -> None:
    """Replaces an absolute path on the screen by the one that was given."""
    for row in range(screen.lines):
        line = screen.buffer[row]
        place = "".join(line[column].data for column in range(COLUMNS)).find(path)
        if place < 0:
            continue
        rest = [line[column] for column in range(place + len(path), COLUMNS)]
        moved = [*(line[place]._replace(data=c) for c in shown), *rest]
        blank = line[place]._replace(data=" ")
        for column in range(place, COLUMNS):
            line[column] = moved[column - place] if column - place < len(moved) else blank


def cell(char: Any) -> str:
    text = html.escape(char.data)
    colours = [
        f"color:{_colour(char.fg)}" if _colour(char.fg) else "",
        f"background:{_colour(char.bg)}" if _colour(char.bg) else "",
        "font-weight:bold" if char.bold else "",
        # Symbols from another font are a little wider than letters.
        "" if char.data.isascii() else "display:inline-block;width:1ch;overflow:hidden",
    ]
    style = ";".join(filter(None, colours))
    return f'<span style="{style}">{text}</span>' if style else text


def _colour(name: str) -> str:
    return NAMED.get(name.removeprefix("bright"), f"#{name}" if len(name) == 6 else "")


def layout(sweep: Path) -> str:
    """The sections and panels of the saved view, three in a row as W&B lays them out."""
    view = workspace.build(prepare(read(sweep)), "team", "initstudy")
    parts = [f"<h1>{html.escape(view.name)}</h1>"]
    for section in view.sections:
        panels = "".join(f"<div>{html.escape(_title(p))}</div>" for p in section.panels[:6])
        count = len(section.panels)
        note = f"{count} panels" + (", the first six shown" if count > 6 else "")
        parts.append(f"<h2>{section.name} <small>{note}</small></h2>")
        parts.append(f"<section>{panels}</section>")
    return f"""<style>
body {{ font: 15px system-ui, sans-serif; width: 1000px; padding: 20px; margin: 0 }}
h1 {{ font-size: 20px }} h2 {{ font-size: 16px; margin: 18px 0 8px }}
small {{ color: #666; font-weight: 400 }}
section {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px }}
div {{ border: 1px solid #cfd4d9; border-radius: 6px; padding: 22px 10px; text-align: center;
       background: #f7f8f9 }}
</style>{"".join(parts)}"""


def _title(panel: Any) -> str:
    return panel.title or type(panel).__name__


def shot(chromium: Any, content: str, out: Path) -> None:
    tab = chromium.new_context(device_scale_factor=1.5).new_page()
    tab.set_content(content)
    out.write_bytes(with_palette(tab.locator("body").screenshot()))


if __name__ == "__main__":
    main()
