"""Archives from strangers: what is in them, what they claim, and what is left where it goes wrong."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.emotion.archives import ArchiveLimits, _copy, list_zip, top_folder, unpack_zip
from core.errors import DataError, InputError, OutputError

LIMITS = ArchiveLimits()
SMALL = ArchiveLimits(max_files=20, max_bytes=100_000)


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            # Through an entry of its own, since writestr would tidy the name.
            entry = zipfile.ZipInfo("x.wav")
            entry.filename = entry.orig_filename = name
            entry.compress_type = method
            archive.writestr(entry, content)
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(path: Path, folder: Path, match: str, limits: ArchiveLimits = LIMITS) -> None:
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(DataError, match=match):
        unpack_zip(path, folder, limits)
    assert sorted(folder.parent.rglob("*")) == before, "something was left behind"


def test_recordings_and_tables_are_unpacked_and_others_listed(tmp_path):
    files = {
        **{"corpus/a.wav": b"a", "corpus/deep/ä b.FLAC": b"b", "corpus/labels.csv": b"file"},
        **{"corpus/run.py": b"x", "corpus/inner.zip": b"PK", "__MACOSX/corpus/._a.wav": b"m", "corpus/.DS_Store": b"d"},
    }
    path = make_zip(tmp_path / "c.zip", files)
    folder = unpack_zip(path, tmp_path / "out" / "c", LIMITS)
    assert folder == tmp_path / "out" / "c" / "corpus"
    assert files_of(folder) == {"a.wav": b"a", "deep/ä b.FLAC": b"b", "labels.csv": b"file"}
    assert list_zip(path, LIMITS).left_out == ("corpus/run.py", "corpus/inner.zip")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["c"]


def test_a_zip_within_the_zip_is_not_opened(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("secret.wav", b"s")
    path = make_zip(tmp_path / "c.zip", {"a.wav": b"a", "inner.zip": inner.getvalue()})
    assert files_of(unpack_zip(path, tmp_path / "c", LIMITS)) == {"a.wav": b"a"}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        *((name, "leaves") for name in ("../e.wav", "a/../../e.wav", "..\\e.wav", "a\\..\\..\\e.wav", "../e.txt")),
        *((name, "absolute") for name in ("/etc/e.wav", "\\e.wav", "C:\\e.wav", "c:e.wav", "//host/share/e.wav")),
        *((name, "device") for name in ("NUL.wav", "a/con.tar.wav", "COM1.wav", "aux/a.wav")),
        *(("a/b\nc.wav", "control"), ("a" * 250 + ".wav", "200 bytes"), ("ä" * 120 + ".wav", "200 bytes")),
        *(("d/" * 600 + "a.wav", "1000"),),
    ],
)  # fmt: skip
def test_names_that_cannot_be_trusted_are_refused(tmp_path, name, match):
    assert_refused(make_zip(tmp_path / "c.zip", {"good.wav": b"g", name: b"e"}), tmp_path / "out", match)


def test_a_name_with_a_zero_byte_is_refused(tmp_path):
    path = make_zip(tmp_path / "c.zip", {"evil.wavX.txt": b"e"})
    path.write_bytes(path.read_bytes().replace(b"wavX", b"wav\0"))
    assert_refused(path, tmp_path / "out", "control")


PARTS = st.lists(st.sampled_from(["..", ".", "", "a", "B", "ü", "~", "C:", "%2e%2e", "...", " ", "a.wav"]), max_size=6)


@given(PARTS, st.sampled_from(["/", "\\", "//"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_path_leaves_the_folder(tmp_path_factory, parts, slash, rooted):
    root = tmp_path_factory.mktemp("zip")
    name = slash * rooted + slash.join([*parts, "x.wav"])
    folder = root / "deep" / "er" / "out"
    path = make_zip(root / "c.zip", {name: b"x"})
    try:
        unpack_zip(path, folder, LIMITS)
    except DataError:
        assert not folder.exists()
    written = [entry for entry in root.rglob("*") if entry.is_file() and entry != path]
    assert all(entry.resolve().is_relative_to(folder) for entry in written)
    assert not list(root.rglob(".unpacking-*"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("a.wav")
        entry.create_system = 3
        entry.external_attr = (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    assert_refused(path, tmp_path / "out", "link" if kind == stat.S_IFLNK else "neither")


def test_names_that_are_one_on_some_systems_are_refused(tmp_path):
    assert_refused(make_zip(tmp_path / "a.zip", {"a.wav": b"1", "A.WAV": b"2"}), tmp_path / "out", "one file")
    assert_refused(make_zip(tmp_path / "b.zip", {"é.wav": b"1", "e\u0301.wav": b"2"}), tmp_path / "out", "one file")
    assert_refused(make_zip(tmp_path / "c.zip", {"a.wav": b"1", "A.wav/b.wav": b"2"}), tmp_path / "out", "below it")


def test_a_bomb_that_tells_its_size_is_not_begun(tmp_path):
    assert_refused(make_zip(tmp_path / "c.zip", {"a.wav": bytes(200_000)}), tmp_path / "out", "more than", SMALL)


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path):
    path = make_zip(tmp_path / "c.zip", {"a.wav": bytes(50_000_000)})
    content = path.read_bytes()
    told, lie = struct.pack("<L", 50_000_000), struct.pack("<L", 1_000)
    assert content.count(told) == 2
    path.write_bytes(content.replace(told, lie))
    assert path.stat().st_size < SMALL.max_bytes
    assert_refused(path, tmp_path / "out", "damaged", SMALL)


def test_what_is_written_is_counted_whatever_the_headers_say(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "c.zip", {f"{number}.wav": bytes(30_000) for number in range(4)})
    monkeypatch.setattr("core.emotion.archives._check_distinct", lambda *_: None)
    honest = zipfile.ZipFile.infolist
    # Sizes that were believed when the table was read are not believed again.
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda self: [_smaller(entry) for entry in honest(self)])
    opened = zipfile.ZipFile.open
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda self, entry: opened(self, entry.filename))
    assert_refused(path, tmp_path / "out", "more than", SMALL)


def test_copying_stops_right_behind_the_cap():
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    target = io.BytesIO()
    assert _copy(Endless(), target, 3 << 20) == (3 << 20) + 1
    assert len(target.getvalue()) == (3 << 20) + 1


def _smaller(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    copy = zipfile.ZipInfo(entry.filename)
    copy.file_size, copy.compress_type, copy.flag_bits = 1, entry.compress_type, entry.flag_bits
    return copy


def test_too_many_files_are_refused(tmp_path):
    files = {f"{number}.wav": b"x" for number in range(21)}
    assert_refused(make_zip(tmp_path / "c.zip", files), tmp_path / "out", "21 files", SMALL)


def test_encrypted_and_odd_methods_are_refused(tmp_path):
    path = make_zip(tmp_path / "c.zip", {"a.wav": b"x"})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    path.write_bytes(bytes(content))
    assert_refused(path, tmp_path / "out", r"encrypted \(a\.wav\).*without a password")
    assert_refused(make_zip(tmp_path / "b.zip", {"a.wav": b"x"}, zipfile.ZIP_BZIP2), tmp_path / "out", "method 12")


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x05\x06" + bytes(10)])
def test_what_is_no_archive_is_said(tmp_path, content):
    path = tmp_path / "c.zip"
    path.write_bytes(content)
    assert_refused(path, tmp_path / "out", "no zip archive")


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        unpack_zip(tmp_path / "none.zip", tmp_path / "out", LIMITS)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_damage_anywhere_gives_an_error_and_leaves_nothing(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("zip")
    path = make_zip(root / "c.zip", {"a.wav": bytes(range(256)) * 4, "b.csv": b"file,speaker\n" * 20})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content))
    try:
        unpack_zip(path, root / "out", SMALL)
    except (DataError, InputError, OutputError):
        assert [entry.name for entry in root.iterdir()] == ["c.zip"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    path = make_zip(tmp_path / "c.zip", {"a.wav": b"new"})
    folder = tmp_path / "out"
    folder.mkdir()
    assert unpack_zip(path, folder, LIMITS) == folder
    with pytest.raises(InputError, match="not empty"):
        unpack_zip(path, folder, LIMITS)


def test_the_top_folder_is_where_more_than_one_thing_is(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    assert top_folder(tmp_path) == tmp_path / "a" / "b"
    (tmp_path / "a" / "x.wav").write_bytes(b"x")
    assert top_folder(tmp_path) == tmp_path / "a"
