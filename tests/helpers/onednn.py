"""Where tests of oneDNN can run."""

import os
import sys

import pytest

only_where_it_exists = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64",
    reason="the package has no files for this machine",
)
