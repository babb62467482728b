"""The engines that `kafka` compares: warm processes that absorb topics on order, and what they took for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from penstock.bench.kafka.processes import Watch
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from pathlib import Path

ABSORBING = "penstock.bench.kafka.absorbing"


class Engine:
    """A process that takes orders as JSON lines (`absorbing.py` says which). It ends with the context.

    `log` is a file for what it says beside its answers.
    """

    def __init__(self, name: str, log: Path, *arguments: object) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._orders: Any = self._process.stdin
        self._answers: Any = self._process.stdout

    def ask(self, **order: object) -> dict[str, Any]:
        """Its answer, with the CPU time and the memory it took until then."""
        with Watch(self._process.pid) as watch:
            self.order(**order)
            answer = self.answer()
        return answer | watch.as_json()

    def order(self, **order: object) -> None:
        """Give it an order; `answer` waits."""
        try:
            self._orders.write(json.dumps(order) + "\n")
            self._orders.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def answer(self) -> dict[str, Any]:
        """Its next answer.

        Raises:
            PenstockError: it has ended instead.
        """
        for line in self._answers:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise self._failed()

    def watch(self) -> Watch:
        """Measures it while a context lasts."""
        return Watch(self._process.pid)

    def __enter__(self) -> Engine:
        self.answer()
        return self

    def __exit__(self, *_: object) -> None:
        """It ends when there are no more orders; whatever happened, it does not outlive the workload."""
        self._orders.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def _failed(self) -> PenstockError:
        said = self._log.read_text(errors="replace").strip()[-2000:]
        return PenstockError(f"the measured part `{self.name}` failed: {said}", hint="Run it by itself to see more.")
