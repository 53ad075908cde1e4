"""YAML as people write it: lists below their key's column, short mappings in one line, keys in the order given."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["WIDTH", "yaml_text"]

WIDTH = 110


class _Dumper(yaml.SafeDumper):
    """Lists below their key's column."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def yaml_text(content: Any) -> str:
    """The text of mappings, lists, words and numbers; the same byte for byte whenever the content is."""
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, width=WIDTH, default_flow_style=None, allow_unicode=True
    )
    return text
