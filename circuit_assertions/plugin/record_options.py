"""The options about records: what is kept of a run, what it is compared with, and a baseline that is a record."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from circuit_assertions.plugin.cache_options import add_cache_options, cache_folder
from circuit_assertions.plugin.option_values import from_root
from circuit_assertions.plugin.project_folders import RECORDS

__all__ = ["RecordOptions", "add_record_options", "read_record_options"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True)
class RecordOptions:
    """What the user chose about records.

    Attributes:
        save: the name that a record is given, empty for none; None where no record is written.
        prompts: how many prompts of each reading are recorded where their number grows; None for those that the
            verdicts needed, 0 for the whole budget.
        folder: where records are.
        compare: the record that this run is compared with at its end.
        baseline: the record that takes the place of the baseline.
        cache: where readings are kept for later runs; None where none are.
    """

    save: str | None = None
    prompts: int | None = None
    folder: Path = RECORDS
    redact: bool = False
    compare: str | None = None
    baseline: str | None = None
    cache: Path | None = None

    @property
    def wanted(self) -> bool:
        """Whether the readings of this run are kept."""
        return self.save is not None or self.compare is not None


def add_record_options(parser: pytest.Parser, group: pytest.OptionGroup) -> None:
    """Register the options."""
    group.addoption(
        "--circuit-save",
        nargs="?",
        const="",
        dest="circuit_save",
        metavar="NAME",
        help="write a record of this run, one file with every reading, verdict and setting, which later runs are "
        "compared with: `circuit-assertions list`, `show` and `compare`. With =NAME it can be called by that name.",
    )
    group.addoption(
        "--circuit-records",
        dest="circuit_records",
        metavar="FOLDER",
        help=f"the folder of records. Default: {RECORDS.as_posix()} below pytest's root",
    )
    group.addoption(
        "--circuit-redact",
        action="store_true",
        default=None,
        dest="circuit_redact",
        help="leave the texts of prompts and the folders of absolute paths out of records",
    )
    group.addoption(
        "--circuit-save-prompts",
        dest="circuit_save_prompts",
        metavar="N|all",
        help="record at least N prompts of each reading, or all of the budget, where the number of prompts grows: for "
        "a record that serves as a baseline. Default: as many as the verdicts needed",
    )
    group.addoption(
        "--circuit-compare",
        dest="circuit_compare",
        metavar="RUN",
        help="print at the end how this run differs from a record: its name, file, or `latest`",
    )
    group.addoption(
        "--circuit-baseline-record",
        dest="circuit_baseline_record",
        metavar="RUN",
        help="a record of the healthy checkpoint in place of --circuit-baseline: its readings are compared with, and "
        "its weights are not opened",
    )
    add_cache_options(parser, group)
    parser.addini("circuit_records", "default of --circuit-records", default=None)
    parser.addini("circuit_redact", "default of --circuit-redact", type="bool", default=False)
    parser.addini("circuit_baseline_record", "default of --circuit-baseline-record", default=None)


def read_record_options(config: pytest.Config) -> RecordOptions:
    """What the user chose.

    Raises:
        pytest.UsageError: if a value is none that the option takes.
    """
    redact = config.getoption("circuit_redact")
    given, configured = config.getoption("circuit_records"), config.getini("circuit_records")
    folder = config.invocation_params.dir / given if given else config.rootpath / str(configured or RECORDS)
    return RecordOptions(
        save=_name(config.getoption("circuit_save")),
        prompts=_prompts(config.getoption("circuit_save_prompts")),
        folder=Path(os.path.relpath(folder, config.invocation_params.dir)),
        redact=bool(config.getini("circuit_redact") if redact is None else redact),
        compare=config.getoption("circuit_compare"),
        baseline=config.getoption("circuit_baseline_record") or _baseline(config),
        cache=cache_folder(config),
    )


def _baseline(config: pytest.Config) -> str | None:
    """The record of the configuration file: a path there is meant from the root."""
    value = config.getini("circuit_baseline_record")
    if not value:
        return None
    return from_root(config, [str(value)])[0] if (config.rootpath / str(value)).exists() else str(value)


def _name(said: str | None) -> str | None:
    if said is None or said == "" or _NAME.fullmatch(said):
        return said
    raise pytest.UsageError(
        f"--circuit-save={said}: a record's name has up to 64 letters, digits and ._+-; write a test path in front of "
        f"--circuit-save, which takes what follows it for the name"
    )


def _prompts(said: str | None) -> int | None:
    if said is None:
        return None
    if said == "all":
        return 0
    if not said.isdecimal() or int(said) < 1:
        raise pytest.UsageError(f"--circuit-save-prompts={said}: give a number of prompts, or all")
    return int(said)
