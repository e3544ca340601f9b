"""Exchanges on your own machine: their wire protocols on 127.0.0.1, with faults on demand."""

from dccd_sandbox.box import Sandbox
from dccd_sandbox.faults import Rule
from dccd_sandbox.load import Load
from dccd_sandbox.settings import Settings
from dccd_sandbox.stream_faults import StreamFault

__all__ = ["Load", "Rule", "Sandbox", "Settings", "StreamFault"]
