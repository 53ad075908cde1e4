"""Values of readings in JSON: as numbers where they are few, compressed where they are many.

Compressed values are exact. They are little-endian floats, column after column; of all floats the first bytes stand
first, then the second ones (which compresses better); zlib; base64.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from circuit_assertions.results.base import Part

__all__ = ["MOST_PLAIN", "Array", "Values"]

Array = NDArray[np.float64]

MOST_PLAIN = 64  # values of one reading that are written as numbers
_STORED: dict[str, np.dtype[np.floating]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}
_LEVEL = 6  # zlib's own default: 9 takes three times as long for one per cent


class Values(Part):
    """The values of a reading, [prompts, columns].

    Attributes:
        dtype: of compressed values: `float32` where that holds all of them exactly.
        plain: one list a column; None where they are compressed.
        packed: the same compressed; None where they are plain.
    """

    prompts: int
    columns: int
    dtype: Literal["float32", "float64"] = "float64"
    plain: tuple[tuple[float, ...], ...] | None = None
    packed: str | None = None

    @classmethod
    def of(cls, values: Array) -> Self:
        """Values [prompts, columns], or [prompts] for one column."""
        columns = values[:, None] if values.ndim == 1 else values
        prompts, count = columns.shape
        if columns.size <= MOST_PLAIN:
            plain = tuple(tuple(map(float, column)) for column in columns.T)
            return cls(prompts=prompts, columns=count, plain=plain)
        with np.errstate(over="ignore"):  # what is too large for it is not equal
            short = columns.astype(np.float32)
        dtype: Literal["float32", "float64"] = "float32" if (short == columns).all() else "float64"
        raw = np.ascontiguousarray(columns.T.astype(_STORED[dtype]))
        shuffled = raw.reshape(-1).view(np.uint8).reshape(-1, raw.itemsize).T
        packed = base64.b64encode(zlib.compress(shuffled.tobytes(), _LEVEL)).decode("ascii")
        return cls(prompts=prompts, columns=count, dtype=dtype, packed=packed)

    def array(self) -> Array:
        """The values [prompts, columns].

        Raises:
            ValueError: if they are damaged.
        """
        if self.plain is not None:
            return np.array(self.plain, dtype=np.float64).reshape(self.columns, self.prompts).T
        stored = _STORED[self.dtype]
        size = self.prompts * self.columns * stored.itemsize
        try:
            unpacking = zlib.decompressobj()
            raw = unpacking.decompress(base64.b64decode(self.packed or "", validate=True), size + 1)
        except (binascii.Error, zlib.error) as error:
            raise ValueError("compressed values are damaged") from error
        if len(raw) != size:
            raise ValueError("compressed values are damaged: there are more or fewer than the record states")
        plain = np.frombuffer(raw, dtype=np.uint8).reshape(stored.itemsize, -1).T
        values = np.ascontiguousarray(plain).view(stored).reshape(self.columns, self.prompts).T.astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("compressed values are damaged: one is NaN or infinite")
        return values

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.plain is None) == (self.packed is None):
            raise ValueError("values are either plain or packed")
        sized = self.plain is None or (len(self.plain), *{len(column) for column in self.plain}) == (
            self.columns,
            self.prompts,
        )
        if not sized or self.prompts < 1 or self.columns < 1:
            raise ValueError("values have another size than the record states")
        return self
