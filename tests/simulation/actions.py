"""What can happen to a shop: each action is a function that does it, checks what it must come to, and says what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import DeclarationError, Fenced, RuleStopped, SourceLost, UsageError
from penstock.lake.layout import Kind, split_name
from simulation import declared as declaring
from simulation.checks import check, compare_gold, note_life
from simulation.clockwork import DAY, SECOND, running
from simulation.crashing import Life
from simulation.events import SITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.wire import Project
    from simulation.shop import Shop, Stream

STEPS = ("bronze-written", "bronze", "forget", "refine", "silver-written", "rejects", "silver", "gold", "ledger")
OPERATIONS_OF_A_LIFE = 260
"""About how often a life of a few batches changes something on the disk."""


def _stream(shop: Shop) -> Stream:
    return shop.streams[shop.draw.choice(sorted(shop.streams))]


# -- putting in -------------------------------------------------------------------------------------------------------


def send(shop: Shop) -> str:
    """Clients push, or files are dropped."""
    stream, draw = _stream(shop), shop.draw
    name = stream.declared.name
    values = stream.sender.values(draw.randrange(1, 60), shop.clock.now() // 1_000)
    if stream.declared.origin == "push":
        shop.push(name, values)
        return f"push {len(values)} records to {name}"
    path = f"{shop.files_made:03d}.ndjson" if draw.random() < 0.7 else f"{draw.randrange(100):02d}/late.ndjson"
    if stream.files.get(path) and stream.in_bronze < sum(len(one) for all_ in stream.files.values() for one in all_):
        path = f"{shop.files_made:03d}.ndjson"  # a file that is not taken yet is not touched
    shop.drop(name, path, values)
    return f"drop {path} with {len(values)} records for {name}"


def send_again(shop: Shop) -> str:
    """The answer to a push was lost, so that the client repeats it; or a finished file is deleted."""
    stream, draw = _stream(shop), shop.draw
    name = stream.declared.name
    if stream.declared.origin == "push":
        values = stream.sent[-1][-draw.randrange(1, 30) :]
        shop.push(name, list(values))
        return f"push the last {len(values)} records to {name} again"
    finished = sum(len(content) for contents in stream.files.values() for content in contents)
    if stream.in_bronze == finished and stream.files:
        path = draw.choice(sorted(stream.files))
        (shop.folder / f"{name}_incoming" / path).unlink(missing_ok=True)
        return f"delete {path}, which {name} has taken"
    return "nothing to delete"


# -- changing what is declared ----------------------------------------------------------------------------------------


def change_reference(shop: Shop) -> str:
    known = SITES[: shop.draw.randrange(1, len(SITES) + 1)]
    shop.write_sites({site: shop.draw.randrange(1, 4) for site in known})
    return f"reference places: {shop.sites}"


def break_reference(shop: Shop) -> str:
    if not shop.sites_seen:
        return "no reference to break yet"
    shop.break_sites()
    shop.sites = shop.sites_seen[-1]
    return "reference places: broken"


def change_contract(shop: Shop) -> str:
    stream = _stream(shop)
    changed = shop.draw.choice(declaring.CHANGES)(stream.declared, shop.draw)
    shop.declare(changed)
    return f"declare {changed}"


def refused_contract(shop: Shop) -> str:
    """A change of the meaning of rows that are there is refused, and changes nothing."""
    stream = _stream(shop)
    declared = stream.declared
    old, new = shop.draw.choice(declaring.REFUSED)
    if not stream.contracts or old not in declared.yaml():
        return "nothing to refuse yet"
    if declared != stream.contracts[-1]:
        return "another change is waiting"
    path = shop.folder / "pipelines" / f"{declared.name}.yaml"
    path.write_text(declared.yaml().replace(old, new))
    before = entries(shop)
    try:
        shop.run(Life(), names=(declared.name,))
    except DeclarationError:
        pass
    else:
        raise AssertionError(f"{new!r} in place of {old!r} was not refused")
    finally:
        path.write_text(declared.yaml())
    assert _without_upkeep(before) == _without_upkeep(entries(shop)), "a refused declaration changed a table"
    return f"refused: {new.strip()!r} in place of {old.strip()!r}"


# -- running ----------------------------------------------------------------------------------------------------------


def run(shop: Shop) -> str:
    """A life to its end."""
    draw = shop.draw
    options: dict[str, Any] = {"rows": _rows(shop), "keep_open": draw.random() < 0.4}
    if draw.random() < 0.15:
        options["stop_after"] = draw.randrange(1, 4)
    complete = live(shop, Life(), **options)
    check(shop, complete=() if "stop_after" in options else complete)
    return f"run {options}: complete {complete}"


def crash_at_a_step(shop: Shop) -> str:
    life = Life(place=(shop.draw.choice(STEPS), shop.draw.randrange(1, 5)))
    place = life.place
    live(shop, life, rows=_rows(shop), keep_open=shop.draw.random() < 0.5)
    check(shop)
    return f"crash at {place}: {life.crashed}"


def crash_anywhere(shop: Shop) -> str:
    life = Life(operation=shop.draw.randrange(1, OPERATIONS_OF_A_LIFE))
    operation = life.operation
    live(shop, life, rows=_rows(shop), keep_open=shop.draw.random() < 0.5)
    check(shop)
    return f"crash before operation {operation}: {life.crashed}"


def _rows(shop: Shop) -> int:
    return shop.draw.choice((7, 20, 50, 1_000))


def live(shop: Shop, life: Life, **options: Any) -> tuple[str, ...]:
    """A life; the pipelines that have absorbed everything. A rule that stops is changed, as its operator would."""
    try:
        complete = shop.run(life, **options)
    except RuleStopped:
        check(shop)
        for stream in shop.streams.values():
            if stream.declared.stopped_from is not None:
                shop.declare(declaring.replace(stream.declared, stopped_from=None))
        complete = False
    return tuple(shop.streams) if complete else ()


def clock_moves_within_a_run(shop: Shop) -> str:
    """The machine sleeps, or its clock is set, in the middle of a batch."""
    draw = shop.draw
    by = draw.choice((-3 * 3_600 * SECOND, 3_600 * SECOND, 2 * DAY, 9 * DAY))
    life = Life(place=(draw.choice(STEPS), draw.randrange(1, 4)), meanwhile=lambda: shop.clock.jump(by))
    place = life.place
    complete = live(shop, life, rows=_rows(shop))
    check(shop, complete=complete)
    return f"clock by {by // SECOND} s at {place}"


# -- second writers ---------------------------------------------------------------------------------------------------


def rival_is_turned_away(shop: Shop) -> str:
    name, tried = _stream(shop).declared.name, []

    def rival() -> None:
        try:
            shop.run(Life(), names=(name,))
        except Fenced:
            tried.append("turned away")
        else:
            tried.append("let in")

    life = Life(place=(shop.draw.choice(STEPS), shop.draw.randrange(1, 3)), meanwhile=rival)
    complete = live(shop, life, names=(name,), rows=_rows(shop))
    assert tried in ([], ["turned away"]), f"a second writer was {tried}"
    check(shop, complete=complete and (name,))
    return f"a second writer of {name}: {tried}"


def overtaken(shop: Shop) -> str:
    """The lock does not help, as on a disk that two machines share: the rival runs to its end, then the first goes on."""
    stream, draw = _stream(shop), shop.draw
    name, outcome, after = stream.declared.name, [], []

    def rival() -> None:
        (shop.lake_folder / "_penstock" / "locks" / f"{name}.lock").unlink(missing_ok=True)
        try:
            outcome.append(shop.run(Life(), names=(name,), rows=_rows(shop), in_turn_always=True))
        except RuleStopped as error:
            outcome.append(type(error).__name__)
        note_life(shop, shop.lake())
        after.append(entries(shop))

    life = Life(place=(draw.choice(STEPS), draw.randrange(1, 4)), meanwhile=rival)
    place = life.place
    try:
        complete = live(shop, life, names=(name,), rows=_rows(shop))
        ended = "ended"
    except Fenced:
        complete, ended = (name,) if outcome == [True] else (), "fenced"
    if after:
        assert entries(shop) == after[0], "a writer that was overtaken changed a table"
    check(shop, complete=complete and (name,))
    return f"overtaken at {place}: rival {outcome}, the first {ended}"


def entries(shop: Shop) -> dict[str, tuple[str, ...]]:
    """The names of every table's log entries."""
    lake = shop.lake()
    return {
        name: tuple(path for path in lake.storage.names(f"{name}/_delta_log") if path.endswith(".json"))
        for name in lake.tables()
    }


