"""Puts this folder on the path, so that every test finds helpers.py, and the programs of our
environment before others: rclone is one of them."""

import os
import sys
from pathlib import Path

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
