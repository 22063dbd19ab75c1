"""Features: memory maps of what Strata wrote, what others wrote, and what cannot be used."""

import io
import json
import zipfile

import numpy as np
import pytest
import soundfile

from core import tasks
from core.analysis.features import is_readable_features, open_feature_set, open_features
from core.arrays import EmbedSettings, OutputSettings
from core.errors import DataError, InputError
from tests.analysis.feature_files import CLOCK, edit_json, planted, write_features
from tests.tiny_models import save_tiny


def raw_npz(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(values, **kwargs) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **kwargs)
    return buffer.getvalue()


# ---- what Strata wrote ----


def test_layers_come_in_numeric_order_with_their_own_values_as_read_only_maps(tmp_path):
    values = planted(40, layers=range(25))
    opened = open_features(write_features(tmp_path, "rec.v1", values))
    assert opened.layers == tuple(range(25))  # 0, 1, 2, ...; never 0, 1, 10
    assert (opened.name, opened.n_frames, opened.dim, opened.clock) == ("rec.v1", 40, 5, CLOCK)
    for number in opened.layers:
        layer = opened.layer(number)
        assert isinstance(layer, np.memmap) and not layer.flags.writeable
        assert np.array_equal(layer, values[number])
    assert opened.metadata["model_name"] == "tiny" and opened.recording_hash == "rec.v1-bytes"
    assert opened.stem == "rec.v1" and opened.ignored == ()


def test_the_map_lies_where_numpy_reads_the_same_values(tmp_path):
    path = write_features(tmp_path, "rec", planted(7))
    opened = open_features(path)
    with np.load(path, allow_pickle=False) as archive:
        for number in opened.layers:
            assert np.array_equal(opened.layer(number), archive[f"layer_{number}"])


def test_chosen_layers_keep_their_numbers_and_others_are_refused(tmp_path):
    opened = open_features(write_features(tmp_path, "rec", planted(7, (0, 6, 12)), layers=(0, 6, 12)))
    assert opened.layers == (0, 6, 12) and opened.layer(12)[0, 1] == 12
    with pytest.raises(InputError, match=r"no layer 5; it holds 0, 6, 12"):
        opened.layer(5)


def test_the_duration_is_the_one_written_and_else_where_the_last_frame_ends(tmp_path):
    written = open_features(write_features(tmp_path, "a", planted(50), duration_seconds=1.03))
    derived = open_features(write_features(tmp_path, "b", planted(50)))
    assert written.duration_seconds == 1.03
    assert derived.duration_seconds == pytest.approx(49 * 0.02 + 0.025)


# ---- what others wrote ----


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("batch", [False, True])
def test_foreign_files_of_any_float_and_two_or_three_axes(tmp_path, save, dtype, batch):
    values = planted(30).astype(dtype)
    arrays = {f"layer_{number}": values[number][None] if batch else values[number] for number in range(13)}
    save(tmp_path / "x.npz", conv_0=np.zeros((3, 2)), **arrays)
    opened = open_features(tmp_path / "x.npz")
    assert opened.layers == tuple(range(13)) and opened.ignored == ("conv_0",)
    assert opened.clock is None and not opened.metadata and opened.duration_seconds is None
    for number in opened.layers:
        layer = opened.layer(number)
        assert layer.dtype == np.float32 and layer.shape == (30, 5) and not layer.flags.writeable
        assert np.array_equal(layer, values[number].astype(np.float32))
        assert isinstance(layer, np.memmap) == (save is np.savez and dtype == "<f4")


def test_fortran_order_is_read_right(tmp_path):
    values = np.asfortranarray(planted(30)[3])
    np.savez(tmp_path / "x.npz", layer_0=values)
    assert np.array_equal(open_features(tmp_path / "x.npz").layer(0), values)


# ---- what cannot be used ----


