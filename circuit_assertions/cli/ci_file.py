"""The workflow that `init` writes: a GitHub action that runs the gate on every push."""

from __future__ import annotations

import json
import shlex

__all__ = ["ci_file"]

# The checkpoints are the workflow's variables: a path may hold what a shell would take for something else.
_WORKFLOW = """\
# Written by `circuit-assertions init`; edit it as you like. It fails where the gate fails.
name: circuits
on: [push]
env:
  CANDIDATE: {candidate}  # the checkpoint to be released
  BASELINE: {baseline}  # the one that it is compared with
jobs:
  audit:
    runs-on: ubuntu-latest
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
        with: {{lfs: true, submodules: true}}
      - uses: actions/setup-python@v5
        with: {{python-version: "3.12", cache: pip}}
      - run: pip install ./circuit-assertions  # a checkout of circuit-assertions, as a submodule for instance
      - run: >
          pytest {suite} --model="$CANDIDATE" --baseline="$BASELINE"
          --circuit-unresolved=fail --junit-xml=circuits.xml
      - uses: actions/upload-artifact@v4
        if: always()
        with: {{name: circuits, path: circuits.xml}}
"""


def ci_file(suite: str, baseline: str, candidate: str) -> str:
    """The workflow's text.

    Args:
        suite: the suite file, from the project's folder.
        baseline, candidate: checkpoints, as paths in the project or hub ids.
    """
    return _WORKFLOW.format(suite=shlex.quote(suite), baseline=_scalar(baseline), candidate=_scalar(candidate))


def _scalar(text: str) -> str:
    """A YAML string, in which GitHub finds no expression of its own."""
    return json.dumps(text.replace("${{", "${{ '${{' }}"), ensure_ascii=False)
