"""Faults of streams: each one does to a client what its name says."""

import json
import socket
import time
from itertools import pairwise
from typing import Any

import pytest
from sandbox_client import NOW, ask
from stream_client import NOW_MS, PATIENCE, asked, messages, opened, step, texts
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dccd_sandbox import Load, Rule, Sandbox, Settings, StreamFault
from dccd_sandbox.frames import BadFrame, Reader, accept, fragments, frame
from dccd_sandbox.stream import Kind, Message
from dccd_sandbox.stream_faults import Line, StreamFaults

TRADES = "/binance/ws/btcusdt@trade"
BOTH = "/binance/ws/btcusdt@trade/btcusdt@depth@100ms"
MINUTE = 60_000


def trades(box: Sandbox, ms: int, path: str = TRADES) -> list[int]:
    """Ids of the trades that a new connection brings while the clock moves on."""
    with opened(box, path) as ws:
        step(box, ms)
        return [one["t"] for one in messages(ws) if one["e"] == "trade"]


def truth(box: Sandbox, ms: int) -> list[int]:
    """Ids of all of them, afterwards."""
    return [
        int(one) for one in box.trades_truth("BTCUSDT", NOW_MS + 1, NOW_MS + ms + 1)["trade_id"]
    ]


def test_without_faults_all_comes_once(box: Sandbox) -> None:
    found = trades(box, 10 * MINUTE)
    assert len(found) > 20
    assert found == truth(box, 10 * MINUTE)


def test_messages_are_dropped_doubled_and_swapped(box: Sandbox) -> None:
    ms = 10 * MINUTE
    for fault, change in (
        (StreamFault("drop", after=3), lambda ids: ids[:3] + ids[4:]),
        (StreamFault("drop", after=3, count=5), lambda ids: ids[:3] + ids[8:]),
        (StreamFault("duplicate", after=2, times=3), lambda ids: ids[:2] + ids[2:3] * 4 + ids[3:]),
        (StreamFault("reorder"), lambda ids: [ids[1], ids[0], *ids[2:]]),
        (StreamFault("drop", symbol="ETHUSDT"), lambda ids: ids),
        (StreamFault("drop", path="/bybit"), lambda ids: ids),
    ):
        box.reset()
        box.set_clock(NOW, frozen=True)
        box.set_stream_faults(fault)
        assert trades(box, ms) == change(truth(box, ms)), fault


def test_a_rate_spoils_a_share_that_depends_on_the_seed(box: Sandbox) -> None:
    found = []
    for seed in (1, 1, 2):
        box.set_clock(NOW, frozen=True)
        box.set_stream_faults(StreamFault("drop", count=None, rate=0.5, seed=seed))
        found.append(trades(box, 30 * MINUTE))
    assert found[0] == found[1] != found[2]
    assert 0 < len(found[0]) < len(truth(box, 30 * MINUTE))


def test_a_gap_is_of_books(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("gap", after=5))
    with opened(box, BOTH) as ws:
        step(box, MINUTE)
        found = messages(ws)
    assert [one["t"] for one in found if one["e"] == "trade"] == truth(box, MINUTE)
    books = [one for one in found if one["e"] == "depthUpdate"]
    assert sum(after["U"] != before["u"] + 1 for before, after in pairwise(books)) == 1


def test_garbage_comes_beside_the_messages(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("garbage", after=1))
    with opened(box, TRADES) as ws:
        step(box, 10 * MINUTE)
        found = texts(ws)
    assert len(found) == len(truth(box, 10 * MINUTE)) + 5
    with pytest.raises(ValueError, match="char 0"):
        json.loads(found[1])


def test_truncated_huge_and_fragmented_messages(box: Sandbox) -> None:
    for fault, lengths in (
        (StreamFault("truncated"), lambda usual: usual // 2),
        (StreamFault("huge", size=2_000_000), lambda _: 2_000_011),
        (StreamFault("fragment"), lambda usual: usual),
    ):
        box.set_clock(NOW, frozen=True)
        box.set_stream_faults(fault)
        with opened(box, TRADES) as ws:
            step(box, 10 * MINUTE)
            found = texts(ws)
        usual = len(found[-1])
        assert abs(len(found[0]) - lengths(usual)) <= 10, fault


def test_a_connection_is_cut_in_the_middle_of_a_frame(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("half", after=2))
    with opened(box, TRADES) as ws:
        step(box, 10 * MINUTE)
        assert len(texts(ws)) == 2
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(PATIENCE)
    assert closed.value.rcvd is None
    assert trades(box, MINUTE) is not None  # the next connection lives


def test_a_cut_is_a_reset(box: Sandbox) -> None:
    with socket.create_connection((box.host, box.port), timeout=PATIENCE) as wire:
        wire.sendall(handshake(TRADES))
        assert wire.recv(65_536).startswith(b"HTTP/1.1 101 ")
        assert box.end_streams("cut", "/bybit") == 0
        assert box.end_streams("cut", "/binance") == 1
        with pytest.raises(ConnectionResetError):
            wire.recv(65_536)


def handshake(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"POST", b"405"),
        (b"Version: 13", b"Version: 8", b"400"),
        (b"Sec-WebSocket-Key", b"X-Key", b"400"),
        (b"/binance/ws", b"/_sandbox/stats", b"404"),
    ],
)
def test_a_handshake_in_error_is_refused(
    box: Sandbox, old: bytes, new: bytes, status: bytes
) -> None:
    with socket.create_connection((box.host, box.port), timeout=PATIENCE) as wire:
        wire.sendall(handshake("/binance/ws").replace(old, new))
        assert wire.recv(65_536).startswith(b"HTTP/1.1 " + status)


def test_who_leaves_too_much_unread_is_cut_off(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("huge", size=90_000_000))
    with socket.create_connection((box.host, box.port), timeout=PATIENCE) as wire:
        wire.sendall(handshake(TRADES))
        step(box, 10 * MINUTE)
        assert box.stats()["streams"]["exchanges"]["binance"]["slow"] == 1
        assert box.stats()["streams"]["exchanges"]["binance"]["open"] == 0


def test_noise_after_the_handshake_ends_that_connection_only(box: Sandbox) -> None:
    with opened(box, TRADES) as ws:
        for noise in (b"\xff" * 300, b"\x00" * 20, b"GET / HTTP/1.1\r\n\r\n", b"\x81"):
            with socket.create_connection((box.host, box.port), timeout=PATIENCE) as wire:
                wire.sendall(handshake(TRADES) + noise)
                assert wire.recv(65_536).startswith(b"HTTP/1.1 101 ")
        end = step(box, 10 * MINUTE)
        found = [one["t"] for one in messages(ws)]
    assert found == truth(box, end - NOW_MS)
    assert "error" not in box.stats()["streams"]["exchanges"]["binance"]


def test_a_close_has_its_code_and_reason(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("close", code=1012, reason="service restart", after=1))
    with opened(box, TRADES) as ws:
        step(box, 10 * MINUTE)
        ws.recv(PATIENCE)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "service restart")


def test_a_shutdown_is_announced(box: Sandbox) -> None:
    with opened(box, TRADES) as ws:
        assert box.end_streams("shutdown", "/binance", code=1001) == 1
        assert json.loads(ws.recv(PATIENCE)) == {"e": "serverShutdown", "E": NOW_MS}
        with pytest.raises(ConnectionClosed):
            ws.recv(PATIENCE)


def test_a_stalled_symbol_is_silent_and_others_are_not(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("stall", symbol="BTCUSDT", after=2))
    with opened(box, f"{TRADES}/ethusdt@trade") as ws:
        step(box, 10 * MINUTE)
        found = [one["s"] for one in messages(ws)]
        assert found.count("BTCUSDT") == 2
        assert found.count("ETHUSDT") > 10
        assert asked(ws, method="LIST_SUBSCRIPTIONS", id=7)["id"] == 7


def test_a_dead_connection_says_nothing_at_all(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("stall", beats=False))
    with opened(box, TRADES) as ws:
        step(box, 10 * MINUTE)
        end = time.monotonic() + PATIENCE
        while not box.stats()["streams"]["faults"]["0 stall"]:
            assert time.monotonic() < end
            time.sleep(0.01)
        ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 7}))
        with pytest.raises(TimeoutError):
            ws.recv(0.3)
        assert not ws.ping().wait(0.3)


def test_a_stall_can_end(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("stall", seconds=1.0))  # all of a step falls into it
    with opened(box, TRADES) as ws:
        step(box, 10 * MINUTE)
        with pytest.raises(TimeoutError):
            ws.recv(1.1)
        step(box, 10 * MINUTE)
        assert messages(ws)


