"""The measures by name: the package's own, and those that other packages add as entry points.

A file of measures is named here or, by another package, in its entry points, and is imported when somebody first looks
for a measure. So a file may belong to a higher floor, as those do that compare checkpoints: this module imports none.
The keys that operands cannot have are looked up in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module

from circuit_assertions.measures.declaring import Measure
from circuit_assertions.offered import Offer, UnfitOfferError, offers, twice
from circuit_assertions.tasks.schema import closest

__all__ = ["GROUP", "MEASURES", "Registry"]

GROUP = "circuit_assertions.measures"  # of entry points: `name = "package.module:measure"`

_FAMILIES = (
    "circuit_assertions.measures.kinds.behaviour",
    "circuit_assertions.measures.kinds.attention",
    "circuit_assertions.measures.kinds.copying",
    "circuit_assertions.measures.kinds.copying_in_context",
    "circuit_assertions.measures.kinds.effects",
    "circuit_assertions.measures.kinds.knockouts",
    "circuit_assertions.measures.kinds.completeness",
    "circuit_assertions.measures.kinds.minimality",
    "circuit_assertions.measures.kinds.curves",
    "circuit_assertions.measures.kinds.probing",
    "circuit_assertions.diagnosis.comparing_measures",
    "circuit_assertions.diagnosis.cross_model_measures",
    "circuit_assertions.tuning.measures",
    "circuit_assertions.measures.kinds.edges",
)
_TAKEN = "circuit_assertions.assertions.taken_keys"  # where the keys are that operands cannot have


class Registry(Mapping[str, Measure]):
    """Measures by name, read when somebody first looks."""

    def __getitem__(self, name: str) -> Measure:
        return self._read[0][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read[0])

    def __len__(self) -> int:
        return len(self._read[0])

    @property
    def refused(self) -> Mapping[str, str]:
        """Why measures of other packages cannot be used, a sentence each, by name."""
        return self._read[1]

    def problem_with(self, name: str, approximate: bool = True) -> str:
        """Why there is no measure of this name to be used; empty where there is.

        Args:
            approximate: whether those that are for triage only will do.
        """
        if name in self.refused:
            return self.refused[name]
        if name not in self:
            exact = [known for known, one in self.items() if not one.approximate]
            return f"unknown measure {name!r}{closest(name, exact)}"
        if self[name].approximate and not approximate:
            return f"{name} is an approximation, for triage only: assert path-effect with semantics: direct"
        return ""

    @cached_property
    def _read(self) -> tuple[dict[str, Measure], dict[str, str]]:
        measures: dict[str, Measure] = {}
        for family in _FAMILIES:
            measures |= {one.name: one for one in vars(import_module(family)).values() if isinstance(one, Measure)}
        return self._with_those_of_others(measures)

    def _with_those_of_others(self, own: dict[str, Measure]) -> tuple[dict[str, Measure], dict[str, str]]:
        """A name that two packages declare is refused: a suite must not depend on which of them came first."""
        measures, refused = dict(own), dict[str, str]()
        owners = {name: {"circuit-assertions"} for name in own}
        for offer in offers(GROUP, "measure"):
            known = owners.setdefault(offer.name, set())
            if known - {offer.package}:
                known.add(offer.package)
                refused[offer.name] = twice("measure", offer.name, known)
                if offer.name not in own:
                    measures.pop(offer.name, None)
                continue
            known.add(offer.package)
            try:
                measures[offer.name] = _measure_of(offer)
            except UnfitOfferError as error:  # only suites that use it are refused
                refused[offer.name] = str(error)
        return measures, refused


def _measure_of(offer: Offer) -> Measure:
    loaded = offer.load()
    if not isinstance(loaded, Measure):
        raise offer.unfit("it is not declared with `measure`")
    if loaded.name != offer.name:
        raise offer.unfit(f"it calls itself {loaded.name!r}: give both the same name")
    taken = import_module(_TAKEN).taken_keys()
    for key in loaded.operands.by_key():
        if key in taken:
            raise offer.unfit(f"its operand {key!r} has the name of a key of {taken[key]}: give it another name")
    return loaded


MEASURES = Registry()
