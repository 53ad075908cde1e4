"""How far plans are off, measured: memory within 1.3, and time within 2 where the machine does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from auditing import HEALTHY

from circuit_assertions.results import PlanResult

ROOT = Path(__file__).parents[1]
# Of fixed numbers of prompts, so that no verdict changes what is read.
SUITES = {
    "ioi": (ROOT / "suites" / "ioi.yaml", "prompts: {start: 128, budget: 1024}", "prompts: 256"),
    "induction": (ROOT / "suites" / "induction.yaml", "prompts: {start: 64, budget: 512}", "prompts: 256"),
}
AUDIT = """
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.sweeps.asked import Setting, Unit
from circuit_assertions.sweeps.auditing import audit_unit
checkpoint = find_checkpoints(sys.argv[1])[0]
audit_unit(Setting(Path.cwd(), (Path(sys.argv[2]),), Opening("cpu")), (), Unit(checkpoint, 0))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
print(json.dumps({"peak": peak, "seconds": time.perf_counter() - began}))
"""


@pytest.mark.complete
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak in kilobytes")
@pytest.mark.parametrize("name", SUITES)
def test_plans_are_close_to_what_is_measured(tmp_path: Path, name: str) -> None:
    file, growing, fixed = SUITES[name]
    suite = tmp_path / file.name
    text = file.read_text(encoding="utf-8")
    assert growing in text
    suite.write_text(text.replace(growing, fixed), encoding="utf-8")
    plan = [sys.executable, "-m", "circuit_assertions", "plan", str(suite), "--model", str(HEALTHY)]
    planned = PlanResult.model_validate_json(_printed(*plan, "--device", "cpu", "--json"))
    measured = json.loads(_printed(sys.executable, "-c", AUDIT, str(HEALTHY), str(suite)))
    assert planned.passes.least == planned.passes.most
    assert 1 / 1.3 < planned.memory.peak / measured["peak"] < 1.3
    assert 1 / 2 < planned.time.expected / measured["seconds"] < 2


def _printed(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
