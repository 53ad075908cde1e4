"""The pytest plugin: options, collection of suites, items, workers.

This module is imported in every pytest run of every project that has the package installed, so it imports nothing but
pytest and the standard library. Without a model it registers options and one fixture, and does nothing else.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from circuit_assertions.plugin.options import add_options, chosen_models
from circuit_assertions.plugin.respawn import respawn_if_root_is_lost

if TYPE_CHECKING:
    from circuit_assertions.plugin.face import AuditedCheckpoint


def pytest_addoption(parser: pytest.Parser) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_addoption"""
    add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, Any]:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_load_initial_conftests"""
    respawn_if_root_is_lost(early_config)
    try:
        return (yield)
    except argparse.ArgumentError as error:
        raise pytest.UsageError(
            f"{error}: a conftest.py defines an option that circuit-assertions has too; rename it there, or run "
            f"this project with -p no:circuit_assertions"
        ) from error


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
    if chosen_models(config):
        # Threads that wait by spinning made an audit ten times slower where anything else used a core (45 s to 8 s on
        # two cores with one busy); this has to be said before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from circuit_assertions.plugin.auditing import AuditPlugin
        from circuit_assertions.plugin.diagnosing import DiagnosingPlugin
        from circuit_assertions.plugin.gating import GatePlugin
        from circuit_assertions.plugin.telling import TellingPlugin

        auditing = AuditPlugin(config)
        config.pluginmanager.register(auditing, "circuit_assertions_audit")
        telling = TellingPlugin(auditing)
        config.pluginmanager.register(telling, "circuit_assertions_telling")
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(GatePlugin(auditing, telling), "circuit_assertions_gate")
        if auditing.baseline is not None and auditing.options.diagnosis and not hasattr(config, "workerinput"):
            config.pluginmanager.register(DiagnosingPlugin(auditing, telling), "circuit_assertions_diagnosing")


@pytest.fixture
def audit() -> AuditedCheckpoint:
    """The checkpoint under audit. With a model this fixture is overridden by the audit's own; without one it skips."""
    pytest.skip("needs a model: pytest --model=path/")
