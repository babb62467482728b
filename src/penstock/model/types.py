"""The types a column can have. How they look in Arrow is `lake/layout.py`'s, in SQL `plan/`'s."""

from __future__ import annotations

import re
from dataclasses import dataclass

SIMPLE_KINDS = (
    "string",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "boolean",
    "date",
    "timestamp",
    "binary",
    "json",
)
"""Every type but decimal, which takes a precision and a scale."""

INTEGER_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
DECIMAL_PRECISION_MAX = 38


@dataclass(frozen=True)
class ColumnType:
    """A column's type: a kind, and for decimals the total digits and the digits after the point."""

    kind: str
    precision: int = 0
    scale: int = 0

    def __post_init__(self) -> None:
        if self.kind == "decimal":
            if not 1 <= self.precision <= DECIMAL_PRECISION_MAX or not 0 <= self.scale <= self.precision:
                raise ValueError(
                    f"decimal({self.precision},{self.scale}): 1 <= precision <= 38, 0 <= scale <= precision"
                )
        elif self.kind not in SIMPLE_KINDS:
            raise ValueError(f"unknown type {self.kind!r}")

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})" if self.kind == "decimal" else self.kind

    @property
    def is_integer(self) -> bool:
        return self.kind in INTEGER_BITS

    @property
    def is_float(self) -> bool:
        return self.kind in ("float32", "float64")

    @property
    def is_number(self) -> bool:
        return self.is_integer or self.is_float or self.kind == "decimal"

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """The type a declaration writes as `text`, e.g. `int64` or `decimal(18,8)`.

        Raises:
            ValueError: no type is written like that.
        """
        match = re.fullmatch(r"decimal\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)", text.strip())
        if match:
            return cls("decimal", int(match[1]), int(match[2]))
        return cls(text.strip())


STRING = ColumnType("string")
TIMESTAMP = ColumnType("timestamp")
