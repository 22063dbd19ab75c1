"""Features: memory maps of what Strata wrote, what others wrote, and what cannot be used."""

import io
import json
import zipfile

import numpy as np
import pytest

from core.analysis.features import open_feature_set, open_features
from core.errors import DataError, InputError
from tests.analysis.feature_files import CLOCK, edit_json, planted, write_features


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


# ---- several recordings ----


def test_a_set_takes_stems_as_names_and_longer_ones_where_they_collide(tmp_path):
    paths = [write_features(tmp_path / folder, name, planted(9)) for folder, name in (("a", "x"), ("b", "y"))]
    assert [opened.name for opened in open_feature_set(paths)] == ["x", "y"]
    paths.append(write_features(tmp_path / "b", "x", planted(9)))
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