def bad_files(tmp_path):
    good = write_features(tmp_path, "good", planted(9)).read_bytes()
    layer = npy(np.zeros((4, 3), "f4"))
    yield "no zip", b"RIFF....WAVE", "no .npz that can be read"
    yield "empty", b"", "no .npz that can be read"
    yield "cut short", good[: len(good) // 2], "no .npz that can be read"
    for name, members, words in [
        ("nothing in it", {}, "holds nothing; expected layer_0"),
        ("conv only", {"conv_0.npy": layer}, "holds conv_0; expected layer_0"),
        ("frames differ", {"layer_0.npy": layer, "layer_1.npy": npy(np.zeros((5, 3)))}, "layer 0 has 4 frames"),
        ("dims differ", {"layer_0.npy": layer, "layer_10.npy": npy(np.zeros((4, 2)))}, "layer 10 4 of 2"),
        ("one axis", {"layer_0.npy": npy(np.zeros(4))}, r"the shape \(4,\)"),
        ("a batch of two", {"layer_0.npy": npy(np.zeros((2, 4, 3)))}, r"the shape \(2, 4, 3\)"),
        ("no frames", {"layer_0.npy": npy(np.zeros((0, 3)))}, "no frames"),
        ("objects", {"layer_0.npy": npy(np.array([[{}]], dtype=object), allow_pickle=True)}, "holds object"),
        ("integers", {"layer_0.npy": npy(np.zeros((4, 3), int))}, "holds int64"),
        ("no numpy", {"layer_0.npy": b"hello"}, "no numpy array"),
        ("half an array", {"layer_0.npy": layer[:-8]}, "are needed for"),
        ("a number twice", {"layer_1.npy": layer, "layer_01.npy": layer}, "holds layer 1 twice"),
    ]:
        yield name, raw_npz(tmp_path / "raw.npz", members).read_bytes(), words


def test_each_bad_file_has_its_sentence(tmp_path):
    for name, content, words in bad_files(tmp_path):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=words) as caught:
            open_features(path)
        assert f"{name}.npz" in str(caught.value)


def test_a_missing_file_and_damaged_compressed_values_have_a_sentence(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        open_features(tmp_path / "gone.npz")
    np.savez_compressed(tmp_path / "x.npz", layer_0=planted(2_000)[0])
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "x.npz").write_bytes(content)
    opened = open_features(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"no \.npz that can be read"):
        opened.layer(0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read as JSON"),
        (b"[1]", "no JSON object"),
        (json.dumps({"num_frames": 8}).encode(), "says num_frames 8, and x.npz has 9"),
        (json.dumps({"hidden_size": 768}).encode(), "says hidden_size 768"),
        (json.dumps({"clock": {"hop": 320}}).encode(), "has the clock"),
        (json.dumps({"clock": {"hop": 0, "field": 4, "start": 0, "sampling_rate": 1}}).encode(), "has the clock"),
    ],
)
def test_a_json_that_is_of_something_else_is_refused(tmp_path, content, words):
    path = write_features(tmp_path, "x", planted(9))
    path.with_suffix(".json").write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_features(path)


def test_a_file_that_was_cut_or_damaged_is_no_readable_one(tmp_path):
    path = write_features(tmp_path, "x", planted(40))
    whole = path.read_bytes()
    assert is_readable_features(path) and not is_readable_features(tmp_path / "gone.npz")
    middle = len(whole) // 2
    damaged = {
        "nothing": b"", "half": whole[:middle], "short by a byte": whole[:-1],
        "zeros at the end": whole[:-900] + bytes(900),
        "a hole": whole[: middle - 64] + whole[middle + 64 :], "no beginning": whole[64:],
        "a page of zeros": bytes(4_096) + whole[4_096:],
    }  # fmt: skip
    for what, content in damaged.items():
        path.write_bytes(content)
        assert not is_readable_features(path), what
    path.write_bytes(whole)
    path.with_suffix(".json").write_text("{")
    assert not is_readable_features(path)


def test_a_member_that_reaches_beyond_the_file_is_refused(tmp_path):
    """The directory is sound, and says that the last layer has more bytes than lie before it."""
    path = raw_npz(tmp_path / "x.npz", {"layer_0.npy": npy(np.zeros((4, 3), "f4"))})
    layer, content = npy(np.zeros((400, 3), "f4")), bytearray(path.read_bytes())
    size = len(npy(np.zeros((4, 3), "f4"))).to_bytes(4, "little")
    begin = content.index(b"PK\x01\x02")
    content[30 + len("layer_0.npy") : begin - 48] = layer[: begin - 48 - 30 - len("layer_0.npy")]
    path.write_bytes(bytes(content).replace(size, len(layer).to_bytes(4, "little")))
    assert not is_readable_features(path)
    with pytest.raises(DataError, match=r"x\.npz is no \.npz that can be read"):
        open_features(path)


@pytest.mark.parametrize(("written", "channel"), [(2, 2), ("mean of all", None), (None, None), (True, None)])
def test_the_channel(tmp_path, written, channel):
    assert open_features(write_features(tmp_path, "x", planted(9), channel=written)).channel == channel


# ---- several recordings ----


def test_a_set_takes_stems_as_names_and_longer_ones_where_they_collide(tmp_path):
    paths = [write_features(tmp_path / folder, name, planted(9)) for folder, name in (("a", "x"), ("b", "y"))]
    assert [opened.name for opened in open_feature_set(paths)] == ["x", "y"]
    paths.append(write_features(tmp_path / "b", "x", planted(9), input_sha256="another"))
    assert [opened.name for opened in open_feature_set(paths)] == ["a/x", "b/y", "b/x"]
    assert [opened.name for opened in open_feature_set(paths, ["1", "2", "3"])] == ["1", "2", "3"]
    with pytest.raises(InputError, match="'1' is given twice"):
        open_feature_set(paths, ["1", "2", "1"])
    with pytest.raises(InputError, match="no feature files"):
        open_feature_set([])


