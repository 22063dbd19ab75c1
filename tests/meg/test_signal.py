import numpy as np
import pytest

from core.errors import DataError, InputError
from core.meg.signal import open_meg
from core.sensors import ModelInput, Preparation, Statistics
from tests.meg.recordings import Planted, save_raw

NATIVE = Preparation(layout="native")


def native_input(mag=5e-14, grad=1e-12, preparation=NATIVE):
    return ModelInput(preparation, None, Statistics(np.zeros(2), np.array([mag, grad])))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    marks = ((1.0, 0.5, "tone"), (3.0, 1.0, "BAD_jump"))
    planted = Planted(seconds=6, rate=500.0, channels=6, annotations=marks)
    return save_raw(tmp_path_factory.mktemp("signal") / "planted_raw.fif", planted)


def test_what_embed_needs_is_there(path):
    with open_meg(path, native_input()) as signal:
        assert (signal.n_samples, signal.sampling_rate, signal.duration_seconds) == (1500, 250, 6.0)
        assert len(signal.sha256) == 64
        assert [(span.onset, span.label) for span in signal.labels] == [(1.0, "tone")]
        assert signal.facts["bad_spans_seconds"] == [[3.0, 4.0]]
        assert signal.facts["channels"]["how"] == "native"
        assert signal.facts["simulated"] is False
        assert len(signal.sensors) == 6


def test_fitting_the_sensors_is_told_of_before_the_filter(path):
    told = []
    open_meg(path, native_input(), told.append).close()
    assert [one.stage for one in told][:2] == ["fit the sensors", "filter"]
    assert [one.stage for one in told].count("fit the sensors") == 1


def test_any_range_reads_the_same_values(path):
    with open_meg(path, native_input()) as signal:
        whole = signal.read(0, 1500)
        assert whole.shape == (6, 1500)
        assert whole.dtype == np.float32
        np.testing.assert_array_equal(signal.read(100, 333), whole[:, 100:333])
        with pytest.raises(InputError, match="within 0 to 1500"):
            signal.read(0, 1501)


def test_the_model_s_statistics_scale(path):
    with open_meg(path, native_input()) as one, open_meg(path, native_input(mag=1e-13)) as other:
        mags = one.sensors.of_kind("mag")
        grads = one.sensors.of_kind("grad")
        first, second = one.read(0, 1500), other.read(0, 1500)
    np.testing.assert_allclose(first[mags], 2 * second[mags], rtol=1e-5)
    np.testing.assert_array_equal(first[grads], second[grads])


def test_a_model_that_never_saw_a_kind_says_so(path):
    with pytest.raises(DataError, match="no grad sensors"):
        open_meg(path, ModelInput(NATIVE, None, _without_grad()))


def _without_grad():
    return Statistics(np.array([0.0, np.nan]), np.array([1e-13, np.nan]))


def test_a_model_trained_on_other_sensors_is_refused(tmp_path):
    from core.meg.layouts import layout

    path = save_raw(tmp_path / "whole_raw.fif", Planted(seconds=4))
    fewer = layout("neuromag306").take(range(300))
    wanted = ModelInput(Preparation(), fewer, Statistics(np.zeros(300), np.ones(300)))
    with pytest.raises(DataError, match="306 sensors of neuromag306; the model was trained on 300 others"):
        open_meg(path, wanted)


def test_a_recording_longer_than_accepted_is_refused(path):
    with pytest.raises(InputError, match=r"6.0 s long; .* 5 s"):
        open_meg(path, native_input(), max_seconds=5)
