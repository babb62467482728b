"""The loop: what turns a declaration, a source, a lake and an engine into tables. Start reading at `service.py`."""
