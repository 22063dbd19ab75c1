"""What the MEG tasks made, in words and paths."""

from pathlib import Path

from core.tasks.meg.requests import PrepareSummary, PretrainResult, PretrainSettings
from core.tasks.meg.words import prepared_as_text, trained_checkpoint, with_data


def test_a_prepared_folder_in_words():
    recordings = ({"channels": "names"}, {"channels": "interpolated"}, {"channels": "names"})
    summary = PrepareSummary(Path("p"), {"train": 9, "eval": 3}, {"train": 90.0, "eval": 30.0}, recordings, skipped=1)
    assert prepared_as_text(summary) == (
        "9 segments (90 s) in train, 3 segments (30 s) in eval; channels of 3 recordings by: 2 names, 1 interpolated. "
        "1 were prepared before."
    )


def test_the_data_go_where_the_settings_look(tmp_path):
    assert with_data(PretrainSettings(), tmp_path).numpy_data_dir == str(tmp_path)
    libribrain = with_data(PretrainSettings(use_libribrain=True), tmp_path)
    assert (libribrain.data_dir, libribrain.numpy_data_dir) == (str(tmp_path), PretrainSettings().numpy_data_dir)


def test_the_best_checkpoint_is_named_where_there_is_one(tmp_path):
    result = PretrainResult(str(tmp_path), 10, True, {})
    assert trained_checkpoint(result) == tmp_path / "last"
    (tmp_path / "best").mkdir()
    assert trained_checkpoint(result) == tmp_path / "best"
