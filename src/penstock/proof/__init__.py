"""The independent witness: checks the laws from the files, and follows rows through the tables.

`audit.py` checks every law, `trace.py` follows one row back to its bytes or one record forward to its windows,
`rejects.py` lists what was not accepted. Nothing here is shared with the code that writes the tables: the SQL is made
from the contract alone (`windows.py`, `recompute.py`, `events.py`), and files are read by `witness.py`.
"""
