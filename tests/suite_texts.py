"""Small suites and projects that the tests of the plugin audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Holds, breaks, is unresolved and is skipped on any random tiny model, whatever its weights say.
TINY_SUITE = """\
suite: tiny
circuit: induction

tasks:
  again: {kind: repeated-tokens, prompts: 48, length: 8}

assertions:
  - id: holds
    measure: loss
    task: again
    expect: {at-least: 0.01}

  - id: breaks
    why: a loss of a thousand nats was promised
    measure: loss
    task: again
    marks: [gate]
    expect: {at-least: 1000}

  - id: some-head-looks-back
    measure: previous-token-score
    heads: any
    task: again
    expect: {at-least: 0.001}

  - id: by-role
    measure: induction-score
    heads: induction
    task: again
    expect: {at-least: 0.5}

  - id: against-the-baseline
    measure: loss
    task: again
    expect: {retains: 50%}
"""

# Whether a head of the reference model does its work; its roles are bound by REFERENCE_CIRCUIT.
REFERENCE_SUITE = """\
suite: indirect object identification, small
circuit: ioi

tasks:
  ioi: {kind: ioi, prompts: 64}

assertions:
  - id: answers
    measure: logit-difference
    task: ioi
    expect: {at-least: 2.0}

  - id: name-movers-push
    why: a name mover's contribution has changed its sign
    measure: direct-effect
    heads: name-mover
    task: ioi
    expect: {sign: positive}

  - id: negative-name-movers-push-back
    measure: direct-effect
    heads: negative-name-mover
    task: ioi
    expect: {sign: negative}

  - id: s-inhibition-reads-the-subject
    measure: attention
    heads: s-inhibition
    query: end
    key: subject-2
    task: ioi
    expect: {at-least: 0.5}

  - id: keeps-the-margin
    measure: logit-difference
    task: ioi
    expect: {retains: 80%}
"""


def circuit_text(shape: Mapping[str, object], roles: Mapping[str, object], name: str = "ioi", base: str = "") -> str:
    """A circuit file; heads are (layer, head) pairs."""
    fits = ", ".join(f"{key}: {value}" for key, value in shape.items())
    lines = [f"circuit: {name}", f"fits: {{{fits}}}", *([base] if base else []), "roles:"]
    lines += [f"  {role}: {[list(head) for head in heads]}" for role, heads in roles.items()]  # type: ignore[attr-defined]
    return "\n".join(lines) + "\n"


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files, by their paths inside the folder, and return the folder."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder
