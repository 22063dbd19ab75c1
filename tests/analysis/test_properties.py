"""Properties: planted ones are found where they were planted, shuffled ones and leaks are not; and real speech."""

import warnings

import numpy as np
import pytest

from core.analysis.cca import JointMoments, fit_cca, pwcca
from core.analysis.information import information_share
from core.analysis.properties import properties
from core.analysis.splits import shuffle_labels
from core.errors import DataError
from core.findings import Points, RowTable
from tests.analysis.speech import emodb_mel, emodb_points

N_RECORDINGS, EACH = 24, 40
RECORDING = np.repeat(np.arange(N_RECORDINGS, dtype=np.int32), EACH)
N = len(RECORDING)
SPEAKER = RECORDING // 4  # six speakers, four recordings each
START = np.tile(np.arange(EACH) * 0.1, N_RECORDINGS)


def made(seed=0):
    """Phones in runs of two rows, words in runs of four, an emotion for each recording."""
    rng = np.random.default_rng(seed)
    return {
        "phone": np.repeat(rng.integers(0, 8, N // 2), 2),
        "word": np.repeat(rng.integers(0, 6, N // 4), 4),
        "speaker": SPEAKER,
        "label": rng.permutation(np.arange(N_RECORDINGS) % 3)[RECORDING],
    }


def names(codes):
    return {kind: np.array([f"{kind[0]}{code}" for code in values]) for kind, values in codes.items()}


def points(values, labels, recording=RECORDING, start=START):
    recordings = tuple(f"r{number}" for number in range(recording.max() + 1))
    table = RowTable(recordings, recording, start, start + 0.1, labels, len(start))
    return Points(tuple(range(len(values))), np.asarray(values, dtype=np.float32), table)


def planted(layers, codes, dim=24, size=4.0, seed=1):
    """One layer for each name: noise, to which the classes of that kind are added as centroids."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((len(layers), N, dim))
    for layer, kind in zip(values, layers, strict=True):
        if kind:
            centroids = rng.standard_normal((codes[kind].max() + 1, dim))
            layer += size * (centroids / np.linalg.norm(centroids, axis=1, keepdims=True))[codes[kind]]
    return values


def found(values, labels, mel=None, **where):
    curves, skipped = properties(points(values, labels, **where), mel, seed=0)
    return {curve.name: curve for curve in curves}, skipped


@pytest.fixture(scope="module")
def curves():
    codes = made()
    layers = ("", "phone", "word", "speaker", "label")
    return found(planted(layers, codes), names(codes))[0]


@pytest.mark.parametrize(
    ("name", "layer", "least"),
    [
        ("phone_accuracy", 1, 0.9),
        ("phone_cca", 1, 0.7),
        ("phone_mi", 1, 0.75),
        ("word_cca", 2, 0.7),
        ("word_mi", 2, 0.75),
        ("speaker_accuracy", 3, 0.9),
        ("label_accuracy", 4, 0.9),
    ],
)
def test_what_is_planted_in_a_layer_is_found_there_and_nowhere_else(curves, name, layer, least):
    curve = curves[name]
    others = np.delete(curve.values, layer)
    assert curve.values[layer] > least
    assert others.max() < (curve.chance or 0.0) + 0.12
    assert curve.low[layer] <= curve.values[layer] <= curve.high[layer]
    assert curve.shuffled.max() < (curve.chance or 0.0) + 0.12


def test_curves_say_what_they_are(curves):
    phone = curves["phone_accuracy"]
    assert (phone.layers, phone.n, phone.n_classes, phone.split) == ((0, 1, 2, 3, 4), N, 8, "speaker")
    assert phone.chance == pytest.approx(np.bincount(made()["phone"]).max() / N)
    assert curves["speaker_accuracy"].split == "recording"
    assert "no speaker both trained and tested" in phone.measure
    assert "clusters; not adjusted for chance, shuffled labels would have read 0." in curves["phone_mi"].note
    assert set(curves) == {
        *("phone_cca", "word_cca", "phone_mi", "word_mi"),
        *("phone_accuracy", "speaker_accuracy", "label_accuracy"),
    }


@pytest.mark.parametrize("name", ["phone_cca", "phone_mi", "word_cca", "word_mi"])
def test_intervals_of_noise_hold_zero(curves, name):
    """Of a 95 % interval some may miss it; none may by much."""
    curve = curves[name]
    noise = [0, 3, 4]
    assert (curve.low[noise] < 0.03).all()
    assert (curve.high[noise] > -0.03).all()
    assert (np.abs(curve.shuffled) < 0.04).all()


def test_features_that_hold_only_the_recording_say_nothing():
    """Phones are shuffled inside recordings and recordings are held out: both probes stay at chance, no leak."""
    rng = np.random.default_rng(0)
    codes = made()
    values = (5 * rng.standard_normal((N_RECORDINGS, 24))[RECORDING] + rng.standard_normal((N, 24)))[None]
    curves, _ = found(values, names(codes))
    for name in ("phone_accuracy", "speaker_accuracy", "label_accuracy"):
        curve = curves[name]
        assert curve.values[0] < curve.chance + 0.12, name
    assert abs(curves["phone_cca"].values[0]) < 0.05
    assert abs(curves["phone_mi"].values[0]) < 0.05


def test_speakers_cannot_tell_phones_that_only_one_of_them_says():
    """A phone that belongs to one speaker is that speaker's voice: it is left out, and the note says so."""
    codes = made()
    codes["phone"] = np.where(SPEAKER == 0, 8, codes["phone"])
    curves, _ = found(planted(("speaker",), codes), names(codes))
    curve = curves["phone_accuracy"]
    assert "1 phone (p8; 160 rows) left out: at least 5 rows in at least 2 speakers are needed." in curve.note
    assert (curve.n, curve.n_classes) == (N - 160, 8)
    assert curve.values[0] < curve.chance + 0.12


def test_slow_noise_is_no_knowledge_of_slow_labels():
    """Noise that changes as slowly as the labels: rows exchanged one by one would make it look like knowledge."""
    rng = np.random.default_rng(3)
    recording = np.repeat(np.arange(60, dtype=np.int32), 100)
    table = points(np.zeros((1, 6_000, 1)), {}, recording, np.tile(np.arange(100) * 0.1, 60)).table
    labels, noise = (rng.integers(0, k, 6_000)[np.cumsum(rng.random(6_000) < 0.1)] for k in (4, 50))
    shifted = shuffle_labels(table, np.arange(6_000), labels, 0, 20).labels
    exchanged = [rng.permutation(labels) for _ in range(20)]
    assert abs(information_share(labels, noise, shifted).value) < 0.03
    assert information_share(labels, noise, exchanged).value > 0.05


# -------------------------------------------------------------------------------------------- few groups

MIX, CENTROIDS = np.random.default_rng(42).standard_normal((2, 16, 16))


def drawn_groups(seed, n_groups=6, each=60):
    """Recordings that differ in their noise, in how energies follow from the rows, and in their phones' centroids."""
    rng = np.random.default_rng(seed)
    recording = np.repeat(np.arange(n_groups, dtype=np.int32), each)
    start = np.tile(np.arange(each) * 0.1, n_groups)
    loudness = np.exp(0.5 * rng.standard_normal(n_groups))[recording][:, None]
    phone = np.repeat(rng.integers(0, 6, n_groups * each // 4), 4)
    mix = MIX + 0.6 * rng.standard_normal((n_groups, 16, 16))
    centroids = CENTROIDS[:6] + 0.7 * rng.standard_normal((n_groups, 6, 16))
    hidden, noise = rng.standard_normal((2, n_groups * each, 16))
    energies = np.einsum("rd,rde->re", hidden, mix[recording]) + loudness * noise
    values = centroids[recording, phone] + 1.2 * loudness * noise
    return (hidden, energies, values, recording, start, names({"phone": phone}))


def held(intervals):
    """Share of the intervals that hold the mean of all values: what the estimate is of, at this many groups."""
    values, low, high = np.array(intervals).T
    return np.mean((low <= values.mean()) & (values.mean() <= high))


def test_intervals_hold_the_truth_with_six_recordings():
    """Fits held fixed, and 1.96 standard errors, hold it in .7 to .8 of these."""
    intervals = {name: [] for name in ("mel_cca", "phone_cca", "phone_mi", "phone_accuracy")}
    for seed in range(40):
        hidden, energies, values, recording, start, labels = drawn_groups(seed)
        where = {"recording": recording, "start": start}
        curves = found(hidden[None], {}, mel=lambda table, energies=energies: energies, **where)[0]
        curves |= found(values[None], labels, **where)[0]
        for name, kept in intervals.items():
            kept.append((curves[name].values[0], curves[name].low[0], curves[name].high[0]))
    shares = {name: held(kept) for name, kept in intervals.items()}
    assert min(shares.values()) >= 0.88, shares


@pytest.mark.parametrize("n_units", [4, 6, 8])
def test_a_control_of_few_recordings_is_near_chance_or_there_is_none(n_units):
    """Rows that tell their recording and nothing else; two labels, as many recordings each."""
    rng = np.random.default_rng(0)
    recording = np.repeat(np.arange(n_units, dtype=np.int32), 40)
    start = np.tile(np.arange(40) * 0.1, n_units)
    values = rng.standard_normal((n_units, 24))[recording] + rng.standard_normal((len(recording), 24))
    labels = names({"label": recording % 2})
    curve = found(values[None], labels, recording=recording, start=start)[0]["label_accuracy"]
    if n_units < 8:
        assert curve.shuffled is None
        assert f"No shuffled control: {n_units} recordings can exchange their labels in fewer than 20" in curve.note
    else:
        assert 0.25 < curve.shuffled[0] < 0.6
        assert "No shuffled" not in curve.note


# ----------------------------------------------------------------------------------------------------------- log-mel


def test_a_linear_copy_of_log_mel_has_it_all_and_noise_nothing_though_it_would_in_sample():
    rng = np.random.default_rng(0)
    energies = rng.standard_normal((N, 20)) @ rng.standard_normal((20, 80))
    copy = energies @ rng.standard_normal((80, 96))
    noise = rng.standard_normal((N, 96))
    curves, _ = found([copy, noise], names({"speaker": SPEAKER}), mel=lambda table: energies)
    curve = curves["mel_cca"]
    assert curve.values[0] > 0.999
    assert abs(curve.values[1]) < 0.03
    assert np.abs(curve.shuffled).max() < 0.05
    assert curve.low[1] < 0 < curve.high[1]
    moments = JointMoments.from_arrays(noise, energies)
    assert pwcca(fit_cca(moments), moments, side="y") > 0.3  # the fault: measured on the rows it was fitted on


def test_meg_is_held_against_band_powers_in_its_place():
    rng = np.random.default_rng(3)
    powers = rng.standard_normal((N, 5))
    copy, noise = powers @ rng.standard_normal((5, 64)), rng.standard_normal((N, 64))
    curves, skipped = properties(points([copy, noise], names({"speaker": SPEAKER})), lambda _: powers, modality="meg")
    (curve,) = (curve for curve in curves if curve.name == "band_cca")
    assert curve.values[0] > 0.999
    assert abs(curve.values[1]) < 0.1
    assert "Canonical correlation with band powers" in curve.measure
    assert "mel_cca" not in {*skipped, *(curve.name for curve in curves)}
    _, skipped = properties(points([noise], {}), modality="meg")
    assert "no recordings to take band powers from" in skipped["band_cca"]


def test_log_mel_is_asked_for_the_rows_of_the_table():
    asked = []

    def mel(table):
        asked.append(table)
        return np.random.default_rng(0).standard_normal((len(table), 80))

    given = points(planted(("",), made()), names(made()))
    properties(given, mel)
    assert asked == [given.table]
    properties(given, mel, span="word")
    properties(given, mel, span="phone")
    assert asked[1] == given.table
    np.testing.assert_allclose(asked[2].start, START + 0.1 / 3)
    np.testing.assert_allclose(asked[2].stop, START + 0.2 / 3)


def test_one_recording_is_cut_into_blocks():
    codes = made()
    energies = planted(("phone",), codes, dim=80)[0]
    recording, start = np.zeros(N, np.int32), np.arange(N) * 0.1
    labels = names({"phone": codes["phone"], "speaker": np.zeros(N, int)})
    curves, skipped = found(
        planted(("phone", ""), codes), labels, mel=lambda table: energies, recording=recording, start=start
    )
    assert {curve.split for curve in curves.values()} == {"block"}
    assert curves["phone_accuracy"].values[0] > 0.9
    assert curves["phone_accuracy"].values[1] < 0.3
    assert curves["mel_cca"].values[0] > curves["mel_cca"].values[1] + 0.1
    assert "parts of one recording" in curves["mel_cca"].note
    assert skipped["speaker_accuracy"] == "0 speakers of 1 with at least 5 rows in at least 2 recordings; 2 are needed."


# ------------------------------------------------------------------------------------------------------------- edges


def test_what_cannot_be_computed_has_a_reason():
    curves, skipped = found(planted(("",), made()), {})
    assert curves == {}
    assert skipped["mel_cca"] == "There is no sound to take log-mel energies from."
    assert skipped["phone_mi"] == "No row has a phone. Give alignments."
    assert skipped["speaker_accuracy"] == "No row has a speaker."
    assert len(skipped) == 8


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"phone": np.zeros(N, int)}, "1 phone of 1 with at least 5 rows in at least 2 recordings; 2 are needed."),
        ({"label": RECORDING}, "0 labels of 24 with at least 5 rows in at least 2 recordings; 2 are needed."),
    ],
)
def test_too_few_classes_are_said(labels, reason):
    (kind,) = labels
    assert found(planted(("",), made()), names(labels))[1][f"{kind}_accuracy"] == reason


def test_too_few_rows_are_said():
    labels = {"phone": np.where(np.arange(N) % 40 < 2, "aa", "")}
    labels["phone"][::80] = "bb"
    assert found(planted(("",), made()), labels)[1]["phone_cca"] == (
        "There are 48 rows with such a phone; at least 50 are needed."
    )


def test_two_speakers_give_no_interval_and_it_is_said():
    codes = made()
    codes["speaker"] = RECORDING % 2
    curves, _ = found(planted(("phone",), codes), names(codes))
    assert curves["phone_accuracy"].low is curves["phone_cca"].high is None
    assert curves["phone_mi"].note.endswith(
        "There is no interval: at least 5 speakers, and 2 in each half, are needed."
    )
    assert curves["phone_accuracy"].values[0] > 0.9


def test_a_dead_layer_is_at_chance_and_warns_of_nothing():
    codes = made()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves, _ = found(np.full((1, N, 6), 3.0), names(codes), mel=lambda table: np.zeros((N, 80)))
    assert curves["phone_accuracy"].values[0] <= curves["phone_accuracy"].chance
    assert curves["phone_mi"].values[0] == curves["mel_cca"].values[0] == 0.0


def test_values_that_are_not_finite_are_an_error():
    values = planted(("", ""), made())
    values[1, 5, 3] = np.nan
    with pytest.raises(DataError, match="Layer 1 holds NaN"):
        found(values, names(made()))
    with pytest.raises(DataError, match="log-mel energies are not finite"):
        found(values[:1], names(made()), mel=lambda table: np.full((N, 80), np.inf))


def test_the_same_seed_gives_the_same_numbers():
    codes = made()
    one, two = (found(planted(("phone", "word"), codes), names(codes))[0] for _ in range(2))
    for name, curve in one.items():
        np.testing.assert_array_equal(curve.values, two[name].values)
        np.testing.assert_array_equal(curve.shuffled, two[name].shuffled)


def test_progress_counts_layers_and_an_error_in_it_stops():
    seen = []
    given = points(planted(("", "", ""), made()), names({"phone": made()["phone"]}))
    properties(given, None, 0, seen.append)
    assert [(step.stage, step.done, step.total) for step in seen] == [("properties", done, 3) for done in range(4)]

    def stop(progress):
        if progress.done == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        properties(given, None, 0, stop)


# ------------------------------------------------------------------------------------------------------- real speech


def test_phones_of_real_speech_are_in_the_trained_whisper_and_not_in_random_weights(shared_data):
    """Four speakers of EmoDB, held out in turn; the upper layers know phones, the lowest knows log-mel best."""
    emodb, whisper = shared_data("emodb_2s"), shared_data("whisper_tiny_en_encoder")
    trained, _ = properties(emodb_points(emodb, whisper, random_weights=False, each=12), emodb_mel(emodb))
    control, _ = properties(emodb_points(emodb, whisper, random_weights=True, each=12), None)
    curves = {curve.name: curve for curve in trained}
    random = {curve.name: curve for curve in control}
    phone = curves["phone_accuracy"]
    best = int(phone.values.argmax())
    print(f"phones: layer {best} {phone.values[best]:.3f}, random weights {random['phone_accuracy'].values.max():.3f}")
    assert best >= 2
    assert phone.low is None  # four speakers
    assert phone.values[best] > random["phone_accuracy"].values.max() + 0.3
    assert phone.values[best] > phone.shuffled.max() + 0.4
    assert curves["phone_mi"].values.max() > random["phone_mi"].values.max() + 0.2
    assert curves["phone_cca"].values.max() > random["phone_cca"].values.max() + 0.2
    assert curves["mel_cca"].values[:2].min() > curves["mel_cca"].values[3:].max()
