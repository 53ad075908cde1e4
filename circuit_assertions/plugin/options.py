"""Command-line options, each with a configuration key of the same name. No torch, no YAML, nothing but pytest."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

__all__ = ["Options", "add_options", "chosen_models", "read_options"]

_DTYPES = ("float32", "bfloat16", "float16", "float64")
_REPORT_OR_FAIL = ("report", "fail")
_EFFECTS = {
    "unresolved": "an UNRESOLVED verdict",
    "skipped": "an assertion that was skipped",
    "degraded": "a diagnosis of DEGRADED",
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
    discover: bool
    diagnosis: bool
    suites: tuple[str, ...]

    @property
    def spelled_out(self) -> list[str]:
        """What an audit of one model hangs on beside the model, as arguments; defaults are left out."""
        said = [("--baseline", self.baseline), ("--corrupted", self.corrupted), ("--tokenizer", self.tokenizer)]
        said += [("--model-device", self.device if self.device != "auto" else None)]
        said += [("--model-dtype", self.dtype if self.dtype != "float32" else None)]
        said += [("--circuit-unresolved", self.unresolved if self.unresolved != "report" else None)]
        said += [("--circuit-skipped", self.skipped if self.skipped != "report" else None)]
        flags = [
            ("--discover", self.discover),
            ("--allow-pickle", self.allow_pickle),
            ("--trust-remote-code", self.trust_remote_code),
        ]
        return [f"{name}={value}" for name, value in said if value] + [name for name, given in flags if given]


def add_options(parser: pytest.Parser) -> None:
    """Register the options."""
    group = parser.getgroup("circuit", "circuit assertions: regression tests for the mechanisms inside language models")
    _add_model_options(group)
    _add_circuit_options(group)
    _add_permissions(group)
    parser.addini("model", "default of --model", default=None)
    parser.addini("baseline", "default of --baseline", default=None)
    parser.addini("corrupted", "default of --corrupted", default=None)
    parser.addini("tokenizer", "default of --tokenizer", default=None)
    parser.addini("model_device", "default of --model-device", default="auto")
    parser.addini("model_dtype", "default of --model-dtype", default="float32")
    parser.addini("circuit_suites", "default of --circuit-suites", type="args", default=[])
    parser.addini("circuit_diagnosis", "whether a diagnosis is made; see --no-diagnosis", type="bool", default=True)
    parser.addini("circuit_discover", "default of --discover", type="bool", default=False)
    for name in _EFFECTS:
        parser.addini(f"circuit_{name}", f"default of --circuit-{name}", default="report")


def _add_model_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--model",
        action="append",
        dest="circuit_model",
        metavar="PATH",
        help="the checkpoint to audit: a folder, a PEFT adapter, a training run with checkpoint-N/ folders, or a "
        "hub id (org/name@revision). Repeatable. Without it the plugin does nothing.",
    )
    group.addoption(
        "--baseline",
        dest="circuit_baseline",
        metavar="PATH",
        help="the healthy checkpoint that `retains:` is measured against",
    )
    group.addoption(
        "--corrupted",
        dest="circuit_corrupted",
        metavar="PATH",
        help="a known-bad checkpoint between baseline and model, that recovery is judged against",
    )
    group.addoption(
        "--tokenizer",
        dest="circuit_tokenizer",
        metavar="PATH",
        help="take the tokenizer from here instead of from the checkpoint",
    )
    group.addoption(
        "--model-device",
        dest="circuit_device",
        metavar="DEVICE",
        help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N or mps. Default: auto",
    )
    group.addoption(
        "--model-dtype",
        dest="circuit_dtype",
        choices=_DTYPES,
        help="what the weights are cast to. Default: float32, which is what to gate in",
    )


def _add_circuit_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--circuit-suites",
        action="append",
        dest="circuit_suites",
        metavar="PATH",
        help="suites to run where no test path is given. Default: suites/, or those that came with the package",
    )
    group.addoption(
        "--no-diagnosis",
        action="store_false",
        default=None,
        dest="circuit_diagnosis",
        help="with --baseline, do not look for what broke and where it comes from: that takes longer than the verdicts",
    )
    group.addoption(
        "--discover",
        action="store_true",
        default=None,
        dest="circuit_discover",
        help="where no circuit file was found on this lineage, find who plays which role on the baseline, and test the "
        "model on those heads. `circuit-assertions discover` writes them down, which is faster the next time.",
    )
    for name, what in _EFFECTS.items():
        group.addoption(
            f"--circuit-{name}",
            dest=f"circuit_{name}",
            choices=_REPORT_OR_FAIL,
            help=f"what {what} does: `report` (default) shows it and passes, `fail` fails the run",
        )


def _add_permissions(group: pytest.OptionGroup) -> None:
    """What weakens the guard against checkpoints that run code: no configuration keys, so that no file passes it on."""
    group.addoption(
        "--allow-pickle",
        action="store_true",
        dest="circuit_allow_pickle",
        help="read pickled weights (with weights_only=True) where there are no safetensors",
    )
    group.addoption(
        "--trust-remote-code",
        action="store_true",
        dest="circuit_trust_remote_code",
        help="run the Python code that a checkpoint ships",
    )


def chosen_models(config: pytest.Config) -> tuple[str, ...]:
    """The models that were asked for; none means that the plugin stays out of the way."""
    given = config.getoption("circuit_model", None)
    if given:
        return tuple(given)
    configured = _path_from_file(config, "model")
    return (configured,) if configured else ()


def read_options(config: pytest.Config) -> Options:
    """All options.

    Raises:
        pytest.UsageError: if a configuration key has a value that its option would not take.
    """
    dtype = str(config.getoption("circuit_dtype") or config.getini("model_dtype"))
    if dtype not in _DTYPES:
        raise pytest.UsageError(f"model_dtype is {dtype!r} in {config.inipath}: use one of {', '.join(_DTYPES)}")
    said = config.getoption("circuit_discover")
    diagnosis = config.getoption("circuit_diagnosis")
    return Options(
        models=chosen_models(config),
        baseline=config.getoption("circuit_baseline") or _path_from_file(config, "baseline"),
        corrupted=config.getoption("circuit_corrupted") or _path_from_file(config, "corrupted"),
        tokenizer=config.getoption("circuit_tokenizer") or _path_from_file(config, "tokenizer"),
        device=str(config.getoption("circuit_device") or config.getini("model_device")),
        dtype=dtype,
        allow_pickle=bool(config.getoption("circuit_allow_pickle")),
        trust_remote_code=bool(config.getoption("circuit_trust_remote_code")),
        **{name: _effect(config, name) for name in _EFFECTS},
        diagnosis=bool(config.getini("circuit_diagnosis") if diagnosis is None else diagnosis),
        discover=bool(config.getini("circuit_discover") if said is None else said),
        suites=tuple(config.getoption("circuit_suites") or _from_root(config, config.getini("circuit_suites"))),
    )


def _effect(config: pytest.Config, name: str) -> str:
    """Whether an outcome is reported or fails the run."""
    chosen = str(config.getoption(f"circuit_{name}") or config.getini(f"circuit_{name}"))
    if chosen not in _REPORT_OR_FAIL:
        raise pytest.UsageError(f"circuit_{name} is {chosen!r} in {config.inipath}: use {' or '.join(_REPORT_OR_FAIL)}")
    return chosen


def _path_from_file(config: pytest.Config, key: str) -> str | None:
    """A path or hub id from the configuration file. Paths there are meant from the root, wherever pytest is started."""
    value = config.getini(key)
    if not value:
        return None
    return _from_root(config, [str(value)])[0] if (config.rootpath / str(value)).exists() else str(value)


def _from_root(config: pytest.Config, paths: list[str]) -> list[str]:
    here = config.invocation_params.dir
    if here == config.rootpath:
        return paths
    return [os.path.relpath(config.rootpath / path, here) for path in paths]