def test_a_delay_holds_back_what_follows_too(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("delay", after=1, seconds=0.4))
    with opened(box, TRADES) as ws:
        began = time.monotonic()
        step(box, 10 * MINUTE)
        ws.recv(PATIENCE)
        rest = [json.loads(ws.recv(PATIENCE))["t"]]
        assert time.monotonic() - began >= 0.4
        rest += [one["t"] for one in messages(ws)]
    assert rest == truth(box, 10 * MINUTE)[1:]


def test_what_is_said_can_go_unheard_or_be_refused(box: Sandbox) -> None:
    box.set_stream_faults(
        StreamFault("no_ack", contains='"id": 1'), StreamFault("refuse", contains='"id": 2')
    )
    request: dict[str, Any] = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"]}
    with opened(box, "/binance/ws") as ws:
        ws.send(json.dumps(request | {"id": 1}))
        answer = asked(ws, **request, id=2)
        assert (answer["code"], answer["id"]) == (2, 2)
        assert box.stats()["streams"]["exchanges"]["binance"]["topics"] == []
        assert asked(ws, **request, id=3) == {"result": None, "id": 3}
        assert box.stats()["streams"]["exchanges"]["binance"]["topics"] == ["btcusdt@trade"]


def test_a_replay_repeats_what_was(box: Sandbox) -> None:
    first = trades(box, 10 * MINUTE)
    box.set_stream_faults(StreamFault("replay", seconds=300))
    with opened(box, "/binance/ws") as ws:
        asked(ws, method="SUBSCRIBE", params=["btcusdt@trade"], id=1)
        step(box, 1)
        again = [one["t"] for one in messages(ws)]
    assert again
    assert first[-len(again) :] == again


def test_a_life_can_be_short(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("lifetime", seconds=0.1, code=1008, count=None))
    with opened(box, TRADES) as ws, pytest.raises(ConnectionClosed) as closed:
        ws.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_a_server_that_does_not_read(box: Sandbox) -> None:
    box.set_stream_faults(StreamFault("deaf"))
    with opened(box, TRADES) as ws:
        ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 7}))
        with pytest.raises(TimeoutError):
            ws.recv(0.3)
        box.end_streams("cut")


def test_faults_of_requests_hit_handshakes(box: Sandbox) -> None:
    box.set_faults(Rule("429", path="/binance/ws", count=1))
    with pytest.raises(InvalidStatus) as refused, opened(box, TRADES):
        pass
    assert refused.value.response.status_code == 429
    assert refused.value.response.headers["retry-after"] == "1"
    with opened(box, TRADES):
        assert box.stats()["paths"][TRADES] == {"101": 1, "429": 1}


def test_a_slow_handshake_is_done_in_the_end(box: Sandbox) -> None:
    box.set_faults(Rule("slow", path="/binance/ws", seconds=0.4))
    with socket.create_connection((box.host, box.port), timeout=PATIENCE) as wire:
        began = time.monotonic()
        wire.sendall(handshake(TRADES))
        assert wire.recv(65_536).startswith(b"HTTP/1.1 101 ")
        assert time.monotonic() - began >= 0.4
    with socket.create_connection((box.host, box.port)) as wire:
        wire.sendall(handshake(TRADES))  # and goes away
    step(box, MINUTE)
    assert ask(box, "/binance/api/v3/ping").status == 200


def test_a_wrong_checksum_is_another_number() -> None:
    faults = StreamFaults()
    faults.set([StreamFault("checksum", count=None)])
    for text, wrong in (
        ('{"channel":"book","checksum":3310070434}', '{"channel":"book","checksum":3310070435}'),
        ('[17,"cs",-12345,9]', '[17,"cs",-12346,9]'),
        ('{"bids":[]}', '{"bids":[]}'),
    ):
        (made,) = faults.spoil(Line("/kraken/v2"), [Message(text, Kind.BOOK, "BTCUSDT")], 0.0)
        assert made.data[2:].decode() == wrong


def test_rules_in_error_are_named(box: Sandbox) -> None:
    with pytest.raises(ValueError, match="stream fault kind 'burn'"):
        StreamFault("burn")
    with pytest.raises(ValueError, match="channel 'tickers'"):
        StreamFault("drop", channel="tickers")
    with pytest.raises(ValueError, match="rate 2"):
        StreamFault("drop", rate=2)
    with pytest.raises(ValueError, match="stream deed 'burn'"):
        box.end_streams("burn")
    with pytest.raises(ValueError, match="load of 'nope'"):
        box.set_load(Load("nope", 5))
    answer = ask(box, "/_sandbox/stream_faults")
    assert answer.json == []


