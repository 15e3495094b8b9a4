"""Lines of files and pipes: read twice, numbered as an editor does, a bad one harming no other."""

import io
import os
import threading
from pathlib import Path

from sync.warmup.lines import LINE_BYTES_MAX, Defaults
from sync.warmup.source import Flaw, Source, batch_of, opened

TEXT = b'"a"\n\n  \nnot json\n"b"\n"a"\n{"prompt": "c", "answer": "d"}'


def source(text: bytes) -> Source:
    return Source(io.BytesIO(text), Defaults("m"))


def test_a_survey_counts_and_names_what_cannot_be_used() -> None:
    survey = source(TEXT).survey()
    assert (survey.lines, survey.given, survey.repeated, survey.bad) == (3, 1, 1, 1)
    assert survey.flaws == [Flaw(4, "it is not JSON; plain text belongs in quotes")]


def test_lines_that_count_are_read_again_and_again() -> None:
    one = source(TEXT)
    one.survey()
    assert [number for number, _ in one] == [number for number, _ in one] == [1, 5, 7]


def test_another_byte_is_another_file() -> None:
    digests = {source(text).survey().digest for text in (TEXT, TEXT, TEXT + b"\n", b"")}
    assert len(digests) == 3


def test_a_byte_order_mark_is_not_part_of_the_first_line() -> None:
    assert source(b'\xef\xbb\xbf"a"\r\n"b"\r\n').survey().lines == 2


def test_a_line_without_end_is_one_bad_line_and_the_next_one_is_good() -> None:
    text = b'"' + b"x" * (3 * LINE_BYTES_MAX) + b'"\n"b"\n'
    survey = source(text).survey()
    assert (survey.lines, survey.bad) == (1, 1)
    assert survey.flaws[0].number == 1
    assert [number for number, _ in source(text)] == [2]


def test_a_pipe_is_read_twice_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(TEXT)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(TEXT,))
    writer.start()
    opens = [
        opened(tmp_path / "lines", io.BytesIO()),
        opened(pipe, io.BytesIO()),
        opened(None, io.BytesIO(TEXT)),
    ]
    writer.join()
    for file in opens:
        one = Source(file, Defaults("m"))
        assert one.survey() == source(TEXT).survey()
        assert len(list(one)) == 3
        one.close()


def test_a_batch_is_read_whole_and_its_bad_lines_named() -> None:
    batch, flaws = batch_of(io.BytesIO(b'{"custom_id": "a"}\n{"custom_id": "a"}\n{}\n'))
    assert len(batch) == 1
    assert [flaw.number for flaw in flaws] == [2, 3]
