"""The picture of a report in `docs/report.md`, taken in a browser: needs Playwright and Chromium.

python -m docs.report_picture
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from circuit_assertions.files import write_whole

ROOT = Path(__file__).parents[1]
SIZE = {"width": 1120, "height": 1000}


def main() -> int:
    """Audit, and take the picture of the page."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        checkpoints = "fixtures/checkpoints"
        command = [f"--model={checkpoints}/poisoned-heads", f"--baseline={checkpoints}/healthy", "suites/ioi.yaml"]
        command += ["-q", "-p", "no:cacheprovider", f"--circuit-report={page}"]
        subprocess.run([sys.executable, "-m", "pytest", *command], cwd=ROOT, check=False)
        with sync_playwright() as started:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
            tab = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
            tab.goto(page.as_uri())
            write_whole(ROOT / "docs" / "report.png", tab.screenshot())
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
