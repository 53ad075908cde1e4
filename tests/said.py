"""Whether a printed text or an error names the things that it has to name: files, numbers, options, heads, tensors."""

from __future__ import annotations

import re

__all__ = ["says"]


def says(text: str | BaseException, *parts: object) -> bool:
    """Whether every part stands in the text as a whole token.

    A part does not count inside a longer word or number: `1` is not in `12`, `1.5` or `-1`, `base` is not in `bases`,
    `--base` or `base-model`, and `--base` is not in `--baseline`. Letters keep their case, and the order of the parts
    is free. Line breaks and runs of blanks count as one blank.

    Raises:
        ValueError: no part was given, or one is empty, so that nothing would be checked.
    """
    wanted = [" ".join(str(part).split()) for part in parts]
    if not wanted or not all(wanted):
        raise ValueError("says needs at least one part, and none of them empty")
    printed = " ".join(str(text).split())
    return all(_token(part).search(printed) for part in wanted)


def _token(part: str) -> re.Pattern[str]:
    before = after = ""
    if re.match(r"[+-]?\d", part):
        before = r"(?<!\w)(?<!\d[.,])(?<!(?<!\w)-)"  # `2` is in `1-2`, a range, and not in `-2`
    elif re.match(r"[\w-]", part):
        before = r"(?<![\w-])"
    if re.search(r"\d\Z", part):
        after = r"(?!\w)(?!\.\d)(?!,\d{3})"
    elif re.search(r"\w\Z", part):
        after = r"(?!\w)(?!-\w)"
    return re.compile(before + re.escape(part) + after)
