"""Pieces of CSV files, plain and by cells."""

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.records.errors import DataError
from starling.records.formats import csv_pieces
from starling.records.formats.csv_cells import CsvHead
from starling.records.formats.csv_pieces import CsvLayout, open_csv, whole_lines
from starling.records.formats.table_piece import TableColumns
from starling.records.tables.table import RecordTable, TableBuilder


def read(content: bytes, block: int = 7, **options: object) -> RecordTable:
    blocks = [content[at : at + block] for at in range(0, len(content), block)]
    layout = open_csv(content, "own.csv", **options)  # type: ignore[arg-type]
    builder = TableBuilder()
    pieces = csv_pieces.csv_pieces(whole_lines(iter(blocks)), layout, "own.csv")
    builder.add(layout.columns, pieces, "own.csv")
    return builder.build()


def test_plain_numbers_are_read_by_column() -> None:
    table = read(b"a,b\n1,2.5\n-3e2,4\n")

    assert table.names == ("a", "b")
    np.testing.assert_array_equal(table.numbers["a"], [1, -300])
    np.testing.assert_array_equal(table.numbers["b"], [2.5, 4])
    np.testing.assert_array_equal(table.lines, [2, 3])


@pytest.mark.parametrize(
    "content",
    [
        b"a;b\n1;2.5\n-3e2;4\n",
        b"a\tb\r\n1\t2.5\r\n-300\t4\r\n",
        b"\xef\xbb\xbfa,b\n1,2.5\n-3e2,4",
        b'"a","b"\n"1","2.5"\n-3e2,4\n',
        b"a,b\n01,+2.5\n-300., 4\n",
        b"a|b\n1|2.5\n-3e2|4\n",
    ],
    ids=["semicolon", "tab and CRLF", "mark and no end", "quotes", "spellings", "bar"],
)
def test_other_ways_to_write_the_same_are_read_alike(content: bytes) -> None:
    table = read(content)

    np.testing.assert_array_equal(table.numbers["a"], [1, -300])
    np.testing.assert_array_equal(table.numbers["b"], [2.5, 4])


@pytest.mark.parametrize("cell", ["1_0", "12_3.5", "\uff11\uff12", "\u0663", "1\u00a0"])
def test_spelling_that_python_alone_takes_for_a_number_is_none(cell: str) -> None:
    with pytest.raises(DataError, match=r"row 3, column 'b': .* is no number"):
        read(f"a,b\n1,2.5\n2,{cell}\n".encode())

    table = read(f"a,b\n1,{cell}\n2,{cell}\n".encode())
    assert table.texts["b"].texts == (cell.strip(),)


def test_lines_without_anything_are_left_out_and_counted() -> None:
    table = read(b"a,b\n1,2\n\n\n3,4\n", block=4)

    np.testing.assert_array_equal(table.lines, [2, 5])


def test_missing_cells_are_nan_and_texts_are_coded() -> None:
    table = read(b"a,city\n1,Bern\nNA,K\xc3\xb6ln\n,Bern\n4,\n")

    np.testing.assert_array_equal(table.numbers["a"], [1, np.nan, np.nan, 4])
    assert table.texts["city"].texts == ("Bern", "Köln")
    np.testing.assert_array_equal(table.texts["city"].codes, [0, 1, 0, -1])


def test_column_that_is_asked_for_as_text_keeps_its_spelling() -> None:
    table = read(b"who,a\n007,1\n8,2\n", as_text=frozenset({"who"}))

    assert table.texts["who"].texts == ("007", "8")


def test_file_without_names_counts_its_columns() -> None:
    assert read(b"1,2\n3,4\n").names == ("0", "1")
    assert read(b"1,x\n3,y\n", named=False).texts["1"].texts == ("x", "y")


numbers = st.floats(-1e6, 1e6, width=32) | st.integers(-99, 99)


@given(
    st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=30),
    st.integers(1, 64),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
)
def test_any_cut_gives_what_was_written(
    rows: list[tuple[float, float, float]], block: int, delimiter: str, quoted: bool
) -> None:
    buffer = io.StringIO()
    head, mark = ("a", "b", "c"), '"' if quoted else ""
    for row in [head, *rows]:
        buffer.write(delimiter.join([f"{mark}{cell}{mark}" for cell in row]) + "\n")

    table = read(buffer.getvalue().encode(), block)

    found = np.stack([table.numbers[name] for name in "abc"], 1)
    np.testing.assert_array_equal(found, np.array(rows, np.float32))


