"""Where a checkpoint's files are: in its folder, from the hub, or, for an adapter, in its base. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.gguf.files import is_gguf
from circuit_assertions.checkpoints.quantized import method_in
from circuit_assertions.checkpoints.settings import Opening, Permissions
from circuit_assertions.checkpoints.sources import Checkpoint, find_checkpoints, local_path, read_json, similar_folder

__all__ = ["base_of", "fetch", "is_adapter", "lent_base"]

_QUANTIZED = re.compile(r"bnb|[48]-?bit|gptq|awq|fp8|int[48]\b|mxfp4", re.IGNORECASE)  # in names of models on the hub


def fetch(checkpoint: Checkpoint, permissions: Permissions) -> Path:
    """The checkpoint's folder, or its GGUF file; what is on the hub is downloaded.

    Raises:
        CheckpointError: if it is neither here nor there.
    """
    if checkpoint.place is not None:
        return checkpoint.place
    if re.search("gguf", checkpoint.hub_id or "", re.IGNORECASE):  # such a repository has many, each of gigabytes
        raise CheckpointError(
            f"{checkpoint.given} is not a local folder, and GGUF files are not fetched from the Hub: download one of "
            f"them, and give path/to/file.gguf"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.py", *(["*.bin"] if permissions.pickle else [])]
    try:
        fetched = snapshot_download(checkpoint.hub_id or "", revision=checkpoint.revision, allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        similar = similar_folder(Path.cwd() / checkpoint.given)
        way_out = f"did you mean {similar.name}/?" if similar else "a local checkpoint: give path/to/folder/"
        raise CheckpointError(
            f"{checkpoint.given} is not a local folder, and download from the Hub failed: "
            f"{reason_of(error)} ({way_out})"
        ) from error
    return Path(fetched)


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def base_of(folder: Path, opening: Opening) -> Path:
    """The base that an adapter is read into: the one it names, else the baseline."""
    base, reason = _named_base(folder, opening)
    if base is not None:
        return base
    way_out = "give the base with --baseline=path/"
    if opening.base is not None:
        base = fetch(opening.base, opening.permissions)
        if not is_adapter(base):
            return base
        reason = f"{reason}; {opening.base} is an adapter too"
        way_out = "name the base in its adapter_config.json, or save the merged model"
    raise CheckpointError(f"{folder} is an adapter without a base ({reason}): {way_out}")


def lent_base(folder: Path, base: Path, opening: Opening) -> str | None:
    """What is to be said where an adapter is read into the baseline, and not into the base that it names."""
    named, reason = _named_base(folder, opening)
    return None if named == base else f"the adapter is read into {opening.base} ({reason})"


def _is_here(place: Path) -> bool:
    return place.is_dir() or is_gguf(place)


def _named_base(folder: Path, opening: Opening) -> tuple[Path | None, str]:
    """The base that an adapter names, where it can be read; else why not."""
    named = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not named:
        return None, "its adapter_config.json does not name a base"
    # A folder goes before a hub id of the same name.
    starts = [start for start in (Path.cwd(), folder) if _is_here(start / local_path(str(named)))]
    if not starts and opening.base is not None and _QUANTIZED.search(str(named)):
        return None, f"its adapter_config.json names {named}, whose name shows that it is quantized"
    reason = ""
    for start in starts or [Path.cwd()]:
        try:
            base = fetch(find_checkpoints(str(named), start=start)[-1], opening.permissions)
            method = None if is_adapter(base) else method_in(base)
        except CheckpointError as error:
            reason = str(error)
            continue
        if not is_adapter(base) and method is None:
            return base, ""
        reason = f"its base {named} is {f'quantized ({method})' if method else 'an adapter too'}"
    return None, reason
