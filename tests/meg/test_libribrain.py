"""LibriBrain's files as its authors write them, read through their own package."""

import pickle

import numpy as np
import pytest

from core.errors import DataError, InputError, MissingPackage
from core.meg.layouts import layout
from core.meg.libribrain import LibriBrainSettings, open_libribrain

h5py = pytest.importorskip("h5py")
pytest.importorskip("pnpl")

TRAIN = (("0", "1", "Sherlock1", "1"), ("0", "2", "Sherlock1", "1"))
EVAL = (("0", "11", "Sherlock1", "2"),)
RATE, N_TIMES = 250.0, 500
SENSORS = layout("neuromag306")
# MEGIN's own order, not the layout's: magnetometer first; and names without the blank.
ORDER = np.arange(306).reshape(102, 3)[:, [2, 1, 0]].ravel()


def path_of(folder, key):
    name = "sub-{}_ses-{}_task-{}_run-{}_proc-bads+headpos+sss+notch+bp+ds_meg.h5".format(*key)
    return folder / key[2] / "derivatives" / "serialised" / name


def write_run(folder, key, values, **attributes):
    """A run as ``pnpl.preprocessing.serialization.fif_to_h5`` writes it; rows of values are in the layout's order."""
    path = path_of(folder, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ", ".join(SENSORS.names[row].replace(" ", "") for row in ORDER)
    kinds = ", ".join(SENSORS.kinds[row] for row in ORDER)
    told = {"sample_frequency": RATE, "highpass_cutoff": 0.1, "lowpass_cutoff": 125.0}
    told |= {"channel_names": names, "channel_types": kinds} | attributes
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values[ORDER].astype(np.float32), chunks=(306, 50))
        file.create_dataset("times", data=np.arange(values.shape[1]) / RATE)
        file.attrs.update(told)
    events = folder / key[2] / "derivatives" / "events" / "sub-{}_ses-{}_task-{}_run-{}_events.tsv".format(*key)
    events.parent.mkdir(exist_ok=True)
    events.write_text("timemeg\tduration\tkind\tsegment\n0.1\t0.5\tword\tholmes\n0.6\t0.2\tsilence\t\n")


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    scales = np.where(np.array(SENSORS.kinds) == "mag", 1e-13, 1e-12)[:, None] * (1 + np.arange(306)[:, None] / 306)
    return {key: (rng.standard_normal((306, N_TIMES)) + place) * scales for place, key in enumerate(TRAIN + EVAL)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, planted):
    folder = tmp_path_factory.mktemp("libribrain")
    for key, values in planted.items():
        write_run(folder, key, values)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return open_libribrain(LibriBrainSettings(folder, TRAIN, EVAL))


def test_each_run_is_a_segment_of_its_part(data):
    assert [one.name for one in data.segments("train")] == [
        "sub-0_ses-1_task-Sherlock1_run-1",
        "sub-0_ses-2_task-Sherlock1_run-1",
    ]
    assert [(one.recording, one.n_times) for one in data.segments("eval")] == [
        ("sub-0_ses-11_task-Sherlock1_run-2", N_TIMES)
    ]
    with pytest.raises(InputError, match="train or eval"):
        data.segments("test")


def test_evaluation_is_standardised_by_the_training_runs_in_the_layouts_order(data, planted):
    """The document's loader takes each part's own statistics, after which its mean would be 0 instead of about 1.3."""
    train = np.concatenate([planted[key] for key in TRAIN], axis=1)
    expected = (planted[EVAL[0]] - train.mean(1, keepdims=True)) / train.std(1, keepdims=True)
    values = data.read(data.segments("eval")[0], 100, 300)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected[:, 100:300], atol=1e-4)
    assert values.mean() > 1


def test_statistics_are_those_that_pnpl_itself_computes(data, folder):
    from pnpl.datasets import LibriBrainSpeech

    theirs = LibriBrainSpeech(str(folder), include_run_keys=list(TRAIN), tmax=0.5, download=False)
    ours = data.model_input.statistics
    np.testing.assert_allclose(ours.mean[ORDER], theirs.channel_means, rtol=1e-4, atol=1e-16)
    np.testing.assert_allclose(ours.std[ORDER], theirs.channel_stds, rtol=1e-4)


