"""Load chain files, and find the chain that a task names or its kind has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from circuit_assertions.assertions.chains.checks import chain_problems, unfit_for
from circuit_assertions.assertions.chains.schema import Chain, chain_without_roles
from circuit_assertions.assertions.circuits import Unread
from circuit_assertions.assertions.errors import SuiteError
from circuit_assertions.assertions.folders import read_folder
from circuit_assertions.assertions.validation import validate
from circuit_assertions.assertions.yaml_source import read_source
from circuit_assertions.places import CHAINS, suite_folders, suite_path
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["Chains", "chain_for", "chain_named", "chain_of", "chains_beside", "load_chain"]

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Chains:
    """The chain files that were found, in the order in which they are preferred, and those that could not be read."""

    read: tuple[Chain, ...]
    unread: tuple[Unread, ...] = ()

    @property
    def names(self) -> list[str]:
        """Their names, which are those of circuits too."""
        return sorted({chain.name for chain in self.read})

    @property
    def roles(self) -> list[str]:
        """The roles of all of them, in their order."""
        return list(dict.fromkeys(role for chain in self.read for role in chain.roles))

    def named(self, name: str) -> Chain:
        """The chain of this name that is preferred.

        Raises:
            SuiteError: if there is none, or a file that may hold it cannot be read.
        """
        found = next((chain for chain in self.read if chain.name == name), None)
        for one in self.unread:
            if (one.circuit or one.file.stem) == name or (found is None and one.circuit is None):
                raise SuiteError(f"the chain {name!r} may be in a file that cannot be used: {one}")
        if found is None:
            raise SuiteError(f"unknown chain {name!r}{closest(name, self.names)}")
        return found


def load_chain(file: Path) -> Chain:
    """Load a chain file and check it against itself and the measures.

    Raises:
        SuiteError: with one line for each problem.
    """
    try:
        status = file.stat()
    except (OSError, ValueError):
        return _loaded(file, None)  # which says what is wrong
    return _loaded(file, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=256)
def _loaded(file: Path, stamp: tuple[int, int] | None) -> Chain:
    """The same file is read once; `stamp` tells whether it has changed."""
    source = read_source(file)
    chain, problems = validate(Chain, source)
    if chain is not None:
        problems += chain_problems(chain)
    if chain is None or problems or source.repeated:
        raise source.error(problems)
    return chain


def chains_beside(*suites: Path, own: Path = Path("suites")) -> Chains:
    """The chain files beside these suites (files, or folders of suites), then the user's own, then the packaged ones.

    Args:
        own: the user's folder of suites.
    """
    found = [read_folder(folder / CHAINS, load_chain, "chain") for folder in suite_folders(*suites, own=own)]
    return Chains(
        tuple(chain for read, _ in found for chain in read), tuple(one for _, unread in found for one in unread)
    )


def chain_named(said: str, beside: Iterable[Path] = ()) -> Chain:
    """The chain that a person named, or the file of one.

    Args:
        beside: suites or folders of suites whose chains come first.

    Raises:
        SuiteError: if there is no such chain, or it is not valid.
    """
    file = suite_path(said)
    if file.suffix in _SUFFIXES or file.is_file():
        return load_chain(file)
    return chains_beside(*beside).named(said)


def chain_of(task: Task) -> str | None:
    """The name of the chain that a task names, or else its kind has."""
    return getattr(task, "chain", None) or task.circuit or None


def chain_for(task: Task, name: str, said: str | None = None) -> Chain:
    """The chain that a task is followed by.

    Args:
        name: what the circuit is called if the task has no chain. Its heads have no roles then.
        said: a chain's name or file, instead of the task's own.

    Raises:
        SuiteError: if there is no such chain, it is not valid, or the task does not label the positions that it reads.
    """
    wanted = said or chain_of(task)
    if wanted is None:
        return chain_without_roles(name)
    folder = getattr(task, "folder", None)
    chain = chain_named(wanted, () if folder is None else (folder,))
    if problem := unfit_for(chain, task, f"the task {name!r}"):
        raise SuiteError(problem)
    return chain