def _without_upkeep(found: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Tables that hold rows of batches; contracts may be taken over before a declaration is looked at."""
    return {name: names for name, names in found.items() if split_name(name)[0] is not Kind.CONTRACTS}


# -- keeping ----------------------------------------------------------------------------------------------------------


def optimize(shop: Shop) -> str:
    zorder = ("_batch",) if shop.draw.random() < 0.3 else ()
    return _keep(shop, "optimize", lambda project: project.optimize(zorder=zorder))


def vacuum(shop: Shop) -> str:
    return _keep(shop, "vacuum", lambda project: project.vacuum())


def _keep(shop: Shop, what: str, work: Callable[[Project], object]) -> str:
    life = Life(operation=shop.draw.randrange(1, 80) if shop.draw.random() < 0.4 else 0)
    operation = life.operation
    if not shop.batches:
        return f"nothing to {what}"
    whole = shop.keep(life, work)
    check(shop)
    return f"{what}, crash before {operation}: {not whole}"


# -- time, readers, accidents -----------------------------------------------------------------------------------------


def time_passes(shop: Shop) -> str:
    by = shop.draw.choice((60 * SECOND, 3_600 * SECOND, 7 * 3_600 * SECOND, DAY, 3 * DAY, 8 * DAY, 30 * DAY))
    shop.clock.jump(by)
    return f"{by / DAY:.2f} days pass"


def clock_steps_back(shop: Shop) -> str:
    by = shop.draw.choice((2 * SECOND, 3_600 * SECOND, 2 * DAY))
    shop.clock.jump(-by)
    return f"the clock steps back by {by // SECOND} s"


def read(shop: Shop) -> str:
    """Somebody takes a cut and stays with it; somebody asks for an older one."""
    stream = _stream(shop)
    if not stream.ledger:
        return "nothing to read yet"
    shop.begin_reading()
    row = shop.draw.choice(stream.ledger)
    gold = shop.draw.choice(stream.declared.gold)
    name = f"{stream.declared.name}_{gold}"
    if f"gold/{name}" not in dict(row.versions):
        return f"batch {row.batch} has no {gold}"
    columns = "* replace (epoch_us(window_start) as window_start)"
    with running(shop.clock):
        now = shop.clock.now() + shop.clock.stepped_back
        try:
            found = shop.open().sql(f"select {columns} from gold.{name}", as_of=f"{stream.declared.name}:{row.batch}")
        except UsageError as error:
            if "no longer kept" not in str(error) or now - row.written_at < shop.log_kept_days * DAY:
                raise
            return f"batch {row.batch} of {name} is no longer kept"
        held = shop.open().sql(f"select count(*) as n from silver.{stream.declared.silver}").to_pylist()[0]["n"]
    compare_gold(stream, gold, found.to_pylist(), row.batch)
    assert held == len(stream.states[-1].silver), f"silver has {held} rows"
    return f"read {name} as of {row.batch}"


def push_log_is_replaced(shop: Shop) -> str:
    """Refused, until the operator says that it is meant."""
    stream = _stream(shop)
    name = stream.declared.name
    empty = stream.in_bronze == len(stream.sent[-1])
    if stream.declared.origin != "push" or not stream.sent[-1] or not empty:
        return "no push log to replace"
    for path in (shop.lake_folder / "push").glob(f"{name}.db*"):
        path.unlink()
    try:
        shop.run(Life(), names=(name,))
    except SourceLost:
        pass
    except RuleStopped:
        raise AssertionError("a batch was derived before its source was looked at") from None
    else:
        raise AssertionError("another push log was taken for the one that was")
    check(shop)
    stream.sent.append([])
    complete = live(shop, Life(), names=(name,), new_incarnation=True)
    check(shop, complete=complete and (name,))
    return f"another push log for {name}"


ACTIONS: tuple[tuple[int, Callable[[Shop], str]], ...] = (
    (24, send),
    (4, send_again),
    (4, change_reference),
    (2, break_reference),
    (7, change_contract),
    (2, refused_contract),
    (7, run),
    (6, crash_at_a_step),
    (7, crash_anywhere),
    (2, clock_moves_within_a_run),
    (1, rival_is_turned_away),
    (3, overtaken),
    (2, optimize),
    (2, vacuum),
    (8, time_passes),
    (2, clock_steps_back),
    (3, read),
    (1, push_log_is_replaced),
)
"""Each with its weight."""
