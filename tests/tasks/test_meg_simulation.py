import warnings

import mne
import numpy as np
import pytest

from core.errors import InputError, OutputError
from core.meg.reader import SIMULATED
from core.synthetic.meg import LABELS
from core.tasks.meg.requests import SimulateRequest
from core.tasks.meg.simulation import simulate_meg


def request(folder, **other):
    return SimulateRequest(folder / "made.fif", **{"seconds": 20.0, **other})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "new"
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return simulate_meg(request(folder, seed=1, subject=7), seen.append), seen


def test_the_file_keeps_labels_and_its_mark(made):
    simulation, seen = made
    raw = mne.io.read_raw_fif(simulation.path, verbose="ERROR")
    assert raw.info["description"].startswith(SIMULATED)
    assert raw.info["subject_info"]["his_id"] == "sim-007"
    assert raw.info["line_freq"] == 50
    assert raw.n_times == 5000
    counted = {label: list(raw.annotations.description).count(label) for label in LABELS}
    assert counted == dict(simulation.labels) and sum(counted.values()) == 2
    assert np.all(raw.annotations.duration >= 2.0)
    assert [path.name for path in simulation.path.parent.iterdir()] == ["made.fif"]
    assert [step.done for step in seen] == [0, 1, 2]
    assert simulation.facts["simulated"] == SIMULATED and simulation.facts["seed"] == 1


def test_nothing_is_replaced_unasked(made, tmp_path):
    simulation, _ = made
    before = simulation.path.read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        simulate_meg(request(simulation.path.parent, seconds=3.0))
    assert simulation.path.read_bytes() == before
    (tmp_path / "made.fif").write_bytes(b"old")
    simulate_meg(request(tmp_path, seconds=3.0, force=True))
    assert mne.io.read_raw_fif(tmp_path / "made.fif", verbose="ERROR").n_times == 750


@pytest.mark.parametrize(
    ("name", "other", "error", "said"),
    [
        ("made.npy", {}, InputError, "ends with .fif"),
        ("made.fif", {"seconds": 1e6}, InputError, "one .fif holds 6275 s"),
        ("made.fif", {"seconds": -3.0}, InputError, "at least 1 s"),
        ("taken.fif", {}, OutputError, "is a folder"),
        ("file/made.fif", {}, OutputError, "is a file"),
    ],
)
def test_refusals(tmp_path, name, other, error, said):
    (tmp_path / "taken.fif").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=said):
        simulate_meg(SimulateRequest(tmp_path / name, **other))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        (tmp_path / "partial").write_text("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mne.io.BaseRaw, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        simulate_meg(request(tmp_path, seconds=3.0))
    assert not list(tmp_path.glob("*.fif"))
