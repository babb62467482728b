"""What every test run prints at its end."""

pytest_plugins = ["faults.summary"]
