"""The last layers of the refine SQL: which rules an event fails, its status, the detail for a person, and its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.limits import DETAIL_VALUE_CHARACTERS_MAX
from penstock.model.pipeline import Action
from penstock.plan import keys
from penstock.plan.derived import TIMESTAMP
from penstock.plan.nouns import QUARANTINED, SKIPPED, UNDECIDED, VALID
from penstock.plan.sqltext import any_of, identifier, literal, names_where
from penstock.plan.stage import oversized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.model.fields import FieldPath
    from penstock.plan.resolve import Resolved
    from penstock.plan.sqltext import Layers
    from penstock.plan.stage import Field

MALFORMED, TOO_LARGE, FUTURE = "malformed", "too_large", "future"
_COLON = ": "
"""Between a rule's name, which holds no blank, and the reason."""


@dataclass(frozen=True)
class _Check:
    """A rule as the SQL sees it: `fails` is true (never NULL) where the event fails, `detail` is SQL for the reason,
    in as many parts as it likes.

    `column` names the layer's column that holds `fails`, where it is too dear to be evaluated again.
    """

    rule: str
    fails: str
    detail: str
    action: Action = Action.QUARANTINE
    column: str = ""

    @property
    def reason(self) -> str:
        """SQL: `rule: reason`, by which `_failed` finds the rule again."""
        return f"concat({literal(self.rule + _COLON)}, {self.detail})"

    @property
    def condition(self) -> str:
        return f"e.{self.column}" if self.column else self.fails


def rule_names(resolved: Resolved) -> tuple[str, ...]:
    """Every rule name that can occur, the built-in ones first."""
    columns, rules = _column_checks(resolved, {}), _rule_checks(resolved)
    return (MALFORMED, TOO_LARGE, *(check.rule for check in (*columns, *rules)))


def add(layers: Layers, resolved: Resolved, fields: Mapping[FieldPath, Field]) -> None:
    """Add the layers that end the refine SQL: the columns of `RefinePlan`, in their order."""
    silver = resolved.pipeline.silver
    columns, rules = _column_checks(resolved, fields), _rule_checks(resolved)
    severe = [check for check in (*columns, *rules) if check.action is not Action.FLAG]
    event_time = f"e.{identifier(silver.event_time)}"
    layers.add([(check.column, check.fails) for check in rules])
    layers.add([("_status", _status(resolved, severe)), ("_bucket", keys.bucket(silver, event_time))])
    types = {**resolved.types, "_timestamp": TIMESTAMP}
    layers.add(
        [
            ("_digest", f"CASE WHEN e._status = {VALID} THEN {keys.digest(silver, types, 'e._bucket')} END"),
            ("_reasons", _reasons(severe)),
        ]
    )
    _select_events(
        layers,
        resolved,
        flags=_names(rules, Action.FLAG, f"e._status = {VALID}"),
        failed=f"list_transform(e._reasons, lambda reason: split_part(reason, '{_COLON}', 1))",
        stop=_names(rules, Action.STOP, f"e._status = {QUARANTINED} AND e._fault IS NULL"),
        detail="CASE WHEN len(e._reasons) > 0 THEN array_to_string(e._reasons, '; ') END",
    )


def add_plain(layers: Layers, resolved: Resolved, fields: Mapping[FieldPath, Field]) -> None:
    """The same for plain events: `_status` says of them what is skipped, and what is valid and fails no rule at all;
    the others are undecided. None of those two has reasons, so nothing here makes any."""
    silver = resolved.pipeline.silver
    columns = [check for check in _column_checks(resolved, fields) if not check.rule.startswith("type:")]
    rules = _rule_checks(resolved)
    event_time = f"e.{identifier(silver.event_time)}"
    layers.add([(check.column, check.fails) for check in rules])
    fails = any_of([check.condition for check in (*columns, *rules)])
    status = (
        f"CASE WHEN NOT coalesce(e._plain, FALSE) THEN {UNDECIDED} WHEN NOT e._selected THEN {SKIPPED} "
        f"WHEN {fails} THEN {UNDECIDED} ELSE {VALID} END"
    )
    layers.add([("_status", f"CAST({status} AS UTINYINT)"), ("_bucket", keys.bucket(silver, event_time))])
    types = {**resolved.types, "_timestamp": TIMESTAMP}
    layers.add([("_digest", f"CASE WHEN e._status = {VALID} THEN {keys.digest(silver, types, 'e._bucket')} END")])
    nothing = "[]::VARCHAR[]"
    _select_events(layers, resolved, flags=nothing, failed=nothing, stop=nothing, detail="CAST(NULL AS VARCHAR)")


def _select_events(layers: Layers, resolved: Resolved, *, flags: str, failed: str, stop: str, detail: str) -> None:
    """The last layer: the columns of `RefinePlan`, in their order."""
    high, low = keys.halves("e._digest")
    layers.select(
        [
            "e._row",
            "e._index",
            *(f"e.{identifier(name)}" for name in resolved.types),
            f"{flags} AS _flags",
            "e._extra",
            "e._status",
            f"{failed} AS _failed",
            f"{stop} AS _stop",
            f"{detail} AS _detail",
            f"e.{identifier(resolved.pipeline.silver.event_time)} AS _event_time",
            "e._bucket",
            f"coalesce({high}, 0) AS _key_hi",
            f"coalesce({low}, 0) AS _key_lo",
            "e._element",
        ],
    )


