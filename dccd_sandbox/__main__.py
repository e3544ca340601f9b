"""`python -m dccd_sandbox`: serve until SIGINT or SIGTERM."""

import argparse
import asyncio
import signal
import sys
from datetime import UTC, datetime

from dccd_sandbox.app import App
from dccd_sandbox.faults import KINDS, Rule
from dccd_sandbox.http import Reply, Request
from dccd_sandbox.server import Server
from dccd_sandbox.settings import DEFAULT_SYMBOLS, Settings

_EPILOG = """\
streams: ws://HOST:PORT/EXCHANGE and the exchange's own path, such as /binance/ws/btcusdt@trade
load for benchmarks: prebuilt messages of what a connection subscribes to, as fast as it reads or
at a rate; begun by --rate 1500 here and
  curl -d '{"exchange": "binance", "messages": 200000, "connections": 4, "rate": 2000}' \\
       http://HOST:PORT/_sandbox/load        (without "rate": as fast as they are read)
  curl http://HOST:PORT/_sandbox/stats       ("streams", "load": sent, bytes, seconds, finished)
faults of streams: POST /_sandbox/stream_faults. All controls: dccd_sandbox/README.md
"""


def main() -> int:
    """Run; exit code 0 after a signal, 1 where it cannot listen, 2 for settings in error."""
    parser = _parser()
    args = parser.parse_args()
    symbols = args.symbol if args.symbol or args.no_symbols else DEFAULT_SYMBOLS
    try:
        settings = Settings(
            symbols=tuple(symbols),
            candles=tuple(args.candles),
            many=args.many,
            latency=args.latency,
            seed=args.seed,
            weight_limit=args.weight_limit,
            now=args.now,
            frozen=args.frozen,
            speed=args.speed,
            rate=args.rate,
        )
        app = App(settings, tuple(_rule(text, args.seed) for text in args.fault))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(app, args.host, args.port, quiet=args.quiet))
    except OSError as error:
        print(f"cannot listen on {args.host}:{args.port}: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(app: App, host: str, port: int, quiet: bool) -> None:
    done = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    server = Server(app, None if quiet else _log)
    port = server.start(host, port)
    names = " ".join(app.exchanges)
    print(f"dccd_sandbox: {names}, {len(app.markets)} symbols, at http://{host}:{port}", flush=True)
    await done.wait()
    await server.stop()


def _log(request: Request, reply: Reply) -> None:
    at = datetime.now(UTC).strftime("%H:%M:%S")
    fault = f"  fault: {reply.fault}" if reply.fault else ""
    line = f"{at} {request.method} {request.target} {reply.status} {len(reply.body)} B{fault}"
    print(line, file=sys.stderr)


def _rule(text: str, seed: int) -> Rule:
    kind, _, rate = text.partition("=")
    try:
        return Rule(kind, rate=float(rate or "1"), seed=seed)
    except ValueError as error:
        raise ValueError(f"--fault {text}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dccd_sandbox",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8_765, help="0 takes a free one (default: %(default)s)")
    add("--symbol", action="append", default=[], metavar="SYMBOL:BASE:QUOTE:LISTED")
    add("--no-symbols", action="store_true", help="no synthetic markets but those of --many")
    add("--candles", action="append", default=[], metavar="SYMBOL:BASE:QUOTE:SPAN:PATH")
    add("--many", type=int, default=0, metavar="N", help="add N numbered pairs N0000USDT ...")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="held back by so much")
    add("--fault", action="append", default=[], metavar="KIND=RATE", help=", ".join(KINDS))
    add("--seed", type=int, default=1, help="of markets and faults")
    add("--weight-limit", type=int, default=6_000, metavar="N", help="a minute, 0 for no limit")
    add("--now", metavar="ISO", help="set the clock; it runs on from there")
    add("--frozen", action="store_true", help="the clock stands still")
    add("--speed", type=float, default=1.0, metavar="X", help="the clock runs X times as fast")
    add("--rate", type=float, default=5.0, metavar="N", help="trades a minute in each market")
    add("--quiet", action="store_true", help="no line for each request")
    return parser


if __name__ == "__main__":
    sys.exit(main())
