"""Command-line options, each with a configuration key of the same name. No torch, no YAML, nothing but pytest.

All of them begin with `--circuit-`, and their keys with `circuit_`. `plain` has the short spellings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from circuit_assertions.plugin.option_values import (
    from_root,
    path_from_file,
    path_in_root,
    policy_from_file,
    said_confidence,
)
from circuit_assertions.plugin.output_options import add_output_options
from circuit_assertions.plugin.record_options import RecordOptions, add_record_options, read_record_options
from circuit_assertions.plugin.short_options import PLAIN, spelled
from circuit_assertions.verdict_words import Outcome, Overall

__all__ = ["Options", "add_options", "chosen_models", "read_options"]

_DTYPES = ("float32", "bfloat16", "float16", "float64")
_REPORT_OR_FAIL = ("report", "fail")
_EFFECTS = {
    "unresolved": f"an {Outcome.UNRESOLVED} verdict",
    "skipped": "an assertion that was skipped",
    "degraded": f"a diagnosis of {Overall.DEGRADED} or {Overall.CORRUPTED}",
}


@dataclass(frozen=True)
class Options:
    """What the user chose, command line before configuration before default."""

    models: tuple[str, ...]
    baseline: str | None
    corrupted: str | None
    tokenizer: str | None
    device: str
    dtype: str
    allow_pickle: bool
    trust_remote_code: bool
    unresolved: str
    skipped: str
    degraded: str
    policy: str
    calibration: str | None
    discover: bool
    diagnosis: bool
    suites: tuple[str, ...]
    confidence: float | None = None  # None: the default of what judges
    json: str | None = None
    outputs: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    records: RecordOptions = field(default_factory=RecordOptions)
    spelling: Mapping[str, str] = field(default_factory=dict)

    def spelled(self, short: str) -> str:
        """`--model`, or `--circuit-model` where another plugin or a conftest.py has an option `--model`."""
        return self.spelling.get(short, short)

    def respelled(self, text: str) -> str:
        """A message with the options in it spelled as they work in this run."""
        for short, full in self.spelling.items():
            text = re.sub(rf"(?<![\w-]){short}(?![\w-])", full, text)
        return text

    @property
    def spelled_out(self) -> list[str]:
        """The options of an audit of one model, as arguments; defaults are left out."""
        said = [("--baseline", self.baseline), ("--corrupted", self.corrupted), ("--tokenizer", self.tokenizer)]
        said += [("--model-device", self.device if self.device != "auto" else None)]
        said += [("--model-dtype", self.dtype if self.dtype != "float32" else None)]
        said += [("--policy", self.policy if self.policy != "default" else None)]
        said += [("--circuit-calibration", self.calibration), ("--baseline-record", self.records.baseline)]
        said += [("--circuit-unresolved", self.unresolved if self.unresolved != "report" else None)]
        said += [("--circuit-skipped", self.skipped if self.skipped != "report" else None)]
        said += [("--circuit-confidence", f"{self.confidence:g}" if self.confidence is not None else None)]
        flags = [
            ("--discover", self.discover),
            ("--allow-pickle", self.allow_pickle),
            ("--trust-remote-code", self.trust_remote_code),
        ]
        values = [f"{self.spelled(name)}={value}" for name, value in said if value]
        return values + [self.spelled(name) for name, given in flags if given]


def add_options(parser: pytest.Parser) -> None:
    """Register the options."""
    group = parser.getgroup("circuit", "circuit assertions: regression tests for the mechanisms inside language models")
    _add_model_options(group)
    _add_circuit_options(group)
    add_output_options(parser, group)
    _add_permissions(group)
    add_record_options(parser, group)
    parser.addini("circuit_model", "default of --circuit-model", default=None)
    parser.addini("circuit_baseline", "default of --circuit-baseline", default=None)
    parser.addini("circuit_corrupted", "default of --circuit-corrupted", default=None)
    parser.addini("circuit_tokenizer", "default of --circuit-tokenizer", default=None)
    parser.addini("circuit_device", "default of --circuit-device", default="auto")
    parser.addini("circuit_dtype", "default of --circuit-dtype", default="float32")
    parser.addini("circuit_policy", "default of --circuit-policy", default="default")
    parser.addini("circuit_calibration", "default of --circuit-calibration", default=None)
    parser.addini("circuit_suites", "default of --circuit-suites", type="args", default=[])
    parser.addini(
        "circuit_diagnosis", "whether a diagnosis is made; see --circuit-no-diagnosis", type="bool", default=True
    )
    parser.addini("circuit_discover", "default of --circuit-discover", type="bool", default=False)
    parser.addini("circuit_confidence", "default of --circuit-confidence", default=None)
    for name in _EFFECTS:
        parser.addini(f"circuit_{name}", f"default of --circuit-{name}", default="report")


def _add_model_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--circuit-model",
        action="append",
        dest="circuit_model",
        metavar="PATH",
        help="the checkpoint to audit: a folder, a GGUF file, a PEFT adapter, a training run with checkpoint-N/ "
        "folders, or a hub id (org/name@revision). Repeatable. Without it the plugin does nothing. Short form: "
        "--model. The other options have short forms too (--baseline, --discover, ...), unless a conftest.py or "
        "another plugin has an option of that name.",
    )
    group.addoption(
        "--circuit-baseline",
        dest="circuit_baseline",
        metavar="PATH",
        help="the healthy checkpoint that the model is compared with",
    )
    group.addoption(
        "--circuit-corrupted",
        dest="circuit_corrupted",
        metavar="PATH",
        help="a known-bad checkpoint between baseline and model; recovery is measured from it",
    )
    group.addoption(
        "--circuit-tokenizer",
        dest="circuit_tokenizer",
        metavar="PATH",
        help="take the tokenizer from here instead of from the checkpoint",
    )
    group.addoption(
        "--circuit-device",
        dest="circuit_device",
        metavar="DEVICE",
        help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N, all (every GPU together) or mps. Default: auto",
    )
    group.addoption(
        "--circuit-dtype",
        dest="circuit_dtype",
        metavar="DTYPE",
        help=f"{', '.join(_DTYPES)}: dtype of the weights in memory. Default: float32, recommended for gates",
    )
    group.addoption(
        "--circuit-calibration",
        dest="circuit_calibration",
        metavar="FILE",
        help="tolerances of `circuit-assertions calibrate`, for comparisons with readings of another dtype or device, "
        "which are refused without it",
    )


def _add_circuit_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--circuit-suites",
        action="append",
        dest="circuit_suites",
        metavar="PATH",
        help="suites to run if no test path is given. Default: suites/, else the packaged suites",
    )
    group.addoption(
        "--circuit-no-diagnosis",
        action="store_false",
        default=None,
        dest="circuit_diagnosis",
        help="with --circuit-baseline, do not run the diagnosis (what broke, and its origin), which takes longer "
        "than the verdicts",
    )
    group.addoption(
        "--circuit-discover",
        action="store_true",
        default=None,
        dest="circuit_discover",
        help="if no circuit file fits this lineage, find on the baseline which heads have which role, and test the "
        "model on those heads. `circuit-assertions discover` writes them to a file, which makes the next run faster.",
    )
    group.addoption(
        "--circuit-confidence",
        dest="circuit_confidence",
        metavar="SHARE",
        help="how sure a run must be: the chance that a checkpoint of which everything holds breaks no assertion of a "
        "suite, as 99.9%% or 0.999. Default: that of the policy",
    )
    group.addoption(
        "--circuit-policy",
        dest="circuit_policy",
        metavar="NAME|FILE",
        help="the thresholds of all verdicts: default, strict, lenient, or a YAML file (`circuit-assertions policy` "
        "lists them). Default: default",
    )
    for name, what in _EFFECTS.items():
        group.addoption(
            f"--circuit-{name}",
            dest=f"circuit_{name}",
            choices=_REPORT_OR_FAIL,
            help=f"whether {what} fails the run: `report` (default) only shows it, `fail` fails the run",
        )


def _add_permissions(group: pytest.OptionGroup) -> None:
    """What weakens the guard against checkpoints that run code: no configuration keys, so that no file passes it on."""
    group.addoption(
        "--circuit-allow-pickle",
        action="store_true",
        dest="circuit_allow_pickle",
        help="read pickled weights (with weights_only=True) where there are no safetensors",
    )
    group.addoption(
        "--circuit-trust-remote-code",
        action="store_true",
        dest="circuit_trust_remote_code",
        help="run the Python code that a checkpoint ships",
    )


def chosen_models(config: pytest.Config) -> tuple[str, ...]:
    """The models that were asked for; none means that the plugin stays out of the way."""
    given = config.getoption("circuit_model", None)
    if given:
        return tuple(given)
    configured = path_from_file(config, "circuit_model")
    return (configured,) if configured else ()


def read_options(config: pytest.Config) -> Options:
    """All options.

    Raises:
        pytest.UsageError: if a configuration key has a value that its option would not take.
    """
    said_dtype = config.getoption("circuit_dtype")
    dtype = str(said_dtype or config.getini("circuit_dtype"))
    if dtype not in _DTYPES:
        where = spelled(config, "--circuit-dtype") if said_dtype else f"circuit_dtype in {config.inipath}"
        raise pytest.UsageError(f"{where} is {dtype!r}: use one of {', '.join(_DTYPES)}")
    said = config.getoption("circuit_discover")
    diagnosis = config.getoption("circuit_diagnosis")
    return Options(
        models=chosen_models(config),
        baseline=config.getoption("circuit_baseline") or path_from_file(config, "circuit_baseline"),
        corrupted=config.getoption("circuit_corrupted") or path_from_file(config, "circuit_corrupted"),
        tokenizer=config.getoption("circuit_tokenizer") or path_from_file(config, "circuit_tokenizer"),
        device=str(config.getoption("circuit_device") or config.getini("circuit_device")),
        dtype=dtype,
        allow_pickle=bool(config.getoption("circuit_allow_pickle")),
        trust_remote_code=bool(config.getoption("circuit_trust_remote_code")),
        **{name: _effect(config, name) for name in _EFFECTS},
        policy=str(config.getoption("circuit_policy") or policy_from_file(config)),
        calibration=config.getoption("circuit_calibration") or path_in_root(config, "circuit_calibration"),
        diagnosis=bool(config.getini("circuit_diagnosis") if diagnosis is None else diagnosis),
        discover=bool(config.getini("circuit_discover") if said is None else said),
        confidence=said_confidence(config),
        suites=tuple(config.getoption("circuit_suites") or from_root(config, config.getini("circuit_suites"))),
        json=config.getoption("circuit_json") or path_in_root(config, "circuit_json"),
        outputs=tuple(config.getoption("circuit_output") or config.getini("circuit_output")),
        reports=tuple(config.getoption("circuit_report") or from_root(config, config.getini("circuit_report"))),
        records=read_record_options(config),
        spelling={short: spelled(config, full) for short, full in PLAIN.items()},
    )


def _effect(config: pytest.Config, name: str) -> str:
    """Whether an outcome is reported or fails the run."""
    chosen = str(config.getoption(f"circuit_{name}") or config.getini(f"circuit_{name}"))
    if chosen not in _REPORT_OR_FAIL:
        raise pytest.UsageError(f"circuit_{name} is {chosen!r} in {config.inipath}: use {' or '.join(_REPORT_OR_FAIL)}")
    return chosen
