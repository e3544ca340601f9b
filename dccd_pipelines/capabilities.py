"""What each exchange gives, as the table in docs/exchanges.md. `make docs` writes it."""

from dccd_core.exchanges import load_all
from dccd_core.exchanges.base import Exchange
from dccd_core.models import span_label

HEAD = """\
# Exchanges

Made from the code by `make docs`; a test holds it. What an exchange cannot do is refused by
`dccd validate`, with what it has instead.

"""
COLUMNS = ("name", "exchange", "candle spans", "candles a request", "requests a minute", "holes")


def capabilities() -> str:
    """The whole page as Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(one) for one in load_all().values())]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    notes = """

- *requests a minute*: of full pages, after the burst; `exchanges.{name}.requests` takes a part.
- *holes*: "doubted" where the exchange serves every interval, so that a hole is asked about four
  times before it is believed; "ordinary" where intervals without trades are left out.
- Derivatives are written `BTC/USDT:PERP`, dated ones `BTC/USDT:260925`.
"""
    return HEAD + table + notes


def _row(exchange: Exchange) -> tuple[str, ...]:
    limits = exchange.limits
    rate = limits.weight / limits.page_weight / limits.seconds * 60
    return (
        f"`{exchange.name}`",
        f"[{exchange.title}]({exchange.docs})",
        " ".join(span_label(span) for span in sorted(exchange.spans)),
        f"{limits.page:,}",
        f"{rate:,.0f}",
        "doubted" if exchange.gapless else "ordinary",
    )
