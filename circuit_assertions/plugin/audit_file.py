"""`--circuit-json=FILE`: the result of the audit as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_assertions.files import write_whole
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.terminal import TerminalPlugin
from circuit_assertions.printable import printable
from circuit_assertions.results import AuditResult, DiagnosisResult
from circuit_assertions.results.audit import GateVerdict

__all__ = ["audit_file", "write_audit"]


def audit_file(audited: SessionAudit) -> Path | None:
    """The file that the result goes to; None where none was asked for.

    Raises:
        pytest.UsageError: if there can be no such file.
    """
    given = audited.options.json
    if given is None:
        return None
    file = audited.config.invocation_params.dir / given
    if file.is_dir() or not file.parent.is_dir():
        raise pytest.UsageError(
            printable(f"--circuit-json={given} cannot be written: give the name of a file in an existing folder")
        )
    return file


def write_audit(
    file: Path,
    audited: SessionAudit,
    telling: TerminalPlugin,
    gate: GateVerdict,
    diagnoses: tuple[DiagnosisResult, ...],
) -> None:
    """Write the result of the audit, whole or not at all.

    Raises:
        NotWrittenError: if that is not possible.
    """
    judged = {line.model for line in telling.lines}
    result = AuditResult(
        baseline=None if audited.baseline is None else str(audited.baseline),
        corrupted=None if audited.corrupted is None else str(audited.corrupted),
        runs=tuple(tuple(map(str, run)) for run in audited.runs),
        models=tuple(model for model in telling.models if model.model in judged or model.refused),
        assertions=tuple(telling.lines),
        diagnoses=diagnoses,
        gate=gate,
    )
    write_whole(file, result.to_json() + "\n")
