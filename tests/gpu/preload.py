"""Imports what steps need, once for all of them; a package that is missing shows in the steps that need it."""

from contextlib import suppress
from importlib import import_module

ROOMS = ("measurements", "correctness", "machine", "load.daemon_load")

for room in ROOMS:
    with suppress(Exception):
        import_module(f"tests.gpu.{room}")
