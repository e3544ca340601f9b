"""dccd 3.8.1: what is stored, asked twice by one process."""

import asyncio
from pathlib import Path

import dccd
from meter import Meter, arguments


async def main() -> None:
    """The first and the second look."""
    folder = Path(arguments()["folder"])
    config = folder.with_suffix(".yml")
    config.write_text(f"settings: {{data_path: {folder}}}\n")
    async with dccd.Client(str(config)) as client:
        with Meter() as first:
            rows = len(client.inventory())
        with Meter() as second:
            client.inventory()
    first.report(rows=rows, again=second.wall, cpu_again=second.cpu)


asyncio.run(main())
