"""What clients send: mostly sound readings, among them late, doubled, broken, unknown and refused ones, as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

MINUTE_MS = 60_000
SITES = "abcd"
"""The places that a reference may know; `z` is known to none."""


@dataclass
class Sender:
    """Sends events whose times are near the clock's; some repeat what was sent before."""

    draw: random.Random
    next_id: int = 1
    _recent: list[bytes] = field(default_factory=list)

    def values(self, count: int, now_ms: int) -> list[bytes]:
        made = [self._value(now_ms) for _ in range(count)]
        self._recent = (self._recent + made)[-60:]
        return made

    def _value(self, now_ms: int) -> bytes:
        draw, chance = self.draw, self.draw.random()
        if chance < 0.07 and self._recent:
            return draw.choice(self._recent)
        if chance < 0.12:
            return draw.choice(
                (b'{"id": 5, "kind": "read', b"", b"\xff\xfe", b'"text"', b'{"kind": "reading", "id": NaN}')
            )
        event = {
            "kind": "noise" if draw.random() < 0.06 else "reading",
            "id": draw.randrange(1, self.next_id + 1) if draw.random() < 0.12 else self.next_id,
            "site": "z" if draw.random() < 0.05 else draw.choice(SITES),
            "at": self._time(now_ms),
            "value": f"{draw.randrange(-10_000, 100_000) / 1000:.3f}",
        }
        self.next_id += 1
        if draw.random() < 0.5:
            event["note"] = draw.choice(("", "x", "ü \u2028"))
        if draw.random() < 0.3:
            event["grade"] = draw.randrange(-3, 9)
        if draw.random() < 0.06:
            event[draw.choice(("id", "site", "at", "value"))] = None
        if draw.random() < 0.06:
            event[draw.choice(("id", "at", "value"))] = draw.choice(("soon", True, "1e", [1]))
        if draw.random() < 0.03:
            del event[draw.choice(("id", "site", "at", "value", "kind"))]
        return json.dumps(event).encode()

    def _time(self, now_ms: int) -> int:
        chance = self.draw.random()
        if chance < 0.72:
            return now_ms - self.draw.randrange(4 * MINUTE_MS)
        if chance < 0.88:
            return now_ms - self.draw.randrange(180 * MINUTE_MS)
        if chance < 0.94:
            return now_ms - self.draw.randrange(40 * 24 * 60 * MINUTE_MS)
        return now_ms + self.draw.randrange(3 * 60 * MINUTE_MS)
