"""The page `health/overview`: every series in one table, and a picture of what is stored."""

import base64
import re
import time
from collections.abc import Mapping

import dagster as dg

from dccd_core.config import Config
from dccd_core.coverage_map import coverage_of, heat_map
from dccd_core.freshness import State
from dccd_core.health import HealthMonitor, JobMetrics
from dccd_core.messages import duration, without_queries
from dccd_core.models import moment
from dccd_core.store.datastore import DataStore
from dccd_core.store.inventory import InventoryRow
from dccd_pipelines.health_run import observer_of
from dccd_pipelines.owed import owed
from dccd_pipelines.tables import counted, size

# The worst comes first: of 300 series nobody reads to the end.
_ORDER = [State.STALE, State.EMPTY, State.QUIET, State.UNLIMITED, State.FRESH]
_COLUMNS = ["series", "state", "age", "last error", "last", "rows", "gaps", "missing", "size"]
# An error begins with the period and the window that it is of.
_HYPHEN = "-\N{WORD JOINER}"  # a date is not broken at it
_WHERE = re.compile(r"^\S+: \S+ … \S+: ")


def overview(config: Config, now: float | None = None) -> Mapping[str, dg.MetadataValue]:
    """What the asset's page shows, at a moment."""
    now = time.time() if now is None else now
    data = config.settings.data_path
    store, metrics = DataStore(data), HealthMonitor(data).get_metrics(now)
    rows = {row.series: row for row in store.inventory_rows(owed(config, now)) if row.error is None}
    found = observer_of(config).freshness(now)
    records = []
    for one in sorted(found, key=lambda one: _ORDER.index(one.state)):
        age = "" if one.age is None else duration(one.age)
        row = rows.get(one.series)
        failed = metrics.get(str(one.series), JobMetrics(str(one.series)))
        error = failed.last_error if failed.consecutive_errors else None
        records.append(
            dg.TableRecord(
                {
                    "series": str(one.series),
                    "state": str(one.state),
                    "age": _whole(age),
                    **_figures(row),
                    "last error": without_queries(_WHERE.sub("", error or ""))[:120],
                }
            )
        )
    picture = heat_map(coverage_of(store, [one.series for one in found]), int(now * 1_000_000))
    states = [str(one.state) for one in found]
    return {
        "series": dg.MetadataValue.int(len(found)),
        **{
            name: dg.MetadataValue.int(states.count(name))
            for name in ("fresh", "quiet", "stale", "empty", "unlimited")
        },
        "rows": dg.MetadataValue.int(sum(row.rows for row in rows.values())),
        "bytes": dg.MetadataValue.int(sum(row.bytes for row in rows.values())),
        "gaps_to_fetch": dg.MetadataValue.int(sum(row.missing or 0 for row in rows.values())),
        **({"coverage": dg.MetadataValue.md(_image(picture))} if picture else {}),
        "table": dg.MetadataValue.table(
            records, dg.TableSchema([dg.TableColumn(name, "string") for name in _COLUMNS])
        ),
    }


def _figures(row: InventoryRow | None) -> dict[str, str]:
    if row is None:
        return {"last": "", "rows": "0", "gaps": "", "missing": "", "size": ""}
    last = "" if row.last is None else f"{moment(row.last):%Y-%m-%d %H:%M}"
    counts = {"rows": row.rows, "gaps": row.gaps, "missing": row.missing}
    shown = {name: counted(number) for name, number in counts.items()}
    return {"last": last.replace("-", _HYPHEN), **shown, "size": _whole(size(row.bytes))}


def _whole(text: str) -> str:
    """A text that is not broken into lines: narrow columns are read a word a line otherwise."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _image(svg: str) -> str:
    return f"![coverage](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
