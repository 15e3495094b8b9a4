"""Answers to first packets that need no connection: nothing is kept, so nobody can fill it up."""

import os
from collections.abc import Sequence
from typing import Final

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from edge.wire.udp import Address

CONNECTION_ID_BYTES: Final = 8
"""Length of the IDs that we choose."""


def version_negotiation(header: QuicHeader, versions: Sequence[int]) -> bytes:
    """What to say to a client of a version that we do not speak."""
    return encode_quic_version_negotiation(
        source_cid=header.destination_cid,
        destination_cid=header.source_cid,
        supported_versions=list(versions),
    )


def retry(header: QuicHeader, address: Address, tokens: QuicRetryTokenHandler, now: float) -> bytes:
    """Say it again with this token: whoever can do that receives what is sent to `address`."""
    assert header.version is not None
    number = os.urandom(CONNECTION_ID_BYTES)
    token = tokens.create_token(
        address=address,
        original_destination_connection_id=header.destination_cid,
        retry_source_connection_id=number,
        now=now,
    )
    return encode_quic_retry(
        version=header.version,
        source_cid=number,
        destination_cid=header.source_cid,
        original_destination_cid=header.destination_cid,
        retry_token=token,
    )


def refusal(header: QuicHeader, code: QuicErrorCode) -> bytes:
    """An Initial packet that ends a connection before it begins.

    Its keys follow from the ID that the client chose (RFC 9001, 5.2), so no state is needed.
    """
    assert header.version is not None
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=header.version)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=header.version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=32)
    frame.push_uint_var(code)
    frame.push_uint_var(QuicFrameType.PADDING)
    frame.push_uint_var(0)
    datagrams, _ = builder.flush()
    return datagrams[0]
