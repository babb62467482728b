"""Project folders that `penstock init` copies: each subfolder is a project that checks, tests and runs as it stands.

`gitignore` is copied as `.gitignore`. How it is done is in `penstock.ops.scaffold`.
"""
