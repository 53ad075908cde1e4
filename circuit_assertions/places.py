"""Where suites lie, and how their files are called: `packaged:ioi.yaml` for those that came with the package."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import circuit_assertions
from circuit_assertions.offered import Offer, offers

__all__ = [
    "CHAINS",
    "CIRCUITS",
    "PACKAGED",
    "packaged_name",
    "packaged_suites",
    "shown_path",
    "suite_folders",
    "suite_path",
]

PACKAGED = "packaged:"
SUITES = "circuit_assertions.suites"  # the group of entry points by which packages offer folders of suites
CIRCUITS, CHAINS = "circuits", "chains"  # the folders beside suites whose YAML files are no suites


def packaged_suites() -> Path:
    """The folder of the suites: inside the package once installed, at the top level in a checkout of the project."""
    package = Path(circuit_assertions.__file__).parent
    installed = package / "suites"
    return installed if installed.is_dir() else package.parent / "suites"


@cache
def offered_suites() -> tuple[Path, ...]:
    """The folders of suites, circuits and chains that other installed packages offer.

    A package offers one with an entry point of the group `circuit_assertions.suites` that names it as a module,
    `my_package.suites`. Its modules are not run.

    Raises:
        UnfitOfferError: if an entry point does not name a folder.
    """
    return tuple(_folder_of(offer) for offer in offers(SUITES, "folder of suites"))


def _folder_of(offer: Offer) -> Path:
    try:
        spec = importlib.util.find_spec(offer.value)
    except ImportError:
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise offer.unfit(f"{offer.value!r} is not a folder of an installed package")
    return Path(folders[0])


def packaged_name(path: Path, start: Path | None = None) -> str | None:
    """`packaged:ioi.yaml`, the name of a packaged suite; None for other files, and within a checkout of the project.

    Args:
        start: the folder that the user stands in; default the working directory.
    """
    packaged = packaged_suites()
    if not path.is_relative_to(packaged):
        return None
    checkout = None if packaged.parent == Path(circuit_assertions.__file__).parent else packaged.parent
    if checkout is not None and (start or Path.cwd()).is_relative_to(checkout):
        return None  # the user's own project: its paths are short there, and the folder may be edited
    name = path.relative_to(packaged).as_posix()
    return PACKAGED if name == "." else f"{PACKAGED}{name}"


def shown_path(path: Path, start: Path | None = None) -> str:
    """A suite's path as the user would type it: by name where it came with the package."""
    return packaged_name(path, start) or str(path)


def suite_path(text: str | Path, start: Path = Path()) -> Path:
    """The file or folder that was typed, `packaged:NAME` among them."""
    typed = str(text)
    # pytest shows node ids from where it was started, which puts `../` in front.
    head, found, name = typed.rpartition(PACKAGED)
    if found and not head.strip("./\\"):
        return packaged_suites() / name
    return start / typed


def suite_folders(*suites: Path, own: Path) -> list[Path]:
    """The folders beside whose suites other files are looked for: of these suites, the user's own, packaged ones.

    Args:
        suites: files, or folders of suites.
        own: the user's folder of suites.
    """
    beside = [suite.parent if suite.is_file() else suite for suite in suites]
    packaged = packaged_suites()
    folders: dict[Path, Path] = {}
    for folder in (*beside, own, *offered_suites(), packaged):
        folders.setdefault(folder.resolve(), folder)
    last = folders.pop(packaged.resolve())  # also where they are the suites
    return [*folders.values(), last]
