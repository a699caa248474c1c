"""A fiftieth of what the benchmark of the waiting room holds, with bounds to match."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.log_forms import REPOSITORY


def test_memory_and_restart_keep_their_bounds(tmp_path):
    """Fails when the join holds what waits in memory twice over, or reads it all again after SIGKILL."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "app")])}
    command = ["-m", "benchmarks.waiting_room", "--events", "200000", "--labels", "20000", "--folder", str(tmp_path)]

    ended = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)

    assert 0 == ended.returncode, ended.stdout + ended.stderr
