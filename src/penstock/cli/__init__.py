"""The command line: one file per command, no logic. `main.py` is the door; what commands do is in `penstock.wire`."""
