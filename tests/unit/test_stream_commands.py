"""Commands of the fast connection go over the wire as those of redis-py and hiredis do."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers.encoders import Encoder
from redis.connection import PythonRespSerializer

from tracker.stream.connection import pack

WORDS = st.lists(st.binary(max_size=40) | st.integers(0, 10_000).map(lambda length: b"\r\n" * length))


def as_redis_py(words):
    serializer = PythonRespSerializer(6000, Encoder("utf-8", "strict", False).encode)
    return b"".join(serializer.pack(*words))


@given(WORDS)
def test_command_is_what_hiredis_and_redis_py_send(words):
    words = [b"EVALSHA", *words]  # redis-py splits a name with a space in two
    assert pack(words) == hiredis.pack_command(tuple(words)) == as_redis_py(words)


@pytest.mark.parametrize("length", [0, 1, 9, 10, 99, 100, 4095, 4096, 4097, 70_000, 2_000_000])
def test_word_of_any_length_is_packed(length):
    words = (b"XADD", b"x" * length, b"")
    assert pack(words) == hiredis.pack_command(words) == as_redis_py(words)
