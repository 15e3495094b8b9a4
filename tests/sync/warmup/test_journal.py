"""What is in the journal was done, whatever kills whom; what is not is done again."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from sync.warmup.journal import Done, Journal, JournalError
from sync.warmup.plan import Tokens

OPTIONS = {"tenant": None, "labels": ["warm:x"], "node": ["http://127.0.0.1:9090"]}


def done(number: int, outcome: str = "stored", reason: str = "") -> Done:
    digest = number.to_bytes(16)
    return Done(digest, outcome, reason, True, Tokens(number, 1), number, f"name-{number}")


async def written(path: Path, *records: Done) -> None:
    journal = Journal.open(path, OPTIONS)
    journal.begin("digest")
    await asyncio.gather(*(journal.add(one) for one in records))
    journal.close()


async def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    records = [done(1), done(2, "refused", "secret"), done(3, "failed", "no")]
    await written(path, *records)
    again = Journal.open(path, OPTIONS)
    assert again.before == {one.digest: one for one in records}
    assert again.file_then == "digest"
    assert [one.ended for one in records] == [True, True, False]
    again.close()


async def test_the_last_word_on_a_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await written(path, done(1, "failed", "no"))
    await written(path, done(1))
    again = Journal.open(path, OPTIONS)
    assert again.before[done(1).digest].outcome == "stored"
    again.close()


async def test_a_kill_at_any_byte_loses_the_torn_line_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await written(path, done(1), done(2))
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        journal = Journal.open(path, OPTIONS)
        assert len(journal.before) == max(0, sum(end <= cut for end in ends) - 2)
        await journal.add(done(3))
        journal.close()
        again = Journal.open(path, OPTIONS)
        assert done(3).digest in again.before
        again.close()


async def test_it_holds_no_prompt_and_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await written(path, done(1))
    assert path.stat().st_mode & 0o077 == 0
    assert set(json.loads(path.read_bytes().splitlines()[-1])) == {
        *("line", "number", "name", "outcome", "reason", "asked", "tokens"),
    }


@pytest.mark.parametrize("options", [{**OPTIONS, "tenant": "acme"}, {**OPTIONS, "node": []}])
async def test_another_job_is_not_taken_for_this_one(
    tmp_path: Path, options: dict[str, object]
) -> None:
    path = tmp_path / "journal"
    await written(path, done(1))
    with pytest.raises(JournalError, match=r"another (tenant|node).*--restart"):
        Journal.open(path, options)
    anew = Journal.open(path, options, restart=True)
    assert anew.before == {}
    anew.close()


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "content", [b"prompts", b"prompts\n", b"[1]\n", b'{"prompt": "a"}\n{"prompt": "b"}']
)
async def test_what_is_no_journal_is_left_as_it_is(
    tmp_path: Path, content: bytes, restart: bool
) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="not a journal"):
        Journal.open(path, OPTIONS, restart=restart)
    assert path.read_bytes() == content


async def test_a_journal_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"warmup": 99, "options": {}}\n')
    with pytest.raises(JournalError, match="not a journal of this version"):
        Journal.open(path, OPTIONS)


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = Journal.open(path, OPTIONS)
    with pytest.raises(JournalError, match="another warm-up"):
        Journal.open(path, OPTIONS)
    first.close()
    Journal.open(path, OPTIONS).close()


async def test_removed_it_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal", OPTIONS)
    journal.remove()
    journal.close()
    assert os.listdir(tmp_path) == []


async def test_nowhere_keeps_nothing() -> None:
    journal = Journal.nowhere()
    journal.begin("digest")
    await journal.add(done(1))
    journal.remove()
