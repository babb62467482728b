"""Several pipelines run side by side; the first error stops all of them, and the worst one counts."""

import threading
from types import SimpleNamespace

import pytest

from penstock.errors import DeclarationError, Fenced, LawBroken, PenstockError, SourceLost, StorageError
from penstock.model.batch import BatchCounts
from penstock.model.finding import Finding, Mark
from penstock.ops.running import run_all
from penstock.run.context import RunOptions, RunSummary


def contexts(*names):
    return [SimpleNamespace(pipeline=SimpleNamespace(name=name)) for name in names]


def summary(name):
    return RunSummary(name, 1, BatchCounts(), 0.1)


def test_an_error_stops_the_others_cleanly():
    def run(context, options, stop, progress):
        if context.pipeline.name == "bad":
            raise Fenced("another one writes")
        assert stop.wait(10)
        return summary(context.pipeline.name)

    outcome = run_all(contexts("good", "bad"), RunOptions(), threading.Event(), lambda done: None, run)
    assert list(outcome.summaries) == ["good"]
    with pytest.raises(Fenced):
        outcome.raise_worst()


def test_all_end_well():
    outcome = run_all(
        contexts("a", "b"), RunOptions(), threading.Event(), print, lambda c, *_: summary(c.pipeline.name)
    )
    assert set(outcome.summaries) == {"a", "b"}
    outcome.raise_worst()


@pytest.mark.parametrize(
    ("errors", "worst"),
    [
        ((StorageError("x"), LawBroken("x")), LawBroken),
        ((SourceLost("x"), Fenced("x")), SourceLost),
        ((DeclarationError(()), StorageError("x")), StorageError),
        ((LawBroken("x"), ZeroDivisionError("x")), ZeroDivisionError),
    ],
)
def test_the_worst_error_is_raised(errors, worst):
    barrier = threading.Barrier(len(errors))

    def run(context, options, stop, progress):
        barrier.wait(10)
        raise errors[int(context.pipeline.name)]

    outcome = run_all(contexts(*map(str, range(len(errors)))), RunOptions(), threading.Event(), print, run)
    with pytest.raises(worst):
        outcome.raise_worst()


def test_findings_of_several_pipelines_are_raised_together():
    barrier = threading.Barrier(2)

    def run(context, options, stop, progress):
        barrier.wait(10)
        raise DeclarationError([Finding(Mark(f"{context.pipeline.name}.yaml", 1, 1), "code", "message")])

    outcome = run_all(contexts("a", "b"), RunOptions(), threading.Event(), print, run)
    with pytest.raises(PenstockError) as raised:
        outcome.raise_worst()
    assert len(raised.value.findings) == 2
