"""How fast pushes of a thousand records are acknowledged, from one client and from four.

Each client is a process of its own and pushes when its last push was acknowledged, which is when it is on disk.
Afterwards the pipeline runs, and what was acknowledged is compared with what it read.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.bench import project
from penstock.bench.measuring import Beside, Options, Say, audited, child, listed, reconcile, say_audit, scratch
from penstock.errors import check
from penstock.limits import BATCH_ROWS_MAX

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 1_000_000
BLOCK_ROWS = 1_000
CLIENTS = (1, 4)


def main(options: Options, say: Say) -> dict[str, Any]:
    """Records a second, by number of clients.

    Raises:
        LawBroken: what was acknowledged does not reconcile, or the audit finds a violation.
    """
    share = BLOCK_ROWS * max(CLIENTS)
    events = -(-(options.events or EVENTS) // share) * share
    planted = project.Planted()
    for sent in project.ticks(events):
        planted.add(sent)
    say(
        f"workload: {events:,} ticks of {planted.bytes_per_event:.0f} bytes in pushes of {BLOCK_ROWS:,}; planted: "
        f"{listed(planted.faults)}"
    )
    runs = [_run(planted, clients, options, say) for clients in CLIENTS]
    return {"workload": vars(planted), "runs": runs}


def _run(planted: project.Planted, clients: int, options: Options, say: Say) -> dict[str, Any]:
    with scratch() as folder:
        project.declare(folder, project.PUSH)
        pushed = _pushed(folder, planted.events // clients, clients)
        absorbed = child("run", folder, BATCH_ROWS_MAX)
        acknowledged = sum(client["acknowledged"] for client in pushed)
        check(acknowledged == planted.events, f"{acknowledged} records were acknowledged, not {planted.events}")
        reconcile(planted, absorbed["counts"])
        seconds = max(client["ended"] for client in pushed) - min(client["began"] for client in pushed)
        waits = np.concatenate([client["waits"] for client in pushed]) * 1_000
        p50, p99 = np.percentile(waits, (50, 99), method="higher")
        say(
            f"{clients} client{'s' if clients > 1 else ''}: {acknowledged / seconds:,.0f} records/s acknowledged "
            f"({seconds:.2f} s); a push took p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {waits.max():.1f} ms"
        )
        counts = absorbed["counts"]
        say(f"  rows: {acknowledged:,} acknowledged = {counts['records']:,} read by the pipeline afterwards")
        audit = audited(folder, planted.events) if options.audit else None
        if audit:
            say_audit(say, audit)
    return {
        "clients": clients,
        "seconds": seconds,
        "records_per_second": acknowledged / seconds,
        "milliseconds": {"p50": p50, "p99": p99, "max": waits.max()},
        "counts": counts,
        "audit": audit,
    }


def _pushed(folder: Path, events: int, clients: int) -> list[dict[str, Any]]:
    """What each client measured. They begin together, when all of them have their records ready."""
    with ExitStack() as stack:
        parts = (Beside("push", folder, number * events, events, BLOCK_ROWS) for number in range(clients))
        started = [stack.enter_context(part) for part in parts]
        for client in started:
            client.wait_ready()
        for client in started:
            client.order("push")
        return [client.result() for client in started]
