"""A live view of a backfill: one line per series that is being collected."""

from threading import Lock
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dccd_core.history import Progress as Step
from dccd_core.messages import many
from dccd_core.models import Series


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        rows, elapsed = task.fields["rows"], task.elapsed or 0.0
        rate = rows / elapsed if elapsed else 0.0
        return Text(f"{rows:>11,} rows {rate:>8,.0f}/s", style="cyan")


class LiveProgress:
    """Draws what it is told; without a terminal it prints one line per finished series."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[Series, TaskID] = {}
        self._told: set[Series] = set()
        self._lock = Lock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, step: Step) -> None:
        """Show one step; may be called from any thread."""
        with self._lock:
            if step.series not in self._tasks:
                self._tasks[step.series] = self._bars.add_task(
                    str(step.series), total=step.total, rows=0
                )
            task = self._tasks[step.series]
            self._bars.update(task, completed=step.done, total=step.total, rows=step.rows)
            if step.ended and step.series not in self._told:
                self._told.add(step.series)
                self._bars.update(task, visible=False)
                self._console.print(f"{step.series}: {_ended(step)}", soft_wrap=True)


def _ended(step: Step) -> str:
    """What came of a series, and of how much of it."""
    if not step.series.span:  # pages of trades are not known beforehand
        part = f" in {step.done / step.total:.0%} of what was missing" if step.failed else ""
        said = f"{many(step.rows, 'trade')}{part}"
    else:
        done = f"{step.done:,} of " if step.failed else ""
        said = f"{many(step.rows, 'candle')} in {done}{many(step.total, 'page')}"
    return f"cancelled: {said}" if step.cancelled else said
