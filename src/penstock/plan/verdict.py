"""The last layers of the refine SQL: which rules an event fails, its status, the detail for a person, and its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.limits import DETAIL_VALUE_CHARACTERS_MAX
from penstock.model.pipeline import Action
from penstock.plan import keys
from penstock.plan.derived import TIMESTAMP
from penstock.plan.sqltext import any_of, identifier, literal, names_where
from penstock.plan.stage import oversized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.fields import FieldPath
    from penstock.plan.resolve import Resolved
    from penstock.plan.sqltext import Layers
    from penstock.plan.stage import Field

MALFORMED, TOO_LARGE, FUTURE = "malformed", "too_large", "future"
_VALID, _QUARANTINED, _SKIPPED = 0, 1, 2


@dataclass(frozen=True)
class _Check:
    """A rule as the SQL sees it: `column` is true where the event fails, `detail` is SQL for the reason."""

    rule: str
    action: Action
    column: str
    fails: str
    detail: str


def rule_names(resolved: Resolved) -> tuple[str, ...]:
    """Every rule name that can occur, the built-in ones first."""
    return (MALFORMED, TOO_LARGE, *(check.rule for check in _checks(resolved, {})))


def add(layers: Layers, resolved: Resolved, fields: Mapping[FieldPath, Field]) -> None:
    """Add the layers that end the refine SQL: the columns of `RefinePlan`, in order."""
    silver = resolved.pipeline.silver
    checks = _checks(resolved, fields)
    event_time = f"e.{identifier(silver.event_time)}"
    layers.add([(check.column, check.fails) for check in checks])
    severe = [check for check in checks if check.action is not Action.FLAG]
    layers.add([("_status", _status(resolved, severe)), ("_bucket", keys.bucket(silver, event_time))])
    types = {**resolved.types, "_timestamp": TIMESTAMP}
    layers.add([("_digest", f"CASE WHEN e._status = 0 THEN {keys.digest(silver, types, 'e._bucket')} END")])
    high, low = keys.halves("e._digest")
    layers.select(
        [
            "e._row",
            "e._source",
            "e._partition",
            "e._offset",
            "e._index",
            "e._timestamp",
            "e._ingested_at",
            *(f"e.{identifier(name)}" for name in resolved.types),
            f"{_names(checks, Action.FLAG, 'e._status = 0')} AS _flags",
            "e._extra",
            "e._status",
            f"{_failed(severe)} AS _failed",
            f"{_names(checks, Action.STOP, 'e._status = 1 AND e._fault IS NULL')} AS _stop",
            f"{_detail(severe)} AS _detail",
            f"{event_time} AS _event_time",
            "e._bucket",
            f"coalesce({high}, 0) AS _key_hi",
            f"coalesce({low}, 0) AS _key_lo",
            "e._element",
        ],
        "\nORDER BY e._row, e._index",
    )


def _checks(resolved: Resolved, fields: Mapping[FieldPath, Field]) -> list[_Check]:
    """All checks but `malformed` and `too_large`, which leave nothing to check, in the order they are reported in."""
    silver = resolved.pipeline.silver
    found: list[_Check] = []

    def check(rule: str, fails: str, detail: str, action: Action = Action.QUARANTINE) -> None:
        found.append(_Check(rule, action, f"_c{len(found)}", fails, detail))

    needed = {*silver.key, silver.event_time}
    for column in silver.columns:
        value = f"e.{identifier(column.name)}"
        absent = f"{value} IS NULL"
        if column.path is not None:
            raw = f"e.{fields[column.path].column}" if fields else "NULL"
            check(f"type:{column.name}", f"({raw} IS NOT NULL AND {value} IS NULL)", _misfit(raw, str(column.type)))
            absent = f"{raw} IS NULL"
        elif column.sql is not None:
            raised, computed = f"e._t_{column.name} IS NULL", f"e._t_{column.name}.v"
            misfit = _misfit(f"CAST({computed} AS VARCHAR)", str(column.type))
            reason = f"CASE WHEN {raised} THEN {literal(f'{column.sql.sql} raised an error')} ELSE {misfit} END"
            check(f"error:{column.name}", f"({raised} OR ({computed} IS NOT NULL AND {value} IS NULL))", reason)
            absent = f"(e._t_{column.name} IS NOT NULL AND {computed} IS NULL)"
        if column.required or column.name in needed:
            check(f"required:{column.name}", f"({absent})", literal("missing"))
    event_time = f"e.{identifier(silver.event_time)}"
    if silver.event_time not in resolved.types:
        check(f"required:{silver.event_time}", f"({event_time} IS NULL)", literal("missing"))
    if silver.future_after is not None:
        late = f"coalesce({event_time} > e._ingested_at + to_microseconds({silver.future_after}), FALSE)"
        check(FUTURE, late, f"CAST({event_time} AS VARCHAR) || ' is after ' || CAST(e._ingested_at AS VARCHAR)")
    for rule in silver.rules:
        if rule.name in resolved.rules:
            reason = literal(f"{rule.check.sql} is not true")
            check(rule.name, f"NOT coalesce(TRY({resolved.rules[rule.name].sql}), FALSE)", reason, rule.otherwise)
    return found


def _misfit(value: str, type_name: str) -> str:
    """SQL: `'abc' is not a decimal(18,8)`, with a long value cut."""
    text = f"CAST({value} AS VARCHAR)"
    cut = (
        f"CASE WHEN length({text}) > {DETAIL_VALUE_CHARACTERS_MAX} "
        f"THEN left({text}, {DETAIL_VALUE_CHARACTERS_MAX}) || '...' ELSE {text} END"
    )
    article = "an" if type_name[0] in "aeiou" else "a"
    return f"{cut} || {literal(f' is not {article} {type_name}')}"


def _status(resolved: Resolved, severe: list[_Check]) -> str:
    selected = "e._selected"
    if resolved.pipeline.source.where is None:
        skipped = "FALSE"
    elif resolved.pipeline.source.records is None:
        skipped = f"e._fault IS NULL AND NOT {selected}"
    else:
        skipped = f"(e._fault IS NULL OR e._no_list) AND NOT {selected}"
    fails = any_of(["e._fault IS NOT NULL", *(f"e.{check.column}" for check in severe)])
    return f"CAST(CASE WHEN {skipped} THEN {_SKIPPED} WHEN {fails} THEN {_QUARANTINED} ELSE {_VALID} END AS UTINYINT)"


def _failed(severe: list[_Check]) -> str:
    malformed = (
        f"CASE WHEN e.value IS NULL AND {oversized('e.headers')} THEN [{literal(TOO_LARGE)}] "
        f"ELSE [{literal(MALFORMED)}] END"
    )
    names = names_where([(f"e.{check.column}", check.rule) for check in severe])
    return f"CASE WHEN e._status <> 1 THEN []::VARCHAR[] WHEN e._fault IS NOT NULL THEN {malformed} ELSE {names} END"


def _names(checks: list[_Check], action: Action, condition: str) -> str:
    chosen = [check for check in checks if check.action is action]
    if not chosen:
        return "[]::VARCHAR[]"
    fails = any_of([f"e.{check.column}" for check in chosen])
    names = names_where([(f"e.{check.column}", check.rule) for check in chosen])
    return f"CASE WHEN {condition} AND {fails} THEN {names} ELSE []::VARCHAR[] END"


def _detail(severe: list[_Check]) -> str:
    kind = f"CASE WHEN e.value IS NULL AND {oversized('e.headers')} THEN '{TOO_LARGE}: ' ELSE '{MALFORMED}: ' END"
    reasons = ", ".join(
        f"CASE WHEN e.{check.column} THEN {literal(check.rule + ': ')} || {check.detail} END" for check in severe
    )
    joined = f"array_to_string([{reasons}]::VARCHAR[], '; ')" if severe else "NULL"
    return f"CASE WHEN e._status <> 1 THEN NULL WHEN e._fault IS NOT NULL THEN {kind} || e._fault ELSE {joined} END"
