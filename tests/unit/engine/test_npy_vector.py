import io
import zipfile

import numpy as np
import pytest

from starling.engine.npy_vector import read_vector, vector_file
from starling.protocol.errors import DecodeError, LimitError, NonFinite, ProtocolError
from starling.protocol.model.parameter_layout import DIMENSION_MAX


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(text: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    head = text.encode() + b" " * ((-11 - len(text)) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(head).to_bytes(2, "little") + head + content


def header(shape: str, descr: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


HONEST = saved(np.arange(36, dtype=np.float32))


@pytest.mark.parametrize("count", [1, 9, 10, 36, 999, 100_000, 1 << 20])
def test_vector_is_written_as_numpy_writes_it_and_read_again(count: int) -> None:
    values = np.arange(count, dtype=np.float32)

    file = vector_file(values)

    assert file == saved(values)
    np.testing.assert_array_equal(read_vector(file, "t"), values)
    np.testing.assert_array_equal(np.load(io.BytesIO(file)), values)


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", HONEST)
    return file.getvalue()


def _pickle() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    return file.getvalue()


HOSTILE = {
    "empty": b"",
    "magic alone": b"\x93NUMPY\x01\x00",
    "archive": _archive(),
    "pickle": _pickle(),
    "more values than bytes": with_header(header("(1000000000000,)")),
    "more values than numbers": with_header(header(f"({1 << 70},)")),
    "negative shape": with_header(header("(-4,)")),
    "no values": with_header(header("(0,)")),
    "scalar": saved(np.array(1, np.float32)),
    "matrix": saved(np.ones((6, 6), np.float32)),
    "whole numbers": saved(np.ones(36, np.int32)),
    "doubles": saved(np.ones(36)),
    "big endian": saved(np.ones(36, ">f4")),
    "objects": with_header(header("(4,)", "'|O'")),
    "structure": with_header(header("(36,)", "[('a','<f4')]"), bytes(144)),
    "unknown kind": with_header(header("(36,)", "'zz'"), bytes(144)),
    "other order": with_header(header("(36,)", order="True"), bytes(144)),
    "deep header": with_header("(" * 4000),
    "code for a header": with_header("__import__('os').system('id')"),
    "keys in another order": with_header(
        "{'shape': (36,), 'fortran_order': False, 'descr': '<f4', }", bytes(144)
    ),
    "version 2": b"\x93NUMPY\x02\x00" + HONEST[8:],
    "version 3": with_header(header("(36,)"), bytes(144), b"\x03\x00"),
    "long header": b"\x93NUMPY\x01\x00\xff\xff" + HONEST[10:],
    "spaces moved": HONEST.replace(b"'descr': '", b"'descr':  '").replace(b"} ", b"}"),
    "no newline": HONEST.replace(b" \n", b"  "),
    "cut": HONEST[:-1],
    "tail": HONEST + b"\x00",
    "tail of a value": HONEST + bytes(4),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_file_that_is_no_vector_is_refused(case: str) -> None:
    with pytest.raises(DecodeError):
        read_vector(HOSTILE[case], "theta.npy")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_vector_with_what_is_no_number_is_refused(number: float) -> None:
    values = np.arange(36, dtype=np.float32)
    values[35] = number

    with pytest.raises(NonFinite):
        read_vector(saved(values), "theta.npy")


def test_vector_longer_than_any_theta_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitError):
        read_vector(bytes(4 * DIMENSION_MAX + 1024), "theta.npy")


def test_vector_truncated_at_any_byte_raises_only_protocol_errors() -> None:
    for length in range(len(HONEST)):
        with pytest.raises(ProtocolError):
            read_vector(HONEST[:length], "theta.npy")
