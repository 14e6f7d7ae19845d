"""What is opened is a regular file, and what is written is whole, and where it was meant to be."""

import os
import socket
import stat
from pathlib import Path

import pytest

from nufed.conf.errors import InputError
from nufed.conf.files import (
    is_there,
    read_bytes,
    read_text,
    regular,
    replacing,
    require_no_links,
    write_whole,
)


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"seven b")
    with regular(file) as opened:
        assert opened.read() == b"seven b"
    assert read_bytes(file, largest=7) == b"seven b"
    assert read_text(file) == "seven b"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with file.open("wb") as out:
        out.truncate(1 << 40)  # a hole of a terabyte: to read it would take the memory
    with pytest.raises(InputError, match=r"a: has 1,099,511,627,776 bytes.*at most 9"):
        read_bytes(file, largest=9)


def test_what_is_no_text_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="it is no text in UTF-8"):
        read_text(tmp_path / "a")


def test_nothing_but_a_regular_file_is_opened(tmp_path: Path) -> None:
    """Nobody writes to the FIFO: to open it as one opens a file would wait for ever."""
    fifo, folder, sock = (tmp_path / name for name in ("fifo", "folder", "sock"))
    os.mkfifo(fifo)
    folder.mkdir()
    kinds = {fifo: "a FIFO", folder: "a folder", sock: "a socket", Path("/dev/zero"): "a device"}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        for path, kind in kinds.items():
            for links in (False, True):
                with pytest.raises(InputError, match=f"{path}: is {kind}, not a regular file"):
                    regular(path, links=links)
    (tmp_path / "to-fifo").symlink_to(fifo)
    with pytest.raises(InputError, match="to-fifo: is a FIFO"):
        regular(tmp_path / "to-fifo", links=True)
    for missing in (tmp_path / "nothing", tmp_path / "nul\0"):
        with pytest.raises(InputError, match="cannot be read"):
            regular(missing)


def test_something_else_than_a_file_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "lost").symlink_to("nothing")
    assert is_there(tmp_path / "file")
    assert is_there(tmp_path / "link", links=True)
    assert not is_there(tmp_path / "nothing")
    assert not is_there(tmp_path / "file" / "within")
    os.mkfifo(tmp_path / "fifo")
    for name, kind in {
        "fifo": "a FIFO",
        "link": "a symbolic link",
        "lost": "a symbolic link",
    }.items():
        with pytest.raises(InputError, match=f"{name}: is {kind}, not a regular file"):
            is_there(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        is_there(tmp_path / "nul\0")


def test_a_link_is_followed_only_where_a_person_named_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", links=True) == b"content"
    with pytest.raises(InputError, match="link: is a symbolic link, not a regular file"):
        regular(tmp_path / "link")


def test_a_folder_with_a_link_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "checkpoint"
    require_no_links([tmp_path, inner])  # which is not there
    inner.mkdir()
    (tmp_path / "file").touch()
    require_no_links([tmp_path, inner])
    (inner / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"checkpoint/b: is a symbolic link.*remove it"):
        require_no_links([tmp_path, inner])


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a"
    old = os.umask(0o027)
    try:
        write_whole(file, b"one")
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640  # as any other file of this process
    with pytest.raises(TypeError), replacing(file) as draft:
        draft.writelines([b"two" * (1 << 20), "no bytes"])  # type: ignore[list-item]
    assert file.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """Neither the file's own, nor one where its draft would be."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".report.html").symlink_to(mine)
    (folder / "report.html").symlink_to(mine)
    write_whole(folder / "report.html", b"report")
    assert mine.read_bytes() == b"precious"
    assert not (folder / "report.html").is_symlink()
    assert (folder / "report.html").read_bytes() == b"report"
    assert os.listdir(folder) == ["report.html"]
