"""What does it cost to keep a full order book, for each change that comes?

Both clients decode the recorded messages of one market of Binance USD-M one by one, apply them to
the recorded book, and must have the same prices in the end. It needs ../shared/captures.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from lab import (
    PEERS,
    ROOT,
    Aim,
    Options,
    client,
    expect,
    in_turn,
    main,
    middle,
    print_table,
    print_title,
    scratch,
)

CAPTURES = ROOT.parent / "shared" / "captures"
MARKET = "SUSHIUSDT"
OURS, CRYPTOFEED = "ours", "cryptofeed 2.4.1"
PEERS["cryptofeed"] = ("cryptofeed==2.4.1", "pyarrow==21.0.0", "uvloop==0.22.1")


def measure(options: Options) -> list[Aim]:
    """Both in turn; medians."""
    print_title(__doc__)
    if not CAPTURES.exists():
        print(f"left out: there is no {CAPTURES}")
        return []
    times = 50 if options.small else 300
    with scratch() as folder:
        path = folder / "record.json"
        record = _record()
        path.write_text(json.dumps(record))
        given: dict[str, Any] = {"record": str(path), "times": times}
        variants = {
            OURS: partial(client, "ours_book", None, **given),
            CRYPTOFEED: partial(client, "cryptofeed_book", "cryptofeed", **given),
        }
        found = in_turn(options.rounds, variants, warm_up=False)
    changes = len(record["messages"]) * times
    for name, many in found.items():
        expect(many[0]["rows"], changes, name)
    if found[OURS][0]["book"] != found[CRYPTOFEED][0]["book"]:
        raise RuntimeError("the books are not the same")
    costs = {name: middle(many, "cpu") / changes * 1e6 for name, many in found.items()}
    print_table(
        ["a full book", "µs of CPU a change"],
        [[name, f"{cost:.1f}"] for name, cost in costs.items()],
    )
    ratio = costs[CRYPTOFEED] / costs[OURS]
    return [
        Aim("full book: cheaper a change than cryptofeed", "≥ 1 ×", f"{ratio:.1f} ×", ratio >= 1)
    ]


def _record() -> dict[str, Any]:
    """The market's book and the messages that follow it."""
    asked = _lines(CAPTURES / "binance_usdm.depth.jsonl")
    book = next(line["msg"] for line in asked if f"symbol={MARKET}&" in line["url"])
    came = [line["msg"] for line in _lines(CAPTURES / "binance_usdm.ws.jsonl")]
    name = f"{MARKET.lower()}@depth@100ms"
    later = [
        json.dumps(message, separators=(",", ":"))
        for message in came
        if message and message.get("stream") == name and message["data"]["u"] > book["lastUpdateId"]
    ]
    return {"market": MARKET, "book": book, "messages": later}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main(measure, __doc__))
