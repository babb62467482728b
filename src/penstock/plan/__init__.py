"""What a pipeline means, as SQL: expressions, the refine step, measures. Knows no engine; `compile.py` is the way in."""
