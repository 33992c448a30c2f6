"""The limit of open files: raised as far as it may be, and named with a way out where that is not far."""

from __future__ import annotations

import subprocess
import sys

from clm_site import open_files
from tests.serving.server import ROOT


def test_a_low_limit_is_named_with_what_it_is_enough_for_and_how_to_raise_it():
    text = open_files.warning(256)
    assert "may open 256 files" in text
    assert "about 156 open pages" in text
    assert "LimitNOFILE=65536" in text
    assert open_files.warning(open_files.FEW) == ""


def test_the_soft_limit_is_raised_to_the_hard_one():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512));"
        "from clm_site import open_files; print(open_files.raise_limit());"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["512", "512"]
