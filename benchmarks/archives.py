"""How long does a year of 1m candles take from published files, and how long by REST?

A round trip takes 100 ms, and REST has the real limit of 6,000 weight a minute. The two runs use
servers of their own, warmed up, so that neither waits for candles to be made. Of the files only the
round trip is simulated, no limit of the line: a year is 26 MB.
"""

import sys
from datetime import timedelta
from functools import partial

from lab import (
    YEAR,
    Aim,
    Options,
    Result,
    client,
    expect,
    in_turn,
    main,
    middle,
    print_table,
    print_title,
    scratch,
)

from dccd_core.models import microseconds
from dccd_sandbox import Sandbox, Settings

FILES, REST = "published files", "REST alone"
MOST_REQUESTS = 14


def measure(options: Options) -> list[Aim]:
    """Both in turn."""
    print_title(__doc__)
    start, end = microseconds(YEAR[0]), microseconds(YEAR[1])
    if options.small:
        end = microseconds(YEAR[0] + timedelta(days=59))  # two whole months
    rows = (end - start) // 60_000_000
    settings = Settings(weight_limit=6_000, latency=0.1)
    given = {"start": start, "end": end}
    with Sandbox(settings, process=True) as own, Sandbox(settings, process=True) as other:
        results = in_turn(
            options.rounds,
            {
                FILES: partial(_run, own, archive=f"{own.url}/archives/binance", **given),
                REST: partial(_run, other, archive="", **given),
            },
        )
    for name, many in results.items():
        for one in many:
            expect(one["rows"], rows, name)
    _print(results)
    files, rest = middle(results[FILES], "wall"), middle(results[REST], "wall")
    asked = {
        name: int(middle(many, "files") + middle(many, "pages")) for name, many in results.items()
    }
    return [
        Aim(
            "requests for a 1m year from files, with those for its beginning",
            f"<= {MOST_REQUESTS}",
            f"{asked[FILES]} (REST {asked[REST]})",
            asked[FILES] <= MOST_REQUESTS,
        ),
        Aim(
            "time from files, of that by REST",
            "less",
            f"{files:.1f} s, {rest:.1f} s: {rest / files:.1f}x less",
            files < rest,
        ),
    ]


def _run(box: Sandbox, archive: str, start: int, end: int) -> Result:
    box.reset()  # the weight that the run before has used in this minute
    with scratch() as folder:
        found = client(
            "ours_archive",
            folder=str(folder),
            url=box.binance_url,
            archive=archive,
            start=start,
            end=end,
        )
    stats = box.stats(last=0)
    counts = {path: sum(answers.values()) for path, answers in stats["paths"].items()}
    files = sum(count for path, count in counts.items() if path.startswith("/archives/"))
    pages = counts.get("/binance/api/v3/klines", 0)
    weight = stats["max_used_weight"]["binance"]
    others = sum(counts.values()) - files - pages
    return found | {"files": files, "pages": pages, "others": others, "weight": weight}


def _print(results: dict[str, list[Result]]) -> None:
    table = [
        (
            name,
            f"{middle(many, 'wall'):.1f}",
            f"{middle(many, 'cpu'):.2f}",
            str(int(middle(many, "files"))),
            str(int(middle(many, "pages"))),
            str(int(middle(many, "others"))),
            str(max(one["weight"] for one in many)),
        )
        for name, many in results.items()
    ]
    head = ["way", "s", "CPU s", "files", "klines", "other requests", "weight in a minute"]
    print_table(head, table)


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