def _column_checks(resolved: Resolved, fields: Mapping[FieldPath, Field]) -> list[_Check]:
    """What can be wrong with each column's value, in table order; cheap enough to be evaluated more than once."""
    silver = resolved.pipeline.silver
    found: list[_Check] = []
    needed = {*silver.key, silver.event_time}
    for column in silver.columns:
        value = f"e.{identifier(column.name)}"
        absent = f"{value} IS NULL"
        if column.path is not None:
            raw = f"e.{fields[column.path].column}" if fields else "NULL"
            misfit = f"({raw} IS NOT NULL AND {value} IS NULL)"
            found.append(_Check(f"type:{column.name}", misfit, _misfit(raw, str(column.type))))
            absent = f"{raw} IS NULL"
        elif column.sql is not None:
            raised, computed = f"e._t_{column.name} IS NULL", f"e._t_{column.name}.v"
            text = _misfit(computed, str(column.type))
            reason = f"CASE WHEN {raised} THEN {literal(f'{column.sql.sql} raised an error')} ELSE concat({text}) END"
            fails = f"({raised} OR ({computed} IS NOT NULL AND {value} IS NULL))"
            found.append(_Check(f"error:{column.name}", fails, reason))
            absent = f"(e._t_{column.name} IS NOT NULL AND {computed} IS NULL)"
        if column.required or column.name in needed:
            found.append(_Check(f"required:{column.name}", f"({absent})", literal("missing")))
    if silver.event_time not in resolved.types:
        absent = f"(e.{identifier(silver.event_time)} IS NULL)"
        found.append(_Check(f"required:{silver.event_time}", absent, literal("missing")))
    return found


def _rule_checks(resolved: Resolved) -> list[_Check]:
    """The rules over whole rows: `future`, then the user's in the order of declaration."""
    silver = resolved.pipeline.silver
    found: list[_Check] = []
    if silver.future_after is not None:
        event_time = f"e.{identifier(silver.event_time)}"
        fails = f"coalesce(epoch_us({event_time}) > epoch_us(e._ingested_at) + {silver.future_after}, FALSE)"
        reason = f"CAST({event_time} AS VARCHAR) || ' is after ' || CAST(e._ingested_at AS VARCHAR)"
        found.append(_Check(FUTURE, fails, reason, column="_c_future"))
    for number, rule in enumerate(silver.rules):
        if rule.name in resolved.rules:
            fails = f"NOT coalesce(TRY({resolved.rules[rule.name].sql}), FALSE)"
            reason = literal(f"{rule.check.sql} is not true")
            found.append(_Check(rule.name, fails, reason, rule.otherwise, f"_c{number}"))
    return found


def _misfit(value: str, type_name: str) -> str:
    """SQL: `abc is not a decimal(18,8)`, with a long value cut."""
    article = "an" if type_name[0] in "aeiou" else "a"
    return f"left(CAST({value} AS VARCHAR), {DETAIL_VALUE_CHARACTERS_MAX}), {literal(f' is not {article} {type_name}')}"


def _status(resolved: Resolved, severe: list[_Check]) -> str:
    selected = "e._selected"
    if resolved.pipeline.source.where is None:
        skipped = "FALSE"
    elif resolved.pipeline.source.records is None:
        skipped = f"e._fault IS NULL AND NOT {selected}"
    else:
        skipped = f"(e._fault IS NULL OR e._no_list) AND NOT {selected}"
    fails = any_of(["e._fault IS NOT NULL", *(fails for fails, _ in _kinds(severe))])
    return f"CAST(CASE WHEN {skipped} THEN {SKIPPED} WHEN {fails} THEN {QUARANTINED} ELSE {VALID} END AS UTINYINT)"


def _reasons(severe: list[_Check]) -> str:
    """SQL (VARCHAR[]) for what each failing rule says, as `rule: reason`; empty for rows that are not quarantined."""
    malformed = (
        f"CASE WHEN e._value IS NULL AND {oversized('e._headers')} THEN [concat('{TOO_LARGE}{_COLON}', e._fault)] "
        f"ELSE [concat('{MALFORMED}{_COLON}', e._fault)] END"
    )
    parts = []
    for fails, part in _kinds(severe):
        reasons = ", ".join(f"CASE WHEN {check.condition} THEN {check.reason} END" for check in part)
        kept = f"list_filter([{reasons}]::VARCHAR[], lambda reason: reason IS NOT NULL)"
        parts.append(f"CASE WHEN {fails} THEN {kept} ELSE []::VARCHAR[] END")
    return (
        f"CASE WHEN e._status <> {QUARANTINED} THEN []::VARCHAR[] WHEN e._fault IS NOT NULL THEN {malformed} "
        f"ELSE {' || '.join(parts) or '[]::VARCHAR[]'} END"
    )


def _kinds(checks: list[_Check]) -> list[tuple[str, list[_Check]]]:
    """The checks by kind, each with SQL that says whether one of them fails: for most rows one question is enough.

    A field that does not fit its type was not written plainly, so `_odd` answers for all other rows at once.
    """
    kinds: dict[str, list[_Check]] = {"type": [], "error": [], "required": [], "": []}
    for check in checks:
        kinds[check.rule.partition(":")[0] if ":" in check.rule else ""].append(check)
    found = []
    for kind, part in kinds.items():
        if not part:
            continue
        fails = any_of([check.condition for check in part])
        found.append((f"CASE WHEN e._odd THEN {fails} ELSE FALSE END" if kind == "type" else fails, part))
    return found


def _names(checks: list[_Check], action: Action, condition: str) -> str:
    chosen = [check for check in checks if check.action is action]
    if not chosen:
        return "[]::VARCHAR[]"
    fails = any_of([check.condition for check in chosen])
    names = names_where([(check.condition, check.rule) for check in chosen])
    return f"CASE WHEN {condition} AND {fails} THEN {names} ELSE []::VARCHAR[] END"
