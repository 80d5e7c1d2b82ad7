"""How large and how fast the report's page is, for 42 runs and for 4,200.

    python experiments/report_page.py

Writes made-up studies (100 standard deviations, 42 seeds, four layers, 40 rows per run), draws
their pages, opens each in Chromium without a network, and prints a table.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from initstudy import store
from initstudy.report import write

LAYERS = ("fc1", "fc2", "fc3", "head")
STEPS = range(0, 800, 20)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    rows = [measure(*grid) for grid in ((14, 3), (100, 42))]
    print("| runs | page | written in | first paint | every chart drawn |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['runs']:,} | {row['bytes'] / 1e6:.1f} MB | {row['written']:.1f} s "
            f"| {row['paint']:.2f} s | {row['drawn']:.1f} s |"
        )


def measure(values: int, seeds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), values, seeds)
        begun = time.perf_counter()
        page = write(folder, formats=["html"]).index
        written = time.perf_counter() - begun
        paint, drawn = opened(page)
        return {
            "runs": values * seeds,
            "bytes": page.stat().st_size,
            "written": written,
            "paint": paint,
            "drawn": drawn,
        }


def make(folder: Path, values: int, seeds: int) -> None:
    """Writes a store whose activations grow like a power of the standard deviation."""
    rng = np.random.default_rng(0)
    runs: list[dict] = []
    history: list[dict] = []
    for std in np.geomspace(0.001, 4, values):
        for seed in range(seeds):
            run = f"{len(runs):012x}"
            accuracy = float(np.clip(0.95 - 0.2 * abs(np.log10(std / 0.1)) ** 2, 0.1, 1))
            accuracy += 0.01 * rng.standard_normal()
            runs.append(
                {
                    "run": run,
                    "init._target_": "initstudy.initializers.Normal",
                    "init.std": std,
                    "seed": seed,
                    "model._target_": "initstudy.models.MLP",
                    "data.name": "digits",
                    "optimizer.name": "sgd",
                    "optimizer.lr": 0.02,
                    "batch_size": 32,
                    "train/loss": 2.3 * (1 - accuracy) + 0.01,
                    "test/loss": 2.4 * (1 - accuracy) + 0.01,
                    "test/accuracy": accuracy,
                    "diverged_step": None,
                    "diverged_layer": None,
                }
            )
            for step in STEPS:
                row = {"run": run, "step": step}
                row["train/loss"] = 2.3 * float(np.exp(-accuracy * step / 200)) + 0.01
                for depth, layer in enumerate(LAYERS):
                    row[f"activation/{layer}/rms"] = (std * 8) ** (depth + 1) * (1 + step / 800)
                    row[f"gradient/{layer}/rms"] = (std * 8) ** (4 - depth) * 1e-3
                    row[f"activation/{layer}/dead"] = min(1.0, std / 4)
                history.append(row)
    store.write_pack(folder, "p", runs, history)
    study = {"name": "made-up", "by": "init.std", "layers": {"MLP": list(LAYERS)}, "claims": {}}
    store.write_study(folder, study)


def opened(page: Path) -> tuple[float, float]:
    """The seconds until the first paint, and until every chart is drawn."""
    from playwright.sync_api import sync_playwright

    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        tab = chromium.new_context(offline=True).new_page()
        begun = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_function("() => window.drawn", timeout=120_000)
        tab.evaluate("() => window.drawn.then(() => null)")
        drawn = time.perf_counter() - begun
        paints = tab.evaluate(
            "performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)"
        )
        chromium.close()
    return paints[0] / 1000, drawn


if __name__ == "__main__":
    main()
