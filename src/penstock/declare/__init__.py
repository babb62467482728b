"""From YAML to nouns: every finding about the user's files at once, or a `model.Pipeline`.

`pipeline.py` loads one declaration, `project.py` a folder of them, `testfile.py` a test; `compare.py` says which
changes of an applied declaration are refused. `spec.py` explains how fields are described once for all uses.
"""

from penstock.declare.pipeline import Loaded, load_pipeline

__all__ = ["Loaded", "load_pipeline"]
