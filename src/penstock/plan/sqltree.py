"""The tree of an expression as `sqlparser.py` builds it and `expressions.py` checks and renders it.

Every node knows the offset in the user's text where it starts, for findings, and its depth, which is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.model.fields import FieldPath  # noqa: TC001 - a dataclass field


@dataclass(frozen=True)
class Node:
    """Any expression; `offset` is where its first (or its telling) character stands."""

    offset: int

    @property
    def children(self) -> tuple[Node, ...]:
        return ()


@dataclass(frozen=True)
class Literal(Node):
    """`kind` is number, text, boolean or null; `value` is the text as it is rendered (a string without its quotes)."""

    kind: str
    value: str


@dataclass(frozen=True)
class TimeLiteral(Node):
    """`date '2020-01-01'` or `timestamp '...'`; `type_name` is ours."""

    type_name: str
    value: str


@dataclass(frozen=True)
class Interval(Node):
    """A length of time; `value` is DuckDB's text of it, e.g. `5 minutes`."""

    value: str


@dataclass(frozen=True)
class Name(Node):
    """A column, a lambda's parameter, or in the raw scope a field path of more than one step in `path`."""

    text: str
    quoted: bool = False
    path: FieldPath | None = None


@dataclass(frozen=True)
class Call(Node):
    """A function call; `star` is count(*), `condition` what stands in FILTER (WHERE ...)."""

    name: str
    arguments: tuple[Node, ...] = ()
    star: bool = False
    distinct: bool = False
    condition: Node | None = None

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments if self.condition is None else (*self.arguments, self.condition)


@dataclass(frozen=True)
class Unary(Node):
    """NOT, - or +."""

    operator: str
    operand: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.operand,)


@dataclass(frozen=True)
class Binary(Node):
    """An operator with two operands; `a AND b AND c` is a `Chain`."""

    operator: str
    left: Node
    right: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.left, self.right)


@dataclass(frozen=True)
class Chain(Node):
    """AND or OR over two or more operands."""

    operator: str
    operands: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.operands


@dataclass(frozen=True)
class Between(Node):
    value: Node
    low: Node
    high: Node
    negated: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.value, self.low, self.high)


@dataclass(frozen=True)
class In(Node):
    value: Node
    options: tuple[Node, ...]
    negated: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.value, *self.options)


@dataclass(frozen=True)
class Like(Node):
    """`operator` is LIKE or ILIKE; `escape` the escape character."""

    operator: str
    value: Node
    pattern: Node
    escape: Node | None
    negated: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.value, self.pattern) if self.escape is None else (self.value, self.pattern, self.escape)


@dataclass(frozen=True)
class Is(Node):
    """`value IS [NOT] test`; the test is NULL, TRUE, FALSE or UNKNOWN."""

    value: Node
    test: str
    negated: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.value,)


@dataclass(frozen=True)
class Case(Node):
    """`operand` is None for CASE WHEN condition; branches are (when, then)."""

    operand: Node | None
    branches: tuple[tuple[Node, Node], ...]
    otherwise: Node | None

    @property
    def children(self) -> tuple[Node, ...]:
        ends = tuple(node for node in (self.operand, self.otherwise) if node is not None)
        return (*ends, *(node for branch in self.branches for node in branch))


@dataclass(frozen=True)
class Cast(Node):
    """`type_name` as written; `safe` is TRY_CAST."""

    value: Node
    type_name: str
    safe: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.value,)


@dataclass(frozen=True)
class AtTimeZone(Node):
    value: Node
    zone: Node

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.value, self.zone)


@dataclass(frozen=True)
class Subscript(Node):
    """`value[index]`, or `value[low:high]` where a missing end is None."""

    value: Node
    low: Node | None
    high: Node | None
    is_slice: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(node for node in (self.value, self.low, self.high) if node is not None)


@dataclass(frozen=True)
class ListLiteral(Node):
    items: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.items


@dataclass(frozen=True)
class Lambda(Node):
    parameters: tuple[str, ...]
    body: Node = field(kw_only=True)

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.body,)
