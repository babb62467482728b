"""Engines say how: they run the plan's SQL. What is run, and in which order, is `run`'s. See `contract.py`."""