def test_features_of_two_models_are_not_mixed(tmp_path):
    first = write_features(tmp_path, "a", planted(9))
    second = write_features(tmp_path, "b", planted(9), model_sha256="b" * 64, model_name="other")
    with pytest.raises(DataError, match=r"two models are mixed: .*a\.npz is of tiny .*b\.npz of other \(weights bbbb"):
        open_feature_set([first, second])


def test_layers_dims_and_clocks_must_agree(tmp_path):
    first = write_features(tmp_path, "a", planted(9))
    fewer = write_features(tmp_path, "b", planted(9, range(4)))
    wider = write_features(tmp_path, "c", planted(9, dim=6))
    later = write_features(tmp_path, "d", planted(9))
    edit_json(later, clock={"hop": 160, "field": 400, "start": 0, "sampling_rate": 16_000})
    for other, words in ((fewer, "layers 0-12 and .* 0-3"), (wider, "5 values a frame"), (later, "different clocks")):
        with pytest.raises(DataError, match=words):
            open_feature_set([first, other])


def test_one_recording_does_not_count_twice(tmp_path):
    first = write_features(tmp_path / "a", "x", planted(9), channel="mean of all", original_channels=2)
    same = write_features(tmp_path / "b", "x", planted(9), channel="mean of all", original_channels=2)
    other = write_features(tmp_path / "c", "x", planted(9), channel=2, original_channels=2)
    with pytest.raises(DataError, match=r"a/x \(.*a.x\.npz\) and b/x \(.*b.x\.npz\) are of one recording .* Leave one"):
        open_feature_set([first, same])
    assert len(open_feature_set([first, other])) == 2
    for path, channel in ((first, "mean of all"), (same, 1)):
        edit_json(path, original_channels=1, channel=channel)  # the only channel is the mean
    with pytest.raises(DataError, match="of one recording"):
        open_feature_set([first, same])
    for path in (first, same):
        edit_json(path, input_sha256=None)
    assert len(open_feature_set([first, same])) == 2  # what is not known cannot be checked


@pytest.mark.parametrize(
    ("key", "flag"), [("chunk_seconds", "--chunk-seconds"), ("context_seconds", "--context-seconds")]
)
def test_recordings_cut_with_different_settings_are_not_mixed(tmp_path, key, flag):
    windows = {"chunk_seconds": 5.0, "context_seconds": 2.0, "n_windows": 3, "engine": "torch", "precision": "fp32"}
    first = write_features(tmp_path, "a", planted(9), **windows)
    whole = write_features(tmp_path, "b", planted(9), **windows | {key: 3.0, "n_windows": 1})
    other = write_features(tmp_path, "c", planted(9), **windows | {key: 3.0})
    engine = write_features(tmp_path, "d", planted(9), **windows | {"engine": "openvino", "precision": "bf16"})
    with pytest.raises(DataError, match=rf"a\.npz was computed with .* of (5|2) s and .*c\.npz .* of 3 s.*{flag}"):
        open_feature_set([first, whole, other])
    unknown = write_features(tmp_path, "e", planted(9), **windows | {key: None})
    assert len(open_feature_set([first, whole, engine, unknown])) == 4


@pytest.mark.parametrize(("family", "settings"), [
    ("whisper", {}), ("whisper", {"chunk_seconds": 100.0}), ("whisper", {"context_seconds": 12.0}),
    ("wav2vec2-stable", {"chunk_seconds": 2.0}), ("wav2vec2-stable", {}),
])  # fmt: skip
def test_one_run_over_short_and_long_recordings_is_one_set(tmp_path, family, settings):
    """Real plans: the seconds written differ with the length of a recording, the settings behind them do not."""
    save_tiny(tmp_path / "model", family)
    paths = []
    for index, seconds in enumerate((0.7, 3.0, 10.5, 29.99, 30.5, 41.0)):
        samples = np.random.default_rng(index).normal(size=round(seconds * 16_000)) * 0.1
        soundfile.write(tmp_path / f"{index}.wav", samples, 16_000)
        embed = EmbedSettings(model=str(tmp_path / "model"), layers="all", engine="torch", precision="fp32", **settings)
        output = OutputSettings(tmp_path / "features", formats=("npz", "json"))
        paths.append(tasks.embed(tmp_path / f"{index}.wav", embed, output).files["npz"])
    files = open_feature_set(paths)
    seen = {(file.metadata["chunk_seconds"], file.metadata["context_seconds"]) for file in files}
    assert len(files) == 6 and len(seen) > 1
