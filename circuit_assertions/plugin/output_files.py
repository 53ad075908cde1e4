"""`--circuit-report=FILE`, `--circuit-output=NAME:FILE` and `--circuit-json=FILE`: the result of the audit as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from circuit_assertions.files import write_whole
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.terminal import TerminalPlugin
from circuit_assertions.printable import printable
from circuit_assertions.report.output import Output
from circuit_assertions.report.outputs import OutputError, output_named, report_for
from circuit_assertions.results import AuditResult, DiagnosisResult, PolicyUsed
from circuit_assertions.results.audit import GateVerdict
from circuit_assertions.results.circuit_shown import CircuitShown
from circuit_assertions.unexpected import text_of

__all__ = ["AskedOutput", "asked_outputs", "audit_result", "write_output"]


@dataclass(frozen=True)
class AskedOutput:
    """An output, and the file that it goes to.

    Attributes:
        as_report: whether `--circuit-report` asked for it.
    """

    output: Output
    file: Path
    as_report: bool = False

    @property
    def shows_circuits(self) -> bool:
        """Whether head effects and attention are to be read for it."""
        return self.as_report or self.output.shows_circuits


def asked_outputs(audited: SessionAudit) -> list[AskedOutput]:
    """The outputs that were asked for.

    Raises:
        pytest.UsageError: if there is no such output, or there can be no such file.
    """
    asked = [AskedOutput(_output(name, said), _file(audited, file, said)) for name, file, said in _said(audited)]
    asked += [_report(audited, file) for file in audited.options.reports]
    files = [one.file for one in asked]
    for one in asked:
        if files.count(one.file) > 1:
            raise pytest.UsageError(printable(f"two outputs go to {one.file}: give each its own file"))
    return asked


def _said(audited: SessionAudit) -> list[tuple[str, str, str]]:
    """Name and file of each output, and the option that asks for it."""
    options = audited.options
    said = [] if options.json is None else [("json", options.json, f"--circuit-json={options.json}")]
    for given in options.outputs:
        name, colon, file = given.partition(":")
        if not (name and colon and file):
            raise pytest.UsageError(
                printable(f"--circuit-output={given} does not name a file: write NAME:FILE, such as json:audit.json")
            )
        said.append((name, file, f"--circuit-output={given}"))
    return said


def _output(name: str, said: str) -> Output:
    try:
        return output_named(name)
    except OutputError as error:
        raise pytest.UsageError(printable(f"{said}: {error}")) from error


def _report(audited: SessionAudit, file: str) -> AskedOutput:
    said = f"--circuit-report={file}"
    try:
        return AskedOutput(report_for(file), _file(audited, file, said), as_report=True)
    except OutputError as error:
        raise pytest.UsageError(printable(f"{said}: {error}")) from error


def _file(audited: SessionAudit, given: str, said: str) -> Path:
    file = audited.config.invocation_params.dir / given
    if file.is_dir() or not file.parent.is_dir():
        raise pytest.UsageError(printable(f"{said} cannot be written: give the name of a file in an existing folder"))
    return file


def audit_result(
    audited: SessionAudit,
    telling: TerminalPlugin,
    gate: GateVerdict,
    diagnoses: tuple[DiagnosisResult, ...],
    circuits: tuple[CircuitShown, ...] = (),
) -> AuditResult:
    """The result of the session's audit."""
    judged = {line.model for line in telling.lines}
    return AuditResult(
        policy=PolicyUsed.of(audited.policy),
        baseline=None if audited.baseline is None else str(audited.baseline),
        corrupted=None if audited.corrupted is None else str(audited.corrupted),
        runs=tuple(tuple(map(str, run)) for run in audited.runs),
        models=tuple(model for model in telling.models if model.model in judged or model.refused),
        assertions=tuple(telling.lines),
        diagnoses=diagnoses,
        circuits=circuits,
        readings=telling.readings,
        gate=gate,
    )


def write_output(asked: AskedOutput, result: AuditResult) -> None:
    """Write an output, whole or not at all.

    Raises:
        OutputError: if the output of another package fails.
        NotWrittenError: if the file cannot be written.
    """
    try:
        text = asked.output.render(result)
    except Exception as error:  # another package's code may raise anything
        problem = f"the output {asked.output.name!r} could not be made ({text_of(error)}): {asked.file} was not written"
        raise OutputError(problem) from error
    write_whole(asked.file, text)
