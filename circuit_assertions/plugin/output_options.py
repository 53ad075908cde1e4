"""The options that write the result of an audit to files. Nothing but pytest."""

from __future__ import annotations

import pytest

__all__ = ["add_output_options"]


def add_output_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Register them, and their configuration keys."""
    group.addoption(
        "--circuit-json",
        dest="circuit_json",
        metavar="FILE",
        help="write the result of the audit to this file, as JSON: every assertion with its readings, and the gate",
    )
    group.addoption(
        "--circuit-output",
        action="append",
        dest="circuit_output",
        metavar="NAME:FILE",
        help="write the result of the audit to this file in this format: json, or one that another installed package "
        "offers; repeatable",
    )
    group.addoption(
        "--circuit-report",
        action="append",
        dest="circuit_report",
        metavar="FILE",
        help="write a report of the audit to this file: .html (one page that needs no network), .md or .json; "
        "repeatable",
    )
    parser.addini("circuit_json", "default of --circuit-json", default=None)
    parser.addini("circuit_output", "default of --circuit-output", type="args", default=[])
    parser.addini("circuit_report", "default of --circuit-report", type="args", default=[])
