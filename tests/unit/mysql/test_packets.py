"""The packet reader over a transport that is not there: joins, ends, silence, and its bounds."""

import asyncio

import pytest
from asyncmy import errors as driver

from meshnode.mysql.packets import READ_AHEAD_BYTES, Packets

SILENCE = 0.01
LONGEST = 0xFFFFFF


class Transport:
    """What the reader asks of its transport, noted down."""

    def __init__(self) -> None:
        self.protocol: asyncio.Protocol | None = None
        self.written: list[bytes] = []
        self.calls: list[str] = []

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def packet(payload: bytes, number: int = 0) -> bytes:
    """``payload`` as one packet."""
    return len(payload).to_bytes(3, "little") + bytes((number & 0xFF,)) + payload


def error(code: int, message: str) -> bytes:
    """The payload of an error packet."""
    return b"\xff" + code.to_bytes(2, "little") + b"#HY000" + message.encode()


async def one(packets: Packets, silence: float) -> bytes:
    """The next packet alone."""
    (payload,) = await packets.read(silence, 1)
    return payload


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def packets(transport: Transport) -> Packets:
    return Packets(transport)


async def test_the_reader_takes_the_transport_over_and_sends_one_packet(transport, packets):
    packets.send(b"\x1e" + b"a" * 300)

    assert transport.protocol is packets
    assert transport.written == [b"\x2d\x01\x00\x00\x1e" + b"a" * 300]


async def test_packets_that_come_in_one_piece_are_read_in_order(packets):
    packets.data_received(packet(b"\0first") + packet(b"\0second", 1) + packet(b"", 2))

    assert [await one(packets, SILENCE) for _ in range(3)] == [b"\0first", b"\0second", b""]


async def test_a_packet_that_comes_byte_by_byte_is_read_whole(packets):
    stream = packet(b"\0first") + packet(b"\0second", 1)
    reading = asyncio.create_task(one(packets, 1.0))
    for number in range(len(stream)):
        packets.data_received(stream[number : number + 1])
        await asyncio.sleep(0)

    assert await reading == b"\0first"
    assert await one(packets, SILENCE) == b"\0second"


async def test_each_piece_of_a_packet_ends_the_silence(packets):
    reading = asyncio.create_task(one(packets, 0.5))
    stream = packet(b"\0" + bytes(4))
    loop = asyncio.get_running_loop()
    for number, byte in enumerate(stream):
        loop.call_later(0.1 * number, packets.data_received, bytes((byte,)))

    assert await reading == b"\0" + bytes(4), "0.8 s in all, but never 0.5 s without a byte"


@pytest.mark.parametrize("rest", [0, 1, 70_000])
async def test_an_event_of_16_mib_and_more_is_joined(packets, rest):
    head, tail = b"\0" + b"x" * (LONGEST - 1), b"y" * rest
    packets.data_received(packet(head) + packet(tail, 1) + packet(b"\0next", 2))

    assert await one(packets, SILENCE) == head + tail
    assert await one(packets, SILENCE) == b"\0next"


async def test_an_event_of_three_packets_is_joined(packets):
    pieces = [b"\0" + b"x" * (LONGEST - 1), b"y" * LONGEST, b"z"]
    for number, piece in enumerate(pieces):
        packets.data_received(packet(piece, number))

    assert await one(packets, SILENCE) == b"".join(pieces)


@pytest.mark.parametrize("first", [b"\xff", b"\xfe"])
async def test_a_continuation_is_data_whatever_its_first_byte(packets, first):
    head = b"\0" + b"x" * (LONGEST - 1)
    packets.data_received(packet(head) + packet(first + b"abc", 1))

    assert await one(packets, SILENCE) == head + first + b"abc"


async def test_an_error_packet_is_raised_with_its_code_and_message(packets):
    packets.data_received(packet(b"\0event") + packet(error(1236, "Could not find first log"), 1))

    assert await one(packets, SILENCE) == b"\0event"
    with pytest.raises(driver.OperationalError) as caught:
        await one(packets, SILENCE)
    assert caught.value.args == (1236, "Could not find first log")


async def test_the_end_of_the_dump_is_a_lost_connection(packets):
    packets.data_received(packet(b"\xfe\0\0\x02\0"))

    with pytest.raises(driver.OperationalError) as caught:
        await one(packets, SILENCE)
    assert caught.value.args == (2013, "the server ended the dump")


