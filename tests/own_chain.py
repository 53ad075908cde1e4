"""A user's own task and chain: the prompts of `ioi` as a task of kind `prompts`, and its chain under other names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from auditing import ioi

from circuit_assertions.places import packaged_suites

POSITIONS = {
    "indirect-object": "receiver",
    "subject-1": "giver",
    "after-subject-1": "after-giver",
    "subject-2": "giver-again",
}
ROLES = {
    "name-mover": "writer",
    "negative-name-mover": "eraser",
    "backup-name-mover": "stand-in",
    "s-inhibition": "blocker",
    "duplicate-token": "matcher",
    "induction": "continuer",
    "previous-token": "looker-back",
}


def own_prompts(tokenizer: Any, count: int, **keys: Any) -> dict[str, Any]:
    """The prompts of `ioi` for a tokenizer of words, as a suite would hold them in a task of kind `prompts`."""
    pairs = []
    for prompt in ioi(prompts=count).build(tokenizer).prompts:
        labels = {place: POSITIONS[label] for label, place in prompt.positions.items() if label in POSITIONS}
        words = tokenizer.convert_ids_to_tokens(list(prompt.tokens))
        marked = [f"{{{labels[place]}:{word}}}" if place in labels else word for place, word in enumerate(words)]
        assert prompt.counterfactual is not None
        twin = tokenizer.convert_ids_to_tokens(list(prompt.counterfactual))
        right, wrong = tokenizer.convert_ids_to_tokens([*prompt.right.tokens, *prompt.wrong.tokens])
        pairs.append({"clean": " ".join(marked), "counterfactual": " ".join(twin), "right": right, "wrong": wrong})
    return {"kind": "prompts", "pairs": pairs, **keys}


def own_chain(name: str = "gifts") -> str:
    """The packaged chain of `ioi`, its name, roles and positions replaced."""
    text = (packaged_suites() / "chains" / "ioi.yaml").read_text(encoding="utf-8")
    for was, is_now in {**ROLES, **POSITIONS, "ioi": name}.items():
        text = re.sub(rf"(?<![\w-]){was}(?![\w-])", is_now, text)
    return text


def own_suite(tokenizer: Any, count: int = 16, **keys: Any) -> str:
    """A suite of that task."""
    asked = [{"id": "answers", "measure": "logit-difference", "task": "gifts", "expect": {"at-least": 0.5}}]
    suite = {"suite": "gifts", "tasks": {"gifts": own_prompts(tokenizer, count, **keys)}, "assertions": asked}
    return yaml.safe_dump(suite, sort_keys=False)


def write_project(folder: Path, suite: str, chain: str) -> Path:
    """Write `suites/gifts.yaml` and `suites/chains/own.yaml`, and return the suite's path."""
    (folder / "suites" / "chains").mkdir(parents=True)
    (folder / "suites" / "chains" / "own.yaml").write_text(chain, encoding="utf-8")
    file = folder / "suites" / "gifts.yaml"
    file.write_text(suite, encoding="utf-8")
    return file
