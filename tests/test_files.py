"""Files of users: read with one sentence for whatever is wrong, written whole or not at all (design §10)."""

from pathlib import Path

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.files import check_keys, read_toml, write_whole


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"batch = ", "not valid TOML"),
        (b"batch = " + b"9" * 5000, "not valid TOML"),  # longer than Python reads: no TOML error of its own
        (b"a = " + b"[" * 20_000, "not valid TOML"),
        (b"name = '\xff'", "not valid TOML"),
    ],
    ids=["cut off", "too many digits", "too deep", "no UTF-8"],
)
def test_what_is_no_toml_is_said_with_the_file(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(RidgepointError, match=says) as refused:
        read_toml(path, "bad_thing")
    assert refused.value.kind == "bad_thing"
    assert "mine.toml" in refused.value.message
    assert refused.value.hint


def test_a_missing_file_and_an_unknown_key_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RidgepointError, match="check the path"):
        read_toml(tmp_path / "none.toml", "bad_thing")
    with pytest.raises(RidgepointError, match=r"unknown key `task\.bath`.*did you mean batch"):
        check_keys(tmp_path, "bad_thing", "task.", {"bath": 1}, ("batch", "seq"))


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    """Nothing half-written, and nothing left beside it."""
    taken = tmp_path / "folder"
    taken.mkdir()
    (taken / "inside").touch()
    with pytest.raises(RidgepointError, match="cannot write"):
        write_whole(taken, "text")
    with pytest.raises(RidgepointError, match="cannot write"):
        write_whole(tmp_path / "missing" / "a.txt", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    write_whole(tmp_path / "a.txt", "µ")
    assert (tmp_path / "a.txt").read_bytes() == "µ".encode()
