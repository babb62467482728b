"""What a pipeline means, as SQL: expressions, the refine step, measures. Knows no engine.

`compile` is the way in (`compile.py`); `nouns.py` says what it gives.
"""

from penstock.plan.arrowfunctions import ArrowFunction
from penstock.plan.compile import compile, findings  # noqa: A004 - the word of the trade
from penstock.plan.explain import Explanation, explain
from penstock.plan.gold import GoldPlan, compile_gold
from penstock.plan.nouns import Plan, RefinePlan

__all__ = [
    "ArrowFunction",
    "Explanation",
    "GoldPlan",
    "Plan",
    "RefinePlan",
    "compile",
    "compile_gold",
    "explain",
    "findings",
]
