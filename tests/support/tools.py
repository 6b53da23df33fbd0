"""Marks for tests that need a program of a Debian package: without it they are skipped with advice what to install.

With ``MASKCAST_REQUIRE_TOOLS`` they are not skipped, and fail.
"""

import os
import shutil

import pytest


def needs_tool(program: str, package: str) -> pytest.MarkDecorator:
    """Mark that skips a test where ``program`` is not on the path."""
    missing = shutil.which(program) is None and not os.environ.get("MASKCAST_REQUIRE_TOOLS")
    return pytest.mark.skipif(missing, reason=f"no {program}: apt-get install --no-install-recommends {package}")
