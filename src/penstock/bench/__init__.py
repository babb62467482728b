"""The workloads behind the figures: each prints its workload, its versions and row counts that reconcile."""

from penstock.bench.ticks import main

__all__ = ["main"]
