"""Which feed carries a subscription."""

from dccd_core.exchanges.live import Subscription
from dccd_core.exchanges.trades import TradesHistory
from dccd_core.models import Channel, Series
from dccd_core.store.journal import JournalWriter
from dccd_streams.book_feed import BookFeed
from dccd_streams.candle_feed import CandleFeed
from dccd_streams.feed import Feed
from dccd_streams.trade_feed import TradeFeed
from dccd_streams.venue import Venue


def make_feed(
    venue: Venue, subscription: Subscription, series: Series, journal: JournalWriter, settle: float
) -> Feed:
    """A new feed; of candles for this series."""
    exchange, healer = venue.exchange, venue.healer
    match subscription.channel:
        case Channel.TRADES:
            return TradeFeed(
                subscription,
                journal,
                healer.trades,
                contiguous=isinstance(exchange, TradesHistory) and exchange.contiguous,
                healable=healer.has_trades,
                settle=settle,
            )
        case Channel.OHLC:
            gapless = venue.live.live_gapless
            return CandleFeed(subscription, journal, healer.candles, series, gapless=gapless)
        case _:
            return BookFeed(subscription, journal)
