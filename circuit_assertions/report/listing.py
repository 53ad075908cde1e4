"""Lists that the command line prints: the measures there are, and the prompts of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from circuit_assertions.measures import MEASURES
from circuit_assertions.tasks import PromptSet

__all__ = ["measures_table", "prompts_listing"]


def measures_table() -> Table:
    """The catalogue of measures: operands, what they need, unit, help and source."""
    table = Table("measure", "of", "operands", "needs", "unit", "what it reads", title=None, show_lines=True)
    for spec in MEASURES.values():
        table.add_row(
            spec.name,
            "heads" if spec.by_head else "the model",
            ", ".join(spec.operands) or "-",
            ", ".join(sorted(spec.needs)),
            spec.unit,
            f"{spec.help}\n[dim]{spec.source}[/dim]",
        )
    return table


def prompts_listing(prompts: PromptSet, spell: Callable[[Sequence[int]], Sequence[str]], most: int) -> list[str]:
    """The prompts of a task as text: tokens with their positions, labels, answers and counterfactual twins.

    Args:
        spell: token ids -> the tokens as the vocabulary spells them.
    """
    lines = [f"{len(prompts)} prompts of up to {prompts.longest} tokens, token ids {prompts.token_hash[:16]}"]
    lines += [", ".join(f"{key} {value}" for key, value in prompts.settings.items())]
    for number, prompt in enumerate(prompts.prompts[:most], start=1):
        lines.append(f"\n{number:>4}  {prompt.template}  {prompt.text}")
        lines.append(f"      tokens          {' '.join(spell(prompt.tokens))}")
        if prompt.counterfactual is not None:
            lines.append(f"      counterfactual  {' '.join(spell(prompt.counterfactual))}")
        places = sorted(prompt.positions.items(), key=lambda item: item[1])
        lines.append(f"      positions       {', '.join(f'{label} {place}' for label, place in places)}")
        if prompt.right is not None:
            answers = [prompt.right] if prompt.wrong is None else [prompt.right, prompt.wrong]
            lines.append(f"      right / wrong   {' / '.join(spell(answers))}")
    if len(prompts) > most:
        lines.append(f"\n      and {len(prompts) - most} more (--most N shows N)")
    return lines
