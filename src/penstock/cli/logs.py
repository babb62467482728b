"""Logs of long runs: one JSON object per line on standard error, for whatever collects them.

Only facts about batches go in: names, counts, durations, messages of errors. Settings, declarations and records do
not, so no secret can.
"""

from __future__ import annotations

import sys
from typing import Any

import structlog


def json_logger() -> Any:
    """A logger whose lines are JSON objects with `event`, `level`, `timestamp` (ISO 8601, UTC) and the given facts."""
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.BoundLogger,
    )
