"""What the parts of `kafka` share: options, the brokers, projects on topics, and the engines."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.bench import project
from penstock.bench.kafka.engines import ABSORBING, Engine
from penstock.bench.measuring import reconcile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.bench.kafka.topic import Topic
    from penstock.bench.measuring import Options, Say
    from penstock.bench.project import Planted

CORES = 2
WARM_EVENTS = 300_000
"""Events of a run that does not count: after it Java has compiled what it needs, and workers have their imports."""

SPARK_BATCH_ROWS = 1_000_000

ENGINES = ("embedded", "spark")
"""What is measured beside the script `--against`."""


@dataclass(frozen=True)
class Setting:
    """Where a part measures. `folder` is scratch; `brokers` as clients take them."""

    options: Options
    say: Say
    brokers: str
    folder: Path

    def project(self, name: str, topic: Topic, lake: str = "lake", **limits: int) -> Path:
        """A new project that reads the topic, with a lake of its own."""
        folder = self.folder / name
        source = f'kafka: {{topic: {topic.name}, brokers: "{self.brokers}"}}'
        project.declare(folder, source, lake=lake, **limits)
        return folder

    def engine(self, name: str, cores: int = CORES) -> Engine:
        """`embedded`, or `spark` with so many cores for its workers."""
        if name == "embedded":
            return self._engine(name, "-m", ABSORBING, self._base(), name)
        return self._engine(f"{name} local[{cores}]", "-m", ABSORBING, self._base(), name, f"local[{cores}]")

    @property
    def engines(self) -> tuple[str, ...]:
        """Names that `engine` takes, in turn."""
        return ENGINES

    @contextmanager
    def all_engines(self) -> Iterator[dict[str, Engine]]:
        """The embedded engine, Spark's, and as `peer` the script `--against`: processes that stay warm."""
        with ExitStack() as stack:
            engines = {name: stack.enter_context(self.engine(name)) for name in self.engines}
            script = self.options.against
            if script is not None:
                engines["peer"] = stack.enter_context(self._engine(script.stem, script, self.brokers))
            yield engines

    def absorbed(
        self, engine: Engine, name: str, topic: Topic, planted: Planted, *, lake: str = "lake", batch_rows: int
    ) -> dict[str, Any]:
        """All of a topic into a new project `name`, measured and reconciled.

        Raises:
            LawBroken: a record did not end where it must.
        """
        folder = self.project(name, topic, lake)
        measured = engine.ask(do="absorb", folder=str(folder), topic=topic.name, batch_rows=batch_rows)
        measured["counts"] = measured.get("counts") or engine.ask(do="count", folder=str(folder))["counts"]
        reconcile(planted, measured["counts"])
        return measured | {
            "folder": str(folder),
            "events_per_second": planted.events / measured["seconds"],
            "cpu_seconds_per_million": measured["cpu_seconds"] / planted.events * 1e6,
        }

    def _engine(self, name: str, *arguments: object) -> Engine:
        return Engine(name, self.folder / f"{name}.log", *arguments)

    def _base(self) -> Path:
        """The project whose settings an engine gets; nothing runs in it."""
        folder = self.folder / "engine"
        if not folder.exists():
            project.declare(folder, project.PUSH)
        return folder
