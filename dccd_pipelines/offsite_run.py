"""What Dagster knows of a remote: its asset, the job that copies to it, and when that runs."""

import json
import time
from collections.abc import Iterator, Sequence

import dagster as dg

from dccd_core.config import Config
from dccd_core.offsite import RemoteStorage, failure
from dccd_core.offsite_push import Pushed
from dccd_core.offsite_rclone import OffsiteError
from dccd_core.offsite_remote import Target
from dccd_core.retention import Cleared, Retention
from dccd_pipelines.foreground import UNFINISHED

GROUP = "offsite"
RETENTION = dg.AssetKey([GROUP, "local", "retention"])  # no remote has a key of three parts
INCIDENT = "incident"
"""The key of the metadata that says, in a sentence, what is to be done by a person."""
_LISTED = 50


def remote_asset(config: Config, target: Target) -> dg.AssetsDefinition:
    """The copy of the data at one remote."""

    @dg.asset(
        key=remote_key(target),
        group_name=GROUP,
        kinds={"rclone"},
        description=f"The copy of the data at {target.shown}"[:80],
        metadata={"remote": dg.MetadataValue.text(target.shown)},
    )
    def copy(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        storage = RemoteStorage(config.storage, say=context.log.info)
        pushed = storage.push_to(target, config.settings.data_path)
        if wrong := failure(pushed):
            raise dg.Failure(
                wrong,
                metadata={INCIDENT: dg.MetadataValue.text(wrong), **copy_metadata(pushed)},
                allow_retries=False,
            )
        return dg.MaterializeResult(metadata=copy_metadata(pushed))

    return copy


def retention_asset(config: Config, targets: Sequence[Target]) -> dg.AssetsDefinition:
    """What was removed here, as it is old and every remote has it."""

    @dg.asset(
        key=RETENTION,
        deps=[remote_key(target) for target in targets],
        group_name=GROUP,
        kinds={"rclone"},
        description="Files removed here, which every remote has",
    )
    def retention(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        storage = RemoteStorage(config.storage, say=context.log.info)
        try:
            cleared = Retention(config, storage).run()
        except OffsiteError as error:
            told = {INCIDENT: dg.MetadataValue.text(f"nothing was removed here: {error}")}
            raise dg.Failure(str(error), metadata=told, allow_retries=False) from None
        return dg.MaterializeResult(metadata=_cleared_metadata(cleared))

    return retention


def _cleared_metadata(cleared: Cleared) -> dict[str, dg.MetadataValue]:
    found: dict[str, dg.MetadataValue] = {
        "files": dg.MetadataValue.int(len(cleared.files)),
        "bytes": dg.MetadataValue.int(cleared.bytes),
    }
    lists = {
        "removed": cleared.files,
        "kept": [f"{what}: {why}" for what, why in cleared.kept.items()],
    }
    return found | {
        name: dg.MetadataValue.text(_shortened(lines)) for name, lines in lists.items() if lines
    }


def remote_key(target: Target) -> dg.AssetKey:
    """The asset key of a remote."""
    return dg.AssetKey([GROUP, target.name])


def job_name(target: Target) -> str:
    """The name of the job that copies to a remote."""
    return f"offsite_{target.name.replace('-', '_')}_job"


def copy_metadata(pushed: Pushed) -> dict[str, dg.MetadataValue]:
    """What one copy did."""
    found: dict[str, dg.MetadataValue] = {
        "files": dg.MetadataValue.int(pushed.files),
        "bytes": dg.MetadataValue.int(pushed.bytes),
        "seconds": dg.MetadataValue.float(round(pushed.seconds, 1)),
        "compared_by": dg.MetadataValue.text(pushed.compared),
    }
    lists = {
        "kept_at_the_remote": pushed.kept,
        "changed_while_copied": pushed.waiting,
        "not_copied": [f"{path}: {why}" for path, why in pushed.unreadable.items()],
    }
    for name, lines in lists.items():
        if lines:
            found[name] = dg.MetadataValue.text(_shortened(lines))
    return found


def _shortened(lines: Sequence[str]) -> str:
    more = [f"… {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n".join([*lines[:_LISTED], *more])


def remote_sensor(config: Config, target: Target) -> dg.SensorDefinition:
    """Copies after new materializations, at most every `sync_interval`; what failed is tried again
    after as long. The cursor says what was copied last, and when that began."""
    name = job_name(target)
    interval = config.storage.sync_interval

    @dg.sensor(
        name=name.removesuffix("_job") + "_sensor",
        job_name=name,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"copies new data to {target.shown}"[:80],
    )
    def look(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        known = json.loads(context.cursor) if context.cursor else {"seen": -1, "at": 0.0}
        now = time.time()
        # a clock that was set back must not put the copies off
        if 0 <= now - known["at"] < interval:
            yield dg.SkipReason(f"the next copy is due in {interval - (now - known['at']):.0f} s")
            return
        if going := context.instance.get_runs(
            dg.RunsFilter(job_name=name, statuses=UNFINISHED), limit=1
        ):
            yield dg.SkipReason(f"run {going[0].run_id} has not ended")
            return
        newest = _newest(context)
        if newest <= known["seen"] and not _failed(context.instance, name):
            yield dg.SkipReason("nothing new to copy")
            return
        context.update_cursor(json.dumps({"seen": newest, "at": now}))
        yield dg.RunRequest()

    return look


def _newest(context: dg.SensorEvaluationContext) -> int:
    """The number of the newest materialization of any data, 0 if there is none."""
    repository = context.repository_def
    if repository is None:
        raise ValueError("a sensor of remotes needs the code location that it is part of")
    keys = [
        key for key in repository.asset_graph.get_all_asset_keys()
        if key.path[0] not in (GROUP, "health")
    ]  # fmt: skip
    records = context.instance.get_asset_records(keys)
    return max((one.asset_entry.last_materialization_storage_id or 0 for one in records), default=0)


def _failed(instance: dg.DagsterInstance, name: str) -> bool:
    last = instance.get_run_records(dg.RunsFilter(job_name=name), limit=1)
    return bool(last) and last[0].dagster_run.status is not dg.DagsterRunStatus.SUCCESS
