"""The embedded engine: DuckDB and Arrow in threads of this process, in bounded memory."""
