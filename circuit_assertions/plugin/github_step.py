"""In a step of GitHub Actions: a summary on the page of the run, and annotations at lines of suites.

The summary is written where GITHUB_STEP_SUMMARY names a file, and annotations are printed where GITHUB_ACTIONS is
`true`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from circuit_assertions.files import append_text
from circuit_assertions.places import PACKAGED
from circuit_assertions.results import AssertionResult, AuditResult
from circuit_assertions.unexpected import text_of

__all__ = ["GitHubStep"]


@dataclass(frozen=True)
class GitHubStep:
    """Where this step shows what.

    Attributes:
        summary: the file of its summary; None where there is none.
        annotates: whether commands in the log are read.
        root: the checkout, from which annotations name files.
        start: the folder that suites are named from.
    """

    summary: Path | None
    annotates: bool
    root: Path
    start: Path

    @classmethod
    def of(cls, environment: Mapping[str, str], start: Path) -> GitHubStep:
        """The step that an environment describes."""
        summary = environment.get("GITHUB_STEP_SUMMARY")
        root = Path(environment.get("GITHUB_WORKSPACE") or start)
        return cls(Path(summary) if summary else None, environment.get("GITHUB_ACTIONS") == "true", root, start)

    @property
    def shows_anything(self) -> bool:
        """Whether there is anything to be told."""
        return self.summary is not None or self.annotates

    def tell(self, result: AuditResult, failing: Sequence[AssertionResult]) -> Iterator[str]:
        """Append the summary. Yields lines for the log: annotations, and what could not be written.

        Args:
            failing: the assertions that fail the gate.
        """
        for part in (self._annotations, self._appended):
            try:
                yield from part(result, failing)
            except Exception as error:  # the verdicts and the gate's line are yet to be printed
                yield f"what GitHub shows of the audit could not be made: {text_of(error)}"

    def _annotations(self, result: AuditResult, failing: Sequence[AssertionResult]) -> Iterator[str]:
        if self.annotates:
            from circuit_assertions.report.github import annotation_lines
            from circuit_assertions.report.verdict_sentence import worst_first

            yield from annotation_lines(worst_first(failing), self._path)

    def _appended(self, result: AuditResult, failing: Sequence[AssertionResult]) -> Iterator[str]:
        """Append the summary; the reason, where that is not possible."""
        if self.summary is None:
            return
        from circuit_assertions.report.markdown import MOST_BYTES, markdown

        there = self.summary.stat().st_size if self.summary.is_file() else 0
        if there >= MOST_BYTES // 2:
            yield f"{self.summary} is nearly full: no summary of the audit was added"
            return
        append_text(self.summary, markdown(result, MOST_BYTES - there))

    def _path(self, suite: str) -> str:
        if suite.startswith(PACKAGED):
            return ""
        file, root = (self.start / suite).resolve(), self.root.resolve()
        return file.relative_to(root).as_posix() if file.is_relative_to(root) else ""
