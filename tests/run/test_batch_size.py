"""How many rows the next batch may have, from how long the last one took."""

import pytest

from penstock.limits import BATCH_ROWS_MAX, BATCH_ROWS_MIN, BATCH_SECONDS_TARGET
from penstock.run.polling import BatchSize


def settled(fixed_seconds, row_seconds, rows_max=BATCH_ROWS_MAX):
    """The size after a long backlog on a machine where a batch and each of its rows take that long."""
    size = BatchSize(rows_max)
    for _ in range(50):
        size.took(size.rows, fixed_seconds + size.rows * row_seconds)
    return size.rows


def test_batches_stay_large_where_they_are_quick():
    assert settled(0.1, 4e-6) == BATCH_ROWS_MAX


def test_slow_rows_make_smaller_batches():
    assert settled(0.0, 4e-5) == pytest.approx(BATCH_SECONDS_TARGET / 4e-5, abs=1)


def test_a_slow_machine_does_not_end_in_tiny_batches():
    """What a batch costs by itself is no reason for smaller ones; sixteen times slower, that alone takes the target."""
    fixed_seconds, row_seconds = 16 * 0.2, 16 * 4e-6
    rows = settled(fixed_seconds, row_seconds)
    assert rows == BATCH_ROWS_MIN
    assert fixed_seconds / rows + row_seconds < 3 * (fixed_seconds / BATCH_ROWS_MAX + row_seconds)


def test_what_was_asked_for_is_kept():
    assert settled(10.0, 1.0, rows_max=500) == 500
    size = BatchSize(700, fixed=True)
    size.took(700, 60.0)
    assert size.rows == 700


def test_a_small_batch_says_nothing():
    size = BatchSize(BATCH_ROWS_MAX)
    size.took(BATCH_ROWS_MIN - 1, 60.0)
    assert size.rows == BATCH_ROWS_MAX
