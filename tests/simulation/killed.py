"""A life in a process of its own that ends with SIGKILL: `python -m simulation.killed FOLDER STEP COUNT OPERATION`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import penstock
from penstock.ops.contexts import contexts
from penstock.run.context import RunOptions
from penstock.run.service import run_pipeline
from simulation.crashing import Life, in_turn, living


class Killed(Life):
    """Ends as a process does."""

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, life: Life) -> None:
    """One life of `penstock run --once`, in turn, in small batches."""
    project = penstock.open(folder)
    options = RunOptions(once=True, batch_rows=25)
    with (
        living(life),
        in_turn(),
        contexts(project.pipelines, folder, project.lake, project.settings, after_step=life.after_step) as made,
    ):
        run_pipeline(made[0], options, threading.Event(), lambda _: None)


if __name__ == "__main__":
    step, count, operation = sys.argv[2:5]
    run(Path(sys.argv[1]), Killed(place=(step, int(count)), operation=int(operation)))