def test_what_is_beyond_the_clip_is_cut(folder):
    data = open_libribrain(LibriBrainSettings(folder, TRAIN, EVAL, clip=0.5))
    assert np.abs(data.read(data.segments("train")[0], 0, N_TIMES)).max() == 0.5


def test_sensors_and_preparation_are_those_of_the_layout_and_the_files(data):
    preparation = data.model_input.preparation
    assert (preparation.sampling_rate, preparation.l_freq, preparation.h_freq) == (250, 0.1, None)
    assert data.sensors(data.segments("eval")[0]).fingerprint() == SENSORS.fingerprint()
    assert data.facts["seconds"] == {"train": 4.0, "eval": 2.0}


def test_another_process_reads_the_same(data):
    segment = data.segments("train")[1]
    values = data.read(segment, 0, 50)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).read(segment, 0, 50), values)


def test_reading_beyond_the_run_is_refused(data):
    with pytest.raises(InputError, match="expected 0 to 500"):
        data.read(data.segments("eval")[0], 400, 501)


def test_a_missing_run_is_refused_with_its_path(folder):
    """The document's own key has run 2 in session 1, which does not exist; pnpl warns and goes on without it."""
    missing = ("0", "1", "Sherlock1", "2")
    with pytest.raises(InputError, match=r"1 of 3 LibriBrain runs .*sub-0_ses-1_task-Sherlock1_run-2"):
        open_libribrain(LibriBrainSettings(folder, (TRAIN[0], missing), EVAL))


def test_no_list_of_runs_is_fetched(folder, monkeypatch):
    monkeypatch.delenv("PNPL_REMOTE_CONSTANTS_DISABLED", raising=False)
    asked = []
    monkeypatch.setattr("requests.get", lambda *given, **_: asked.append(given))
    monkeypatch.setattr("pnpl.datasets.libribrain2025.remote_constants._manager._cached_constants", None)
    open_libribrain(LibriBrainSettings(folder, TRAIN, EVAL))
    from pnpl.datasets.libribrain2025.constants import RUN_KEYS

    assert EVAL[0] in RUN_KEYS
    assert not asked


@pytest.mark.parametrize(("train", "evaluate"), [((), EVAL), (TRAIN, ()), ((("0", "1"),), EVAL)])
def test_incomplete_keys_are_refused(folder, train, evaluate):
    with pytest.raises(InputError, match="subject, session, task and run"):
        open_libribrain(LibriBrainSettings(folder, train, evaluate))


def test_a_run_cannot_train_and_evaluate(folder):
    with pytest.raises(InputError, match="to train and to evaluate"):
        open_libribrain(LibriBrainSettings(folder, TRAIN, (["0", "1", "Sherlock1", "1"],)))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"channel_names": "MEG0111, MEG0112"}, "306 rows, 2 names"),
        ({"channel_names": ", ".join(f"A{index}" for index in range(306))}, "lacks 306 of the 306"),
        ({"sample_frequency": 125.0}, "rates of 125, 250"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, planted, attributes, message):
    write_run(tmp_path, TRAIN[0], planted[TRAIN[0]])
    write_run(tmp_path, EVAL[0], planted[EVAL[0]], **attributes)
    with pytest.raises(DataError, match=message):
        open_libribrain(LibriBrainSettings(tmp_path, TRAIN[:1], EVAL))


def test_damaged_files_and_broken_values_are_refused(tmp_path, planted):
    write_run(tmp_path, EVAL[0], planted[EVAL[0]])
    broken = planted[TRAIN[0]].copy()
    broken[3, 20] = np.nan
    write_run(tmp_path, TRAIN[0], broken)
    with pytest.raises(DataError, match="NaN or infinite"):
        open_libribrain(LibriBrainSettings(tmp_path, TRAIN[:1], EVAL))
    path_of(tmp_path, TRAIN[0]).write_bytes(b"no HDF5 at all")
    with pytest.raises(DataError, match="cannot be read"):
        open_libribrain(LibriBrainSettings(tmp_path, TRAIN[:1], EVAL))


def test_without_pnpl_the_message_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pnpl.datasets", None)
    with pytest.raises(MissingPackage, match="pip install pnpl"):
        open_libribrain(LibriBrainSettings(folder, TRAIN, EVAL))
