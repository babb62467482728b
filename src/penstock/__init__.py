"""Penstock: a streaming lakehouse in one Python package. `penstock.open` is the door for Python programs."""

__version__ = "0.1.0"
