"""Puts this folder on the path, so that every test finds helpers.py, and the programs of our
environment before others: rclone is one of them."""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

# an example has no time that it must be done in: a busy machine may take a second
settings.register_profile("slow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("slow")
