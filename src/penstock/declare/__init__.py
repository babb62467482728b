"""From YAML to nouns: every finding about the user's files at once, or a `model.Pipeline`.

`pipeline.py` loads one declaration, `project.py` a folder of them, `testfile.py` a test; `compare.py` says which
changes of an applied declaration are refused. `spec.py` explains how fields are described once for all uses.
"""

from penstock.declare.compare import compare
from penstock.declare.pages import reference_pages
from penstock.declare.pipeline import Loaded, load_pipeline
from penstock.declare.project import LoadedProject, load_project
from penstock.declare.schema import json_schema
from penstock.declare.testfile import ExpectedRow, GivenRecord, PipelineTest, load_test_file

__all__ = [
    "ExpectedRow",
    "GivenRecord",
    "Loaded",
    "LoadedProject",
    "PipelineTest",
    "compare",
    "json_schema",
    "load_pipeline",
    "load_project",
    "load_test_file",
    "reference_pages",
]
