"""The cache of real recordings: complete, keyed by content, and safe when several processes unpack at once."""

import subprocess
import sys
import tarfile

import pytest

from tests.conftest import unpack

UNPACK = (
    "import sys; from pathlib import Path; from tests.conftest import unpack; print(unpack(*map(Path, sys.argv[1:])))"
)


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "made" / "things"
    folder.mkdir(parents=True)
    for index in range(200):
        (folder / f"{index}.txt").write_text(str(index) * 1000)
    with tarfile.open(tmp_path / "things.tar.xz", "w:xz") as tar:
        tar.add(folder, "things")
    return tmp_path / "things.tar.xz"


def test_processes_at_once_share_one_complete_copy(archive, tmp_path, request):
    command = [sys.executable, "-c", UNPACK, str(archive), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, cwd=request.config.rootpath, stdout=subprocess.PIPE) for _ in range(4)]
    folders = {process.communicate()[0].decode().strip() for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(folders) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert len(list((tmp_path / "cache").glob("things-*/things/*.txt"))) == 200


def test_a_changed_archive_gets_a_folder_of_its_own(archive, tmp_path):
    first = unpack(archive, tmp_path / "cache")
    archive.write_bytes(archive.read_bytes() + b"\0" * 4)
    assert first.name == "things"
    assert unpack(archive, tmp_path / "cache").parent != first.parent
