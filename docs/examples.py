"""The outputs in the pages are printed by the commands above them: `make docs` runs these and writes the outputs again.
`python -m docs.examples PAGE...` does so for some pages.

A page marks a block by a comment in front of it, which readers do not see:

    <!-- output of `circuit-assertions diagnose ...`, from `^verdict` to `^behaviour` -->

Without `from` and `to` the whole output is shown. Several pairs show several parts, with a line of dots between them:
each from the first line that fits `from` to the next that fits `to`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from circuit_assertions.files import write_whole

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "fixtures" / "README.md")
_CUT = re.compile(r", from `([^`]+)` to `([^`]+)`")
_MARKED = re.compile(r"<!-- output of `(?P<command>[^`]+)`(?P<cuts>(?:, from `[^`]+` to `[^`]+`)*) -->\n```text\n")
_NEEDED = ("fixtures", "suites")
_KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True)
class Example:
    """A marked block of a page.

    Attributes:
        cuts: the first and the last line of each part that is shown, as regular expressions; empty for all of it.
        shown: what the page shows.
    """

    page: Path
    command: str
    cuts: tuple[tuple[str, str], ...]
    shown: str

    def excerpt(self, output: str) -> str:
        """The parts of an output that the page is to show.

        Raises:
            ValueError: if the output has no such part.
        """
        parts = [_part(output.splitlines(), *cut) for cut in self.cuts] or [output.splitlines()]
        return "\n...\n".join("\n".join(line.rstrip() for line in part) for part in parts)


def _part(lines: list[str], first: str, last: str) -> list[str]:
    starts = [number for number, line in enumerate(lines) if re.search(first, line)]
    for start in starts:
        for end in range(start, len(lines)):
            if re.search(last, lines[end]):
                return lines[start : end + 1]
    raise ValueError(f"no lines from {first!r} to {last!r} in:\n" + "\n".join(lines))


def examples_of(page: Path) -> Iterator[Example]:
    """The marked blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _MARKED.finditer(text):
        shown = text[found.end() : text.index("\n```", found.end() - 1)]
        cuts = tuple((first, last) for first, last in _CUT.findall(found["cuts"]))
        yield Example(page, found["command"], cuts, shown.strip("\n"))


def output_of(command: str) -> str:
    """What a command prints on stdout, in a folder of its own that has the project's suites and checkpoints.

    Raises:
        ValueError: if it fails otherwise than by a verdict.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in _NEEDED:
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("made", "__pycache__"))
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=_a_readers_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1) or not done.stdout:
        raise ValueError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


_UNCACHED = {"CIRCUIT_ASSERTIONS_CACHE": "off"}  # each page shows a first run


def _a_readers_environment() -> dict[str, str]:
    """Few variables and no others: pytest prints other lines where CI, FORCE_COLOR and their like are set."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "CUDA_VISIBLE_DEVICES": "", **_UNCACHED}


def untimed(text: str) -> str:
    """The text without the time that pytest says it took."""
    return re.sub(r"=* ([^=\n]*) in [\d.]+s( \(.*\))? =*", r"\1", text)


def main(pages: Sequence[str]) -> None:
    """Write the marked blocks of these pages again, or of all."""
    outputs: dict[str, str] = {}
    for page in (Path(one).resolve() for one in pages) if pages else PAGES:
        for example in examples_of(page):
            if example.command not in outputs:
                print(f"{example.command} ...", file=sys.stderr)
                outputs[example.command] = output_of(example.command)
            text = page.read_text(encoding="utf-8")
            mark = next(
                found for found in _MARKED.finditer(text) if text[found.end() :].startswith(f"{example.shown}\n```")
            )
            now = example.excerpt(outputs[example.command])
            if untimed(now) == untimed(example.shown):
                now = example.shown
            write_whole(page, text[: mark.end()] + now + text[mark.end() + len(example.shown) :])
            print(f"{page.relative_to(ROOT)}: {'as it was' if now == example.shown else 'written'}")


if __name__ == "__main__":
    main(sys.argv[1:])