async def test_what_came_before_the_connection_was_lost_is_read_first(packets):
    packets.data_received(packet(b"\0whole") + packet(b"\0torn", 1)[:-1])
    packets.connection_lost(ConnectionResetError("reset by peer"))

    assert await one(packets, SILENCE) == b"\0whole"
    for _ in range(2):
        with pytest.raises(driver.OperationalError) as caught:
            await one(packets, SILENCE)
        assert caught.value.args == (2013, "reset by peer")


@pytest.mark.parametrize("how", ["eof", "closed", "lost"])
async def test_a_reader_that_waits_hears_of_the_end_at_once(packets, how):
    reading = asyncio.create_task(one(packets, 60.0))
    await asyncio.sleep(0)
    if how == "eof":
        packets.eof_received()
    else:
        packets.connection_lost(None if how == "closed" else OSError("gone"))

    with pytest.raises(driver.OperationalError) as caught:
        async with asyncio.timeout(5):
            await reading
    assert caught.value.args[0] == 2013


@pytest.mark.parametrize("arrived", [b"", b"\x05\0", b"\x05\0\0\0\0ab"])
async def test_silence_is_a_lost_connection(packets, arrived):
    if arrived:
        packets.data_received(arrived)

    with pytest.raises(driver.OperationalError) as caught:
        await one(packets, SILENCE)
    assert caught.value.args[0] == 2013
    assert "not even a heartbeat" in caught.value.args[1]


async def test_reading_ahead_stops_at_the_bound_and_goes_on_when_all_is_read(transport, packets):
    quarter = packet(b"\0" + bytes(READ_AHEAD_BYTES // 4 - 5))
    for _ in range(3):
        packets.data_received(quarter)
    assert transport.calls == []
    packets.data_received(quarter)
    packets.data_received(quarter)
    assert transport.calls == ["pause"], "paused once, though more was on its way"

    for _ in range(5):
        await one(packets, SILENCE)
    assert transport.calls == ["pause"], "what is here is read before more is asked for"

    waiting = asyncio.create_task(one(packets, 1.0))
    await asyncio.sleep(0)
    assert transport.calls == ["pause", "resume"]
    packets.data_received(quarter)
    assert len(await waiting) == len(quarter) - 4


async def test_a_packet_longer_than_the_bound_still_comes_through(transport, packets):
    stream = packet(b"\0" + bytes(3 * READ_AHEAD_BYTES))
    reading = asyncio.create_task(one(packets, 1.0))
    at = 0
    while at < len(stream):
        # The transport delivers only while it is not paused.
        if transport.calls.count("pause") == transport.calls.count("resume"):
            packets.data_received(stream[at : at + 256 * 1024])
            at += 256 * 1024
        await asyncio.sleep(0)

    assert await reading == stream[4:]
    assert transport.calls.count("pause") >= 2
    assert 0 <= transport.calls.count("pause") - transport.calls.count("resume") <= 1


async def test_the_bound_counts_only_what_has_not_been_read(transport, packets):
    half = packet(b"\0" + bytes(READ_AHEAD_BYTES // 2 - 5))
    packets.data_received(half)
    packets.data_received(packet(b"\0"))
    await one(packets, SILENCE)
    packets.data_received(half[:-1])

    assert transport.calls == []


async def test_what_is_here_comes_at_once_up_to_the_number_wanted(packets):
    stream = b"".join(packet(b"\0%d" % number, number) for number in range(5))
    packets.data_received(stream + packet(b"\0torn")[:-1])

    assert await packets.read(SILENCE, 3) == [b"\x000", b"\x001", b"\x002"]
    assert await packets.read(SILENCE, 3) == [b"\x003", b"\x004"]
    packets.data_received(b"n" + packet(b"\0behind"))
    assert await packets.read(SILENCE, 3) == [b"\0torn", b"\0behind"]


@pytest.mark.parametrize("closing", [error(1236, "gone"), b"\xfe\0\0\x02\0"])
async def test_what_came_before_the_server_ended_the_dump_is_read_first(packets, closing):
    packets.data_received(packet(b"\0one") + packet(b"\0two", 1) + packet(closing, 2))

    assert await packets.read(SILENCE, 100) == [b"\0one", b"\0two"]
    with pytest.raises(driver.OperationalError):
        await packets.read(SILENCE, 100)


async def test_a_long_event_between_short_ones(packets):
    head, tail = b"\0" + b"x" * (LONGEST - 1), b"\xff" * 20
    long = packet(head, 1) + packet(tail, 2)
    packets.data_received(packet(b"\0one") + long + packet(b"\0two", 3))

    assert await packets.read(SILENCE, 100) == [b"\0one", head + tail, b"\0two"]
