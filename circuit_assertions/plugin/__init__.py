"""The pytest plugin: options, collection of suites, items, workers.

This module is imported in every pytest run of every project that has the package installed, so it imports nothing but
pytest and the standard library. Without a model it registers options and one fixture, and does nothing else.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from circuit_assertions.plugin.options import add_options, chosen_models
from circuit_assertions.plugin.respawn import respawn_if_root_is_lost
from circuit_assertions.plugin.short_options import declare_defaults, hide_values, register_now, spelled, translate

if TYPE_CHECKING:
    from circuit_assertions.plugin.audit_fixture import AuditedCheckpoint


_PARSER = pytest.StashKey[pytest.Parser]()
_FIXTURE: type = type(pytest.fixture(lambda: None))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_addoption"""
    add_options(parser)
    config: pytest.Config | None = pluginmanager.get_plugin("pytestconfig")
    if config is not None:
        config.stash[_PARSER] = parser
    if any(name.endswith("conftest.py") for name, _ in pluginmanager.list_name_plugin()):
        register_now(parser, config)  # a conftest.py names this plugin in `pytest_plugins`: the hook below was called


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, Any, Any]:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_load_initial_conftests"""
    declare_defaults(early_config, parser)
    respawn_if_root_is_lost(early_config)
    known = early_config.known_args_namespace.file_or_dir
    hide_values(early_config, parser, args)
    try:
        loaded = yield
        declare_defaults(early_config, parser)
        return loaded
    except (argparse.ArgumentError, ValueError) as error:
        if "circuit" not in str(error):  # one of somebody else's, which pytest tells as it always does
            raise
        raise pytest.UsageError(
            f"{error}: a conftest.py defines an option that circuit-assertions has too; rename it there, or run "
            f"this project with -p no:circuit_assertions"
        ) from error
    finally:
        early_config.known_args_namespace.file_or_dir = known
        translate(early_config, args)
        if early_config.known_args_namespace.help:
            register_now(parser, early_config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_cmdline_main"""
    if chosen_models(config):
        from circuit_assertions.plugin.workers import keep_checkpoints_together

        keep_checkpoints_together(config)
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_configure"""
    if _is_free(config.pluginmanager, "audit"):
        config.pluginmanager.register(ShortName(), "circuit_assertions_short_name")
    if not chosen_models(config) and any(".y" in arg for arg in config.args) and _PARSER in config.stash:
        from circuit_assertions.plugin.old_keys import RenamedKeys

        RenamedKeys(config, config.stash[_PARSER]).refuse_for(config.args)
    if chosen_models(config):
        # Threads that wait by spinning made an audit ten times slower where anything else used a core (45 s to 8 s on
        # two cores with one busy); this has to be said before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from circuit_assertions.plugin.audited import SessionAudit
        from circuit_assertions.plugin.diagnosis_section import DiagnosingPlugin
        from circuit_assertions.plugin.gate_plugin import GatePlugin
        from circuit_assertions.plugin.session import AuditPlugin
        from circuit_assertions.plugin.showing_step import ShowingPlugin
        from circuit_assertions.plugin.terminal import TerminalPlugin

        audited = SessionAudit(config)
        config.pluginmanager.register(AuditPlugin(audited), "circuit_assertions_audit")
        if _PARSER in config.stash:
            from circuit_assertions.plugin.old_keys import RenamedKeys

            config.pluginmanager.register(RenamedKeys(config, config.stash[_PARSER]), "circuit_assertions_renamed")
        telling = TerminalPlugin(audited)
        config.pluginmanager.register(telling, "circuit_assertions_telling")
        if audited.options.records.wanted:
            from circuit_assertions.plugin.recording import RecordingPlugin

            audited.recording = recording = RecordingPlugin(audited)
            config.pluginmanager.register(recording, "circuit_assertions_recording")
        if not hasattr(config, "workerinput"):
            gate = GatePlugin(audited, telling)
            config.pluginmanager.register(gate, "circuit_assertions_gate")
            diagnosed = audited.baseline is not None and audited.options.diagnosis
            showing = ShowingPlugin(audited, telling, alone=not diagnosed) if gate.shows_circuits else None
            if showing is not None:
                config.pluginmanager.register(showing, "circuit_assertions_showing")
            if diagnosed:
                diagnosing = DiagnosingPlugin(audited, telling, showing)
                config.pluginmanager.register(diagnosing, "circuit_assertions_diagnosing")
            if audited.options.records.compare is not None:
                from circuit_assertions.plugin.comparison_section import ComparisonPlugin

                comparing = ComparisonPlugin(audited, gate, recording)
                config.pluginmanager.register(comparing, "circuit_assertions_comparing")
        if config.pluginmanager.has_plugin("syrupy"):
            from circuit_assertions.plugin.reading_snapshots import SnapshotPlugin, keep_readings_as_text

            keep_readings_as_text()
            config.pluginmanager.register(SnapshotPlugin(), "circuit_assertions_snapshots")


@pytest.fixture
def circuit_audit(pytestconfig: pytest.Config) -> AuditedCheckpoint:
    """The checkpoint under audit. With a model this fixture is overridden by the audit's own; without one it skips."""
    pytest.skip(f"needs a model: pytest {spelled(pytestconfig, '--circuit-model')}=path/")


@pytest.fixture
def circuit_snapshot(circuit_audit: AuditedCheckpoint, request: pytest.FixtureRequest) -> Callable[..., object]:
    """A snapshot of a reading, in Python: `assert audit.measure(...) == circuit_snapshot(rel="10%")`.

    `rel` and `abs` say how far a mean may differ from the kept one; without them it must lie in the kept interval.
    syrupy's flags write the files, one a comparison.
    """
    from circuit_assertions.plugin.kept_readings import python_snapshots

    return python_snapshots(request)


class ShortName:
    """The fixture `audit`, for projects where no other plugin has a fixture of that name."""

    @pytest.fixture
    def audit(self, circuit_audit: AuditedCheckpoint) -> AuditedCheckpoint:
        """The checkpoint under audit, as `circuit_audit`."""
        return circuit_audit


def _is_free(manager: pytest.PytestPluginManager, name: str) -> bool:
    """Whether no plugin has a fixture of this name. A conftest.py may have one: it overrides a plugin's."""
    plugins = (
        plugin for plugin in manager.get_plugins() if not str(getattr(plugin, "__file__", "")).endswith("conftest.py")
    )
    named = chain.from_iterable(map(_attributes, plugins))
    return not any(isinstance(value, _FIXTURE) and getattr(value, "name", key) == name for key, value in named)


def _attributes(plugin: object) -> Iterator[tuple[str, object]]:
    """What a module or an object of a class holds. Properties are not run."""
    for holder in (plugin, *type(plugin).__mro__):
        yield from list(getattr(holder, "__dict__", {}).items())
