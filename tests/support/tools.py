"""Programs that come from Debian's packages. Where one is missing its tests skip and say what to install.

With ``MASKCAST_REQUIRE_TOOLS`` set they run all the same, and so fail.
"""

import os
import shutil

import pytest


def needs_tool(program: str, package: str) -> pytest.MarkDecorator:
    """Skips a test where ``program`` is not on the path."""
    missing = shutil.which(program) is None and not os.environ.get("MASKCAST_REQUIRE_TOOLS")
    return pytest.mark.skipif(missing, reason=f"no {program}: apt-get install --no-install-recommends {package}")
