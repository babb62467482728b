"""Where records come from: one file per kind of source behind `contract.py`; `opening.py` makes the declared one."""