odd_cells = st.sampled_from(
    ["", "1", "-2.5e3", " 7", "01", "NA", "null", "inf", "x", "K\u00f6ln", "1,5", '"y"']
)


@given(
    st.integers(2, 5).flatmap(
        lambda width: st.lists(
            st.lists(odd_cells, min_size=width, max_size=width), min_size=1, max_size=9
        )
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sets(st.integers(0, 4)),
    st.sets(st.integers(0, 4)),
    st.booleans(),
)
def test_piece_is_read_at_once_as_it_is_by_cells(
    rows: list[list[str]],
    delimiter: str,
    texts: set[int],
    unread: set[int],
    again: bool,
) -> None:
    names = "abcde"[: len(rows[0])]
    head = delimiter.join(names)
    lines = [head, *[delimiter.join(row) for row in rows], *[head] * again]
    content = ("\n".join(lines) + "\n").encode()
    layout = CsvLayout(
        CsvHead(tuple(names), delimiter, True, head),
        TableColumns(
            tuple(names),
            tuple([at for at in range(len(names)) if at not in texts | unread]),
            tuple([at for at in range(len(names)) if at in texts - unread]),
            delimiter,
        ),
    )

    (found,) = csv_pieces.csv_pieces([content], layout, "own.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(csv_pieces, "_regular", lambda body, layout: None)
        (slow,) = csv_pieces.csv_pieces([content], layout, "own.csv")

    np.testing.assert_array_equal(found.numbers, slow.numbers)
    np.testing.assert_array_equal(found.lines, slow.lines)
    assert found.texts == slow.texts
    assert list(map(str, found.faults)) == list(map(str, slow.faults))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a,b,c\n1,Bern,2\n3,K\xc3\xb6ln,4\n", id="text-between"),
        pytest.param(b"b,a,c\nBern,1,2\nK\xc3\xb6ln,3,4\n", id="text-first"),
        pytest.param(b"a,c,b\n1,2,Bern\n3,4,K\xc3\xb6ln\n", id="text-last"),
        pytest.param(b"a;c;b\n1;2;Bern\n3;4;K\xc3\xb6ln\n", id="semicolon"),
        pytest.param(b"a,b,c,d\n1,Bern,2,\n3,K\xc3\xb6ln,4,\n", id="empty"),
    ],
)
def test_column_of_texts_costs_its_piece_no_second_way(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(csv_pieces, "_by_cells")

    table = read(content, block=1 << 20)

    assert table.texts["b"].texts == ("Bern", "K\u00f6ln")
    np.testing.assert_array_equal(table.numbers["a"], [1, 3])
    np.testing.assert_array_equal(table.numbers["c"], [2, 4])


BAD = {
    "empty": (b"", "is empty"),
    "zip": (b"PK\x03\x04rest", "spreadsheet: save it as CSV"),
    "parquet": (b"PAR1rest", "Parquet"),
    "UTF-16": ("a,b\n1,2".encode("utf-16"), "UTF-16"),
    "zero bytes": (b"a,b\n1,\0", "bytes of value 0"),
    "CR alone": (b"a,b\r1,2\r", "row 1: its lines end in CR alone"),
    "one column": (b"a\n1\n2\n", "row 1: one column only"),
    "name twice": (b"a,b,a\n1,2,3\n", "row 1, column 'a': stands twice"),
    "no name": (b"a,,c\n1,2,3\n", "column 2 has no name: write one"),
    "pandas' index": (b",a,y\n0,1,2\n", r"column 1 has no name: .*index=False"),
    "delimiter at the end": (b"a,y,\n1,2,\n", "column 3 has no name: .*at the end"),
    "spreadsheet's note": (b"sep=;\na;y\n1;2\n", "row 1: 'sep=;' is no row but"),
    "comment": (b"# made by hand\na,y\n1,2\n", "row 1: is a comment"),
    "web page": (b"<!doctype html>\n<p>404\n", "a page of a web server"),
    "XML": (b"<?xml version='1.0'?>\n<a/>\n", "but XML"),
    "JSON": (b'[{"a": 1, "b": 2}]\n', "but JSON"),
    "PDF": (b"%PDF-1.7\n", "but PDF"),
    "old spreadsheet": (b"\xd0\xcf\x11\xe0\xa1\n", "an old spreadsheet"),
    "database": (b"SQLite format 3\0\n", "an SQLite database"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "thousands": (b'a,b\n1,2\n3,"1,234,567"\n', "'1,234,567' has commas between"),
    "names and numbers": (b"1.5,2.5,x\n1,2,y\n", "row 1: '1.5' is one of 2 numbers"),
    "names again": (b"a,b\n1,2\na,b\n3,4\n", "row 3: the names.*again"),
    "names again, texts": (b"a,b\nx,y\na,b\nz,w\n", "row 3: the names.*again"),
    "short row": (b"a,b\n1,2\n3\n", "row 3: 1 cell where 2 columns"),
    "two odd rows": (b"a,b\n1\n2,3,4\n", "row 2: 1 cell where 2"),
    "no number": (b"a,b\n1,2\n3,x7\n", "row 3, column 'b': 'x7' is no number"),
    "decimal comma": (b"a;b\n1;2\n3;1,5\n", "row 3, column 'b': '1,5' has a decimal"),
    "infinity": (b"a,b\n1,2\n3,inf\n", "row 3, column 'b': 'inf' is an infinity"),
    "open quote": (b'a,b\n1,"2\n3,4\n', "row 2: a quote is not closed"),
    "latin1": (
        b"a,b\n1,M\xc3\xbcller\n2,M\xfcller\n",
        "row 3: a byte that is not UTF-8",
    ),
    "names alone": (b"a,b\n", "holds no record"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("block", [3, 1 << 20])
def test_bad_file_is_named_by_row_and_column(
    content: bytes, said: str, block: int
) -> None:
    with pytest.raises(DataError, match=rf"^own\.csv: .*{said}"):
        read(content, block)


@pytest.mark.parametrize("block", [*range(1, 30), 77, 78, 100])
def test_line_that_is_too_long_is_none_wherever_blocks_are_cut(block: int) -> None:
    content = b"1,2\n" + b"3" * 9 + b"\n12345678\n" + b"4" * 30 + b"\n5,6\n" + b"7" * 9
    blocks = [content[at : at + block] for at in range(0, len(content), block)]

    lines = b"".join(whole_lines(blocks, 9)).split(b"\n")

    assert lines == [b"1,2", b"\0", b"12345678", b"\0", b"5,6", b"7" * 9]


@given(
    sizes=st.lists(st.integers(0, 12), max_size=9),
    end=st.booleans(),
    mark=st.booleans(),
    cuts=st.lists(st.integers(0, 60), max_size=9),
)
def test_lines_are_the_same_wherever_blocks_are_cut(
    sizes: list[int], end: bool, mark: bool, cuts: list[int]
) -> None:
    content = b"\n".join([b"7" * size for size in sizes]) + b"\n" * end
    whole = b"\xef\xbb\xbf" * mark + content
    places = [0, *sorted(cuts), len(whole)]

    found = list(whole_lines([whole[i:j] for i, j in pairwise(places)], 6))

    expected = [
        line if len(line) <= 6 else b"\0" + b"\n" * line.endswith(b"\n")
        for line in content.splitlines(keepends=True)
    ]
    assert b"".join(found) == b"".join(expected)
    assert all(piece.endswith(b"\n") for piece in found[:-1])


def test_line_that_never_ends_is_no_csv() -> None:
    first = next(whole_lines(b"1," * (1 << 19) for _ in range(20)))

    with pytest.raises(DataError, match="too long a line"):
        open_csv(first, "own.csv")


def test_rows_at_fault_are_named_in_order_and_change_no_other() -> None:
    content = b'a,b\n1,2\n3,x\n4\n5,6\n\xff,7\ny,"8\n9,z\n10,11\n'
    layout = open_csv(b"a,b\n1,2\n", "own.csv")

    (piece,) = csv_pieces.csv_pieces([content], layout, "own.csv")

    np.testing.assert_array_equal(piece.numbers, [[1, 2], [5, 6], [10, 11]])
    np.testing.assert_array_equal(piece.lines, [2, 5, 9])
    assert [fault.row for fault in piece.faults] == [3, 4, 6, 7, 8]
    assert all("'x'" not in fault.unquoted for fault in piece.faults)


def test_column_of_which_nothing_is_wanted_is_not_read() -> None:
    table = read(b"a,b,c\n1,x,3\n4,,5\n", unread=frozenset({"b"}))

    assert list(table.numbers) == ["a", "c"]
    assert not table.texts


def test_row_of_a_late_fault_is_right_in_any_piece() -> None:
    rows = [b"%d,%d" % (at, at) for at in range(5000)]
    rows[4321] = b"1,oops"

    with pytest.raises(DataError, match="row 4323, column 'b': 'oops'"):
        read(b"a,b\n" + b"\n".join(rows), block=1000)
