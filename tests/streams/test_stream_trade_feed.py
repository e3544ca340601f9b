"""What a feed of trades asks to be fetched after a message that could not be read."""

from pathlib import Path

from dccd_core.exchanges.base import Instrument
from dccd_core.exchanges.live import Subscription
from dccd_core.exchanges.trades import Trade
from dccd_core.models import SECOND, Channel, Series, Symbol
from dccd_core.store.journal import JournalWriter
from dccd_streams.heal_plan import Hole
from dccd_streams.link import Link
from dccd_streams.timing import Timing
from dccd_streams.trade_feed import TradeFeed

SYMBOL = Symbol("BTC", "USD")
START = 1_795_000_000 * SECOND
WHY = "an unreadable message"


def trade(second: int) -> Trade:
    at = START + second * SECOND
    return Trade(at, at, f"id-{second}", 1.0, 1.0, True)


def test_a_bad_message_at_the_end_of_a_batch_is_inside_the_hole(tmp_path: Path) -> None:
    holes: list[Hole] = []
    journal = JournalWriter(tmp_path)
    feed = TradeFeed(
        Subscription(Instrument(SYMBOL, "XBTUSD", True), Channel.TRADES),
        journal,
        lambda _, hole: holes.append(hole),
        contiguous=False,
        healable=True,
        settle=1.0,
    )
    feed.record = Series("bitmex", Channel.TRADES, SYMBOL)
    link = Link(feed, Timing())
    feed.opened(link)
    feed.take(link, [trade(0), trade(1)])
    holes.clear()
    feed.gap(link, WHY)  # it held a trade of second 4
    feed.take(link, [trade(2), trade(3)])  # came with it, before it
    feed.take(link, [trade(5)])
    assert holes == [Hole(START + 1 * SECOND, START + 5 * SECOND, WHY)]
    feed.gap(link, WHY)
    feed.take(link, [trade(8)])  # after it, in a batch of its own
    feed.take(link, [trade(9)])
    assert holes[1:] == [Hole(START + 5 * SECOND, START + 9 * SECOND, WHY)]
    journal.close()
