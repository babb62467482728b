"""Parses one expression into `sqltree.py`'s nodes, by precedence climbing with DuckDB 2.0's precedence.

Two things are stricter than DuckDB: comparisons do not chain without parentheses, and neither does `->` mix with other
operators, because DuckDB lets it bind looser than OR, which nobody expects. Depth is bounded, so nothing overflows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.limits import EXPRESSION_CHARACTERS_MAX, EXPRESSION_DEPTH_MAX
from penstock.plan import sqltree as tree
from penstock.plan.sqlforms import field_path, interval, step, type_name
from penstock.plan.sqltokens import SqlProblem, Token, TokenKind, TokenStream, tokens, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.plan.sqltree import Node

_OR, _AND, _NOT, _IS, _DISTINCT, _COMPARE, _IN, _CONCAT, _BITS, _ADD, _MULTIPLY, _POWER, _ZONE = range(1, 14)
_BINARY = {
    "=": _COMPARE,
    "==": _COMPARE,
    "<>": _COMPARE,
    "!=": _COMPARE,
    "<": _COMPARE,
    "<=": _COMPARE,
    ">": _COMPARE,
    ">=": _COMPARE,
    "||": _CONCAT,
    "&": _BITS,
    "|": _BITS,
    "<<": _BITS,
    ">>": _BITS,
    "+": _ADD,
    "-": _ADD,
    "*": _MULTIPLY,
    "/": _MULTIPLY,
    "//": _MULTIPLY,
    "%": _MULTIPLY,
    "^": _POWER,
    "**": _POWER,
}
"""Operators by how tightly they bind; all are left-associative."""

_SPELLED = {"==": "=", "!=": "<>", "**": "^"}
_RESERVED = words(
    "and as between by case cast collate distinct else end escape exists false from glob ilike in is isnull "
    "lambda like not notnull null or select similar then true try_cast when where"
)
"""Words of the grammar; as names they need double quotes."""

_TIME_LITERALS = {"date": "date", "timestamp": "timestamp", "timestamptz": "timestamp"}
_STATEMENTS = words(
    "select with from insert update delete create drop alter copy attach detach set reset pragma call "
    "install load export import use begin commit rollback vacuum analyze explain describe show summarize "
    "pivot unpivot values"
)
_PLEASE_NAME = 'Write a column as a name, a text in single quotes, a keyword as a name in "double quotes".'


def parse(sql: str, *, raw: bool = False) -> Node:
    """The tree of `sql`. In the raw scope (`raw`) names are field paths: `a.b`, `a[0]`, `^.ts`.

    Raises:
        SqlProblem: the text is not one expression, or too long or too deep.
    """
    if len(sql) > EXPRESSION_CHARACTERS_MAX:
        raise SqlProblem(
            0,
            "sql-too-long",
            f"an expression of {len(sql):,} characters; at most {EXPRESSION_CHARACTERS_MAX:,} are read",
            "Split it into several columns.",
        )
    found = tokens(sql)
    if len(found) == 1:
        raise SqlProblem(0, "sql-syntax", "an empty expression", "Write an expression, such as price * quantity.")
    return _Parser(found, raw).whole()


class _Parser:
    """One pass over the tokens."""

    def __init__(self, found: list[Token], raw: bool) -> None:
        self._stream = TokenStream(found)
        self._raw = raw
        self._depth = 0
        self._heights: dict[int, tuple[int, Node]] = {}

    # -- depth --------------------------------------------------------------------------------------------------------

    def _grown(self, node: Node) -> Node:
        """`node`, once its height is known to be bounded: everything after us may then recurse over it."""
        height = 1 + max((self._heights.get(id(child), (1, child))[0] for child in node.children), default=0)
        if height > EXPRESSION_DEPTH_MAX:
            raise self._too_deep(node.offset)
        self._heights[id(node)] = (height, node)
        return node

    def _too_deep(self, offset: int) -> SqlProblem:
        return SqlProblem(
            offset,
            "sql-too-deep",
            f"an expression more than {EXPRESSION_DEPTH_MAX} levels deep",
            "Split it into several columns.",
        )

    # -- expressions --------------------------------------------------------------------------------------------------

    def whole(self) -> Node:
        node = self._expression()
        if self._stream.next.kind is not TokenKind.END:
            raise self._left_over()
        return node

    def _expression(self, tightness: int = 0) -> Node:
        """An expression whose operators bind tighter than `tightness`."""
        self._depth += 1
        if self._depth > EXPRESSION_DEPTH_MAX:
            raise self._too_deep(self._stream.next.start)
        node = self._prefix(tightness)
        while True:
            longer = self._infix(node, tightness)
            if longer is None:
                break
            node = self._grown(longer)
        self._depth -= 1
        return node

    def _prefix(self, tightness: int) -> Node:
        token = self._stream.next
        if token.is_word("not"):
            if tightness > _NOT:
                raise self._stream.unexpected("a value is wanted here", "Put parentheses around NOT ... .")
            self._stream.take()
            return self._grown(tree.Unary(token.start, "NOT", self._expression(_NOT - 1)))
        if token.is_operator("-", "+"):
            self._stream.take()
            return self._grown(tree.Unary(token.start, token.text, self._expression(_ZONE)))
        if token.is_operator("?", "$", "@", "!", "#", "~"):
            # DuckDB's ~ binds looser than +; whoever wants it can say it with xor.
            repair = "Write xor(x, -1)." if token.text == "~" else _PLEASE_NAME
            raise SqlProblem(token.start, "sql-refused", f"{token.text!r}: no parameters, no such operators", repair)
        return self._postfix(self._primary(), tightness)

    def _infix(self, left: Node, tightness: int) -> Node | None:
        """`left` with the next operator and its right side, or None where `left` ends."""
        token = self._stream.next
        if token.kind is TokenKind.OPERATOR:
            level = _BINARY.get(token.text, 0)
            if level <= tightness:
                return None
            self._stream.take()
            right = self._expression(level)
            if (
                level == _COMPARE
                and self._stream.next.kind is TokenKind.OPERATOR
                and _BINARY.get(self._stream.next.text) == _COMPARE
            ):
                raise self._chained()
            return tree.Binary(token.start, _SPELLED.get(token.text, token.text), left, right)
        if token.kind is not TokenKind.WORD:
            return None
        return self._infix_word(left, token, tightness)

    def _infix_word(self, left: Node, token: Token, tightness: int) -> Node | None:
        word = token.text.lower()
        negated = word == "not" and self._stream.peek(1).is_word("in", "like", "ilike", "between", "glob", "similar")
        follows = self._stream.peek(1).text.lower() if negated else word
        if word in ("and", "or"):
            return self._chain(left, word, tightness)
        if word in ("is", "isnull", "notnull"):
            return self._is(left, tightness)
        if follows in ("in", "like", "ilike", "between", "glob", "similar") and tightness < _IN:
            if negated:
                self._stream.take()
            return self._test(left, negated)
        if word == "at" and self._stream.peek(1).is_word("time") and tightness < _ZONE:
            self._stream.take()
            self._stream.take()
            self._stream.expect_word("zone", "AT TIME")
            return tree.AtTimeZone(token.start, left, self._expression(_ZONE))
        if word == "collate":
            raise SqlProblem(token.start, "sql-refused", "a collation", "Compare lower(a) with lower(b).")
        return None

    def _chain(self, left: Node, word: str, tightness: int) -> Node | None:
        level = _AND if word == "and" else _OR
        if level <= tightness:
            return None
        operands = [left]
        offset = self._stream.next.start
        while self._stream.take_word(word):
            operands.append(self._expression(level))
        return tree.Chain(offset, word.upper(), tuple(operands))

    def _is(self, left: Node, tightness: int) -> Node | None:
        """IS [NOT] NULL | TRUE | FALSE | UNKNOWN | DISTINCT FROM x, and ISNULL, NOTNULL."""
        token = self._stream.next
        if not token.is_word("is"):
            self._stream.take()
            return tree.Is(token.start, left, "NULL", negated=token.is_word("notnull"))
        distinct = self._stream.peek(1).is_word("distinct") or (
            self._stream.peek(1).is_word("not") and self._stream.peek(2).is_word("distinct")
        )
        if tightness >= (_DISTINCT if distinct else _IS):
            return None
        self._stream.take()
        negated = self._stream.take_word("not")
        if distinct:
            self._stream.take()
            self._stream.expect_word("from", "IS DISTINCT")
            operator = "IS NOT DISTINCT FROM" if negated else "IS DISTINCT FROM"
            return tree.Binary(token.start, operator, left, self._expression(_DISTINCT))
        test = self._stream.next.text.upper()
        if not self._stream.take_word("null", "true", "false", "unknown"):
            raise self._stream.unexpected("IS wants NULL, TRUE, FALSE or DISTINCT FROM here", "Compare values with =.")
        return tree.Is(token.start, left, test, negated)

    def _test(self, left: Node, negated: bool) -> Node:
        """[NOT] IN, LIKE, ILIKE, BETWEEN."""
        token = self._stream.take()
        word = token.text.lower()
        if word in ("glob", "similar"):
            raise SqlProblem(
                token.start, "sql-refused", f"the operator {word.upper()}", "Use LIKE or regexp_full_match()."
            )
        if word == "in":
            node: Node = tree.In(token.start, left, self._options(), negated)
        elif word == "between":
            low = self._expression(_IN)
            self._stream.expect_word("and", "BETWEEN")
            node = tree.Between(token.start, left, low, self._expression(_IN), negated)
        else:
            pattern = self._expression(_IN)
            escape = self._expression(_IN) if self._stream.take_word("escape") else None
            node = tree.Like(token.start, word.upper(), left, pattern, escape, negated)
        following = self._stream.peek(1) if self._stream.next.is_word("not") else self._stream.next
        if following.is_word("in", "like", "ilike", "between"):
            raise self._chained()
        return node

    def _options(self) -> tuple[Node, ...]:
        if not self._stream.next.is_operator("("):
            raise self._stream.unexpected("IN wants its values in parentheses", "Write IN ('a', 'b').")
        self._stream.take()
        self._refuse_query()
        return self._list_until(")", "IN (")

    def _chained(self) -> SqlProblem:
        return SqlProblem(
            self._stream.next.start,
            "sql-syntax",
            f"comparisons do not chain at {self._stream.next.text!r}",
            "Put parentheses around one of them, or join them with AND.",
        )

    # -- values -------------------------------------------------------------------------------------------------------

    def _primary(self) -> Node:
        token = self._stream.next
        if token.kind is TokenKind.NUMBER:
            self._stream.take()
            if float(token.text) == float("inf"):
                raise SqlProblem(token.start, "sql-syntax", f"the number {token.text}", "Numbers end at 1.8e308.")
            return tree.Literal(token.start, "number", token.text)
        if token.kind is TokenKind.STRING:
            self._stream.take()
            if self._stream.next.kind is TokenKind.STRING:
                raise self._stream.unexpected("one text follows another", "Join them with ||; write '' for a quote.")
            return tree.Literal(token.start, "text", token.text)
        if token.is_operator("("):
            return self._parenthesis()
        if token.is_operator("["):
            self._stream.take()
            return self._grown(tree.ListLiteral(token.start, self._list_until("]", "[")))
        if self._raw and token.is_operator("^") and self._stream.peek(1).is_operator("."):
            return field_path(self._stream)
        if token.is_operator("*"):
            raise SqlProblem(token.start, "sql-refused", "a star", "Name the columns.")
        if token.is_operator("{"):
            raise SqlProblem(token.start, "sql-refused", "a struct", "Write one column for each of its values.")
        if token.kind in (TokenKind.WORD, TokenKind.QUOTED):
            return self._word()
        raise self._stream.unexpected("a value is wanted here", _PLEASE_NAME)

    def _parenthesis(self) -> Node:
        self._stream.take()
        self._refuse_query()
        node = self._expression()
        if self._stream.next.is_operator(","):
            raise self._stream.unexpected("a list of values stands here", "Compare them one by one, joined with AND.")
        self._stream.expect_operator(")", "an open parenthesis")
        return node

    def _refuse_query(self) -> None:
        if self._stream.next.is_word("select", "with", "values", "from") and not self._stream.peek(1).is_operator(
            ",", ")", "."
        ):
            raise SqlProblem(
                self._stream.next.start,
                "sql-refused",
                "a subquery",
                "Look values up with `lookup:`; aggregate in `gold:`.",
            )

    def _list_until(self, close: str, what: str) -> tuple[Node, ...]:
        if self._stream.take_operator(close):
            return ()
        items = [self._expression()]
        while self._stream.take_operator(","):
            items.append(self._expression())
        self._stream.expect_operator(close, what)
        return tuple(items)

    def _word(self) -> Node:
        token = self._stream.next
        word = token.text.lower() if token.kind is TokenKind.WORD else ""
        after = self._stream.peek(1)
        special = _SPECIAL.get(word)
        if special is not None and (word in ("null", "true", "false", "case") or after.is_operator("(")):
            return special(self)
        if word in _TIME_LITERALS and after.kind is TokenKind.STRING:
            self._stream.take()
            return tree.TimeLiteral(token.start, _TIME_LITERALS[word], self._stream.take().text)
        if word == "interval" and (after.kind in (TokenKind.STRING, TokenKind.NUMBER) or after.is_operator("-")):
            return interval(self._stream)
        if after.is_operator("(") and word != "lambda":
            return self._call()
        if self._raw and word not in _RESERVED:
            return field_path(self._stream)
        if (word in _STATEMENTS and after.kind in (TokenKind.WORD, TokenKind.QUOTED)) or word in ("exists", "lambda"):
            raise SqlProblem(
                token.start,
                "sql-refused",
                f"{token.text.upper()}: a rule or a column is one expression, not a statement",
                "Write an expression over columns.",
            )
        if word in _RESERVED:
            raise self._stream.unexpected(
                "a value is wanted here", f'Write "{word}" in double quotes if it is a column.'
            )
        self._stream.take()
        if self._stream.next.is_operator("."):
            raise SqlProblem(
                token.start,
                "sql-refused",
                f"{token.text}.{self._stream.peek(1).text}: names have one part",
                "Name the silver column by itself; for a member of a json column write column->>'$.member'.",
            )
        return tree.Name(token.start, token.text, token.kind is TokenKind.QUOTED)

    # -- calls and special forms --------------------------------------------------------------------------------------

    def _call(self) -> Node:
        name = self._stream.take()
        self._stream.take()
        distinct = self._stream.take_word("distinct")
        star = False
        arguments: list[Node] = []
        if self._stream.next.is_operator("*") and self._stream.peek(1).is_operator(")"):
            self._stream.take()
            star = True
        elif not self._stream.next.is_operator(")"):
            self._refuse_query()
            arguments.append(self._argument())
            while self._stream.take_operator(","):
                arguments.append(self._argument())
        if self._stream.next.is_word("order"):
            raise SqlProblem(
                self._stream.next.start, "sql-refused", "ORDER BY in a call", "first and last follow silver's `order`."
            )
        self._stream.expect_operator(")", f"{name.text}(")
        call = tree.Call(name.start, name.text.lower(), tuple(arguments), star, distinct)
        if self._stream.next.is_word("filter") and self._stream.peek(1).is_operator("("):
            self._stream.take()
            self._stream.take()
            self._stream.expect_word("where", "FILTER (")
            call = replace(call, condition=self._expression())
            self._stream.expect_operator(")", "FILTER (")
        if self._stream.next.is_word("over"):
            raise SqlProblem(
                self._stream.next.start,
                "sql-refused",
                "a window function",
                "Aggregate in `gold:`; it has windows of time.",
            )
        return self._grown(call)

    def _argument(self) -> Node:
        """A call's argument: an expression, or `lambda x: ...`."""
        token = self._stream.next
        if not token.is_word("lambda"):
            if self._stream.peek(1).is_operator(":=", "=>"):
                raise SqlProblem(token.start, "sql-refused", "an argument by name", "Write its value alone.")
            return self._expression()
        self._stream.take()
        parameters = [step(self._stream)]
        while self._stream.take_operator(","):
            parameters.append(step(self._stream))
        self._stream.expect_operator(":", "lambda")
        return self._grown(tree.Lambda(token.start, tuple(parameters), body=self._expression()))

    def _constant(self) -> Node:
        token = self._stream.take()
        word = token.text.lower()
        return tree.Literal(token.start, "null" if word == "null" else "boolean", word.upper())

    def _case(self) -> Node:
        token = self._stream.take()
        operand = None if self._stream.next.is_word("when") else self._expression()
        branches = []
        while self._stream.take_word("when"):
            condition = self._expression()
            self._stream.expect_word("then", "CASE")
            branches.append((condition, self._expression()))
        if not branches:
            raise self._stream.unexpected(
                "CASE wants WHEN here", "Write CASE WHEN condition THEN value ELSE value END."
            )
        otherwise = self._expression() if self._stream.take_word("else") else None
        self._stream.expect_word("end", "CASE")
        return self._grown(tree.Case(token.start, operand, tuple(branches), otherwise))

    def _cast(self) -> Node:
        token = self._stream.take()
        self._stream.take()
        value = self._expression()
        self._stream.expect_word("as", "CAST")
        name = type_name(self._stream)
        self._stream.expect_operator(")", "CAST(")
        return self._grown(tree.Cast(token.start, value, name, safe=token.is_word("try_cast")))

    def _extract(self) -> Node:
        """EXTRACT(part FROM time), which is date_part('part', time)."""
        token = self._stream.take()
        self._stream.take()
        part = self._stream.take()
        if part.kind not in (TokenKind.WORD, TokenKind.STRING):
            raise SqlProblem(part.start, "sql-syntax", "EXTRACT wants a part of a time", "Write extract(hour FROM t).")
        self._stream.expect_word("from", "EXTRACT")
        value = self._expression()
        self._stream.expect_operator(")", "EXTRACT(")
        return self._grown(
            tree.Call(token.start, "date_part", (tree.Literal(part.start, "text", part.text.lower()), value))
        )

    def _position(self) -> Node:
        """POSITION(part IN text), which is strpos(text, part)."""
        token = self._stream.take()
        self._stream.take()
        part = self._expression(_IN)
        self._stream.expect_word("in", "POSITION")
        text = self._expression()
        self._stream.expect_operator(")", "POSITION(")
        return self._grown(tree.Call(token.start, "strpos", (text, part)))

    def _postfix(self, node: Node, tightness: int) -> Node:
        """`::type`, `[index]` and `->` after a value."""
        while True:
            token = self._stream.next
            if token.is_operator("::"):
                self._stream.take()
                node = self._grown(tree.Cast(token.start, node, type_name(self._stream), safe=False))
            elif token.is_operator("["):
                node = self._grown(self._subscript(node))
            elif token.is_operator("->", "->>"):
                node = self._arrow(node, tightness)
            else:
                return node

    def _subscript(self, node: Node) -> Node:
        offset = self._stream.take().start
        low = None if self._stream.next.is_operator(":") else self._expression()
        is_slice = self._stream.take_operator(":")
        high = None if not is_slice or self._stream.next.is_operator("]") else self._expression()
        self._stream.expect_operator("]", "[")
        return tree.Subscript(offset, node, low, high, is_slice)

    def _arrow(self, node: Node, tightness: int) -> Node:
        """`json -> key`. DuckDB binds it looser than OR, so beside another operator we want parentheses."""
        while self._stream.next.is_operator("->", "->>"):
            token = self._stream.take()
            node = self._grown(tree.Binary(token.start, token.text, node, self._primary()))
        if tightness > 0 or self._binds(self._stream.next):
            raise SqlProblem(
                node.offset,
                "sql-syntax",
                "-> beside another operator: which one comes first?",
                "Put parentheses around it: (payload->>'$.name') = 'x'.",
            )
        return node

    def _binds(self, token: Token) -> bool:
        words = ("and", "or", "is", "isnull", "notnull", "not", "in", "like", "ilike", "between", "at")
        return token.is_word(*words) or token.is_operator("::", "[", *_BINARY)

    def _left_over(self) -> SqlProblem:
        token = self._stream.next
        if token.is_operator(";"):
            return SqlProblem(token.start, "sql-refused", "a semicolon", "Write one expression without a semicolon.")
        if token.is_word("as"):
            return SqlProblem(token.start, "sql-refused", "AS", "The name stands before the colon; leave AS away.")
        if token.is_word(*_STATEMENTS):
            return SqlProblem(token.start, "sql-refused", f"{token.text.upper()} after an expression", "Remove it.")
        return self._stream.unexpected(
            "the expression ends here, or an operator is missing", "Join two values by an operator."
        )


_SPECIAL: dict[str, Callable[[_Parser], Node]] = {
    "null": _Parser._constant,
    "true": _Parser._constant,
    "false": _Parser._constant,
    "case": _Parser._case,
    "cast": _Parser._cast,
    "try_cast": _Parser._cast,
    "extract": _Parser._extract,
    "position": _Parser._position,
}
"""Words that start a form of their own."""
