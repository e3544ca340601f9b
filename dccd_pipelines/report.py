"""What a backfill would do, and what it did."""

from dataclasses import dataclass, field

from dccd_core.models import Series, Window


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """What is missing of one series: its windows, and the requests and seconds they take.

    `requests` and `seconds` are None where nobody can know; of trades they are a guess by stored
    days, or in a dry run by a sample. `problem` says why nothing of it can be had, if that is known
    already; `note` why less than what is wanted can.
    """

    series: Series
    missing: list[Window]
    requests: int | None
    seconds: float | None
    problem: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """Live channels of one pair; `problem` says why they cannot be had, if that is so."""

    name: str
    channels: str
    problem: str


@dataclass(slots=True)
class Report:
    """What a backfill did, or with `dry_run` would do.

    `rows` were added and `revised` replaced; `failed` names each window that is still missing,
    with its reason; `runs` are the ids of Dagster's runs.
    """

    plans: list[SeriesPlan]
    rows: int = 0
    revised: int = 0
    failed: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is missing of what was asked for."""
        return not self.failed
