"""Ours: one backfill, from published files if there is an `archive`, else by REST alone."""

from pathlib import Path

from meter import Meter, arguments
from ours import collect

from dccd_core.config import parse_config
from dccd_core.models import Window


def main() -> None:
    """Fetch 1m candles from start to end."""
    given = arguments()
    addresses = f"rest_url: {given['url']}"
    if given["archive"]:
        addresses += f", archive_url: {given['archive']}"
    text = (
        "settings: {data_path: ./data, timezone: UTC}\n"
        "histo_jobs: [{exchange: binance, span: 1m, pairs: [BTC/USDT]}]\n"
        f"exchanges: {{binance: {{{addresses}}}}}\n"
    )
    config = parse_config(text, Path(given["folder"]) / "config.yml")
    with Meter() as meter:
        outcome = collect(config, config.series()[0], Window(given["start"], given["end"]))
    meter.report(rows=outcome.added, note=outcome.note)


main()
