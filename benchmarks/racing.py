"""What races save in a discovery: rows, passes and seconds with them and without, and that they lose nothing.

    python -m benchmarks.racing [--model PATH] [--task KIND] [--prompts N] [--seeds N] [--json]

Both sides follow the same chain on the same prompts in one run. Lost are heads whose interval without a race lies above
the smallest effect that counts, and that the race sent away. Work is counted at the blocks: a row is one variant of one
prompt at one position in one block.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.diagnosis.discovery.find_circuit import repeated_for
from circuit_assertions.diagnosis.discovery.follow_chain import Followed, follow
from circuit_assertions.diagnosis.view import View
from circuit_assertions.engine.work import counted_work
from circuit_assertions.tasks import Task, kinds
from fixtures.shelf import COMMITTED

__all__ = ["Side", "compare", "main"]

_SAME = 1e-5  # by how much effects may differ, in the unit of the metric


@dataclass(frozen=True)
class Side:
    """One search. `seconds` of the processor."""

    rows: int
    passes: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """One seed of prompts on both sides.

    Attributes:
        lost: heads that a race sent away although their interval lies above the smallest effect that counts.
        largest_difference: of the effects that both sides have.
    """

    seed: int
    prompts: int
    heads: int
    alone: Side
    raced: Side
    lost: tuple[str, ...]
    other_roles: tuple[str, ...]
    largest_difference: float

    @property
    def less_work(self) -> float:
        """How many times fewer rows a race takes."""
        return self.alone.rows / self.raced.rows


def compare(audit: Audit, checkpoint: Checkpoint, task: Task, seed: int, splits: int | None = None) -> Comparison:
    """Follow the task's chain without races and with them.

    Args:
        splits: into how many pairs of halves the prompts are split as well; None for as many as the policy says.
    """
    splits = audit.policy.stability_splits if splits is None else splits
    alone, without = _followed(audit, checkpoint, task, splits, race=False)
    raced, with_races = _followed(audit, checkpoint, task, splits, race=True)
    floor = audit.policy.least_effect * abs(float(View(audit, checkpoint, task).behaviour().mean()))
    effects = {(one.head, each.stage): each for one in without.placed for each in one.effects}
    kept = {(one.head, each.stage): each for one in with_races.placed for each in one.effects}
    surely = {head for (head, _), one in effects.items() if one.interval.low >= floor or one.interval.high <= -floor}
    roles = {one.head: one.role for one in with_races.placed}
    return Comparison(
        seed=seed,
        prompts=len(audit.prompts(task, checkpoint)),
        heads=len(without.placed),
        alone=alone,
        raced=raced,
        lost=tuple(str(head) for head in sorted(surely - roles.keys())),
        other_roles=tuple(str(one.head) for one in without.placed if roles.get(one.head, one.role) != one.role),
        largest_difference=max((abs(effects[key].mean - kept[key].mean) for key in effects.keys() & kept), default=0.0),
    )


def _followed(audit: Audit, checkpoint: Checkpoint, task: Task, splits: int, race: bool) -> tuple[Side, Followed]:
    """One search, of which nothing was read before."""
    afresh = Audit(audit.opening, policy=audit.policy)
    afresh.adopt(checkpoint, audit.model(checkpoint), checkpoint)
    view = View(afresh, checkpoint, task)
    chain = chain_for(task, "circuit")
    with counted_work() as work:
        begun = time.process_time()
        halves = [half for split in range(splits) for half in view.halves(split)]
        found = follow(chain, (view, *halves), repeated_for(view, chain), audit.policy.least_effect, race=race)
        took = time.process_time() - begun
    return Side(work.rows, work.passes, round(took, 1)), found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; 1 if a head was lost or an effect differs."""
    given = _arguments(arguments)
    audit = Audit(Opening(device="cpu", dtype="float32"))
    (checkpoint,) = find_checkpoints(given.model)
    found: list[Comparison] = []
    for seed in range(given.seeds):
        task = kinds()[given.task].model_validate({"kind": given.task, "prompts": given.prompts, "seed": seed})
        found.append(compare(audit, checkpoint, task, seed))
        if not given.json:
            print(_line(found[-1]), flush=True)
    if given.json:
        print(json.dumps([_plain(one) for one in found], indent=1))
    return int(any(one.lost or one.largest_difference > _SAME for one in found))


def _line(one: Comparison) -> str:
    lost = f"lost {', '.join(one.lost)}" if one.lost else "none lost"
    sides = "; ".join(
        f"{name} {side.rows:,} rows, {side.passes:,} passes, {side.seconds:.0f} s"
        for name, side in (("all", one.alone), ("raced", one.raced))
    )
    return (
        f"seed {one.seed}, {one.prompts} prompts: {sides}; {one.less_work:.1f} times less; {one.heads} heads, {lost}, "
        f"effects differ by {one.largest_difference:.0e} at most"
    )


def _plain(one: Comparison) -> dict[str, Any]:
    return asdict(one) | {"less_work": round(one.less_work, 2)}


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.racing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(COMMITTED / "healthy"), help="default: the embedded healthy checkpoint")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 of the prompts")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
