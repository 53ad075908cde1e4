"""How often a tolerance of `calibrate` is exceeded on prompts, and on models, that it was not measured on.

    python -m benchmarks.calibration [--prompts N] [--models NAME ...]

The readings of each embedded checkpoint are taken once in float32 and once in each half precision. Their prompts are
then drawn into two halves again and again: the tolerance is from one, and tested on the other. The first model's
tolerances, of all of its prompts, are tested on the other models too. docs/calibrate.md has the table.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from circuit_assertions.assertions import load_suite
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.calibration.differences import Compared, differences_of
from circuit_assertions.calibration.measuring import Calibrating, with_prompts
from circuit_assertions.calibration.rearranged import RearrangingAudit
from circuit_assertions.calibration.variations import Variation
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.places import packaged_suites
from circuit_assertions.policy import DEFAULT
from circuit_assertions.results.calibration import SettingUsed

CHECKPOINTS = Path(__file__).parents[1] / "fixtures" / "checkpoints"
MODELS = ("healthy", "poisoned", "recovered", "seed-100")
DTYPES = ("bfloat16", "float16")
MARGINS = (2.0, 3.0, 4.0)
SPLITS = 40


def compared(model: str, prompts: int) -> Iterator[tuple[str, list[Compared]]]:
    """What calibrating a model compares, by dtype."""
    suites = []
    for file in sorted(packaged_suites().glob("*.yaml")):
        circuits = circuits_beside(file)
        suites.append((load_suite(file, circuits), circuits))
    checkpoint = find_checkpoints(str(CHECKPOINTS / model))[0]
    audit = RearrangingAudit(Opening(device="cpu"), checkpoint)
    reference = SettingUsed(dtype="float32", device="cpu", threads=1)
    calibrating = Calibrating(audit, with_prompts(suites, prompts), reference, DEFAULT.calibration_margin)
    calibrating.judge_reference()
    for dtype in DTYPES:
        used = reference.model_copy(update={"dtype": dtype})
        yield dtype, calibrating.compare(Variation("dtype", dtype, used, "cpu"))[0]


def on_other_prompts(pairs: Sequence[Compared], margin: float) -> list[bool]:
    """Whether the tolerances of one half hold on the other, for each measure and split."""
    found = []
    for split in range(SPLITS):
        drawn, again = random.Random(split), []
        for one in pairs:
            rows = sorted([*one.first, *one.second])
            drawn.shuffle(rows)
            half = len(rows) // 2
            again.append(replace(one, first=tuple(rows[:half]), second=tuple(rows[half:])))
        found += [each.holds for each in differences_of(again, margin)]
    return found


def on_other_model(own: Mapping[str, float], pairs: Sequence[Compared]) -> dict[str, float]:
    """The largest difference of each measure's means, as a share of another model's tolerance."""
    measures = differences_of(pairs, DEFAULT.calibration_margin)
    return {each.measure: each.of_mean / own[each.measure] for each in measures if each.measure in own}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    given = parser.parse_args()
    first: dict[str, dict[str, float]] = {}
    print("exceeded on other prompts, by margin; the largest difference as a share of the first model's tolerance")
    for model in given.models:
        for dtype, pairs in compared(model, given.prompts):
            shares = []
            for margin in MARGINS:
                held = on_other_prompts(pairs, margin)
                shares.append(f"{margin:g}: {held.count(False)} of {len(held)}")
            if dtype not in first:
                measures = differences_of(pairs, DEFAULT.calibration_margin)
                first[dtype] = {each.measure: each.tolerance for each in measures}
            apart = on_other_model(first[dtype], pairs)
            worst = max(apart, key=lambda name: apart[name])
            print(f"{model:12} {dtype:8}  {'   '.join(shares)}   {apart[worst]:.2f} ({worst})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