# --- the wire ----------------------------------------------------------------------------------


def test_the_handshake_of_the_standard() -> None:
    assert accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def masked(opcode: int, payload: bytes, final: bool = True) -> bytes:
    plain = frame(opcode, payload, final)
    start = len(plain) - len(payload)
    mask = b"\x01\x02\x03\x04"
    hidden = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((plain[0], plain[1] | 0x80)) + plain[2:start] + mask + hidden


def test_frames_arrive_whole_however_they_are_cut() -> None:
    wire = masked(1, b"one") + masked(1, b"two-", False) + masked(9, b"ping") + masked(0, b"parts")
    wire += masked(2, b"x" * 70_000) + masked(8, b"\x03\xe8bye")
    wanted = [(1, b"one"), (9, b"ping"), (1, b"two-parts"), (2, b"x" * 70_000), (8, b"\x03\xe8bye")]
    for size in (1, 3, 1_000, len(wire)):
        reader = Reader()
        found = []
        for at in range(0, len(wire), size):
            found += reader.read(wire[at : at + size])
        assert [(one.opcode, one.payload) for one in found] == wanted


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(1, b"no mask"), 1002),
        (masked(3, b"unknown"), 1002),
        (masked(0, b"continues nothing"), 1002),
        (masked(1, b"a", False) + masked(1, b"b"), 1002),
        (masked(9, b"x" * 126), 1002),
        (masked(9, b"x", False), 1002),
        (masked(1, b"x" * 1_100_000), 1009),
        (b"\xc1" + masked(1, b"a")[1:], 1002),
    ],
)
def test_what_no_client_may_send_is_refused(wire: bytes, code: int) -> None:
    with pytest.raises(BadFrame) as refused:
        Reader().read(wire)
    assert refused.value.code == code


def test_fragments_are_one_message_with_a_ping_between() -> None:
    wire = fragments('{"a":1}')
    assert wire[0] == 0x01
    assert b"between" in wire
    assert fragments("")[0] == 0x81


def test_pings_are_answered_and_closes_too(box: Sandbox) -> None:
    with opened(box, TRADES) as ws:
        assert ws.ping().wait(PATIENCE)
        ws.close(1000, "bye")
        assert ws.close_code == 1000
    end = time.monotonic() + PATIENCE
    while box.stats()["streams"]["exchanges"]["binance"]["open"]:
        assert time.monotonic() < end
        time.sleep(0.02)


# --- loads -------------------------------------------------------------------------------------


def test_a_load_goes_to_all_connections_and_then_there_is_silence() -> None:
    settings = Settings(now=NOW, weight_limit=0, rate=600)
    with Sandbox(settings) as box:
        box.set_load(Load("binance", messages=3_001, connections=2))
        paths = ("/binance/ws/btcusdt@trade", "/binance/ws/ethusdt@trade")
        with opened(box, paths[0]) as one, opened(box, paths[1]) as two:
            for ws in (one, two):
                asked(ws, method="LIST_SUBSCRIPTIONS", id=1)
            found = [messages(ws) for ws in (one, two)]
        assert [len(part) for part in found] == [1_501, 1_500]
        for part, symbol in zip(found, ("BTCUSDT", "ETHUSDT"), strict=True):
            start = NOW_MS // 86_400_000 * 86_400_000
            truth = box.trades_truth(symbol, start + 1, NOW_MS)["trade_id"].head(len(part))
            assert [str(row["t"]) for row in part] == truth.to_list()
        load = box.stats()["streams"]["load"]
        assert (load["sent"], load["finished"]) == (3_001, True)
        box.set_load(None)
        assert box.stats()["streams"]["load"] is None


def test_a_load_at_a_rate_takes_its_time() -> None:
    with Sandbox(Settings(now=NOW, weight_limit=0, rate=300)) as box:
        box.set_load(Load("binance", messages=600, rate=1_000))
        with opened(box, "/binance/ws") as ws:
            asked(ws, method="SUBSCRIBE", params=["btcusdt@trade"], id=1)
            assert len(messages(ws)) == 600
        # Not sooner than its rate; how much later depends on the machine.
        assert box.stats()["streams"]["load"]["seconds"] >= 0.55


def test_a_load_in_error_is_named() -> None:
    with pytest.raises(ValueError, match="not above 0"):
        Load("binance", 0)
