"""Do the intervals hold the truth, do noise floors lie where noise lies, and what can few recordings tell?"""

import numpy as np
import pytest

from core.analysis.pairs import folds
from core.analysis.similarity import cka_matrix, cosine_matrix
from core.analysis.uncertainty import intervals_and_floor
from core.errors import DataError, InputError
from tests.analysis.test_similarity import cross_of, points

DIM = 12
SHAPE = np.random.default_rng(42).normal(size=(3, DIM, DIM)) * np.arange(1, DIM + 1)[:, None] ** -0.7


def draw(chance, n_recordings, n_frames):
    """Two layers of AR(1) frames with a recording's own loudness and colour; the second is not linear in the first."""
    frames = np.empty((n_recordings, n_frames, DIM))
    frames[:, 0] = chance.normal(size=(n_recordings, DIM))
    for at in range(1, n_frames):
        frames[:, at] = 0.8 * frames[:, at - 1] + 0.6 * chance.normal(size=(n_recordings, DIM))
    colour = 0.5 * chance.normal(size=(n_recordings, 1, DIM))
    loudness = np.exp(0.3 * chance.normal(size=(n_recordings, 1, 1)))
    x = frames @ SHAPE[0] * loudness + colour @ SHAPE[2]
    y = np.tanh(frames @ SHAPE[0]) @ SHAPE[1] + colour @ SHAPE[1] + 0.5 * chance.normal(size=frames.shape)
    return x.reshape(-1, DIM), y.reshape(-1, DIM), np.repeat(np.arange(n_recordings), n_frames)


def coverage(kind, truth, n_recordings=8, n_frames=30, times=25):
    held = 0
    for seed in range(times):
        *columns, recording = draw(np.random.default_rng(seed), n_recordings, n_frames)
        found = intervals_and_floor(points(columns, recording), None, kind, seed)
        low, high = found.interval(found.matrix)
        held += low[0, 1] <= truth <= high[0, 1]
    return held / times


def test_intervals_hold_the_truth_of_all_recordings():
    *columns, _ = draw(np.random.default_rng(99), 10_000, 8)
    assert coverage("cka", cka_matrix(cross_of(columns))[0, 1]) >= 0.8
    assert coverage("cosine", cosine_matrix(columns)[0, 1]) >= 0.85


def test_intervals_narrow_with_recordings():
    widths = []
    for n_recordings in (3, 12, 48):
        *columns, recording = draw(np.random.default_rng(0), n_recordings, 20)
        found = intervals_and_floor(points(columns, recording), None, "cka")
        low, high = found.interval(found.matrix)
        widths.append(high[0, 1] - low[0, 1])
    assert widths[0] > 1.3 * widths[1] > 2 * widths[2]


def test_the_floor_is_where_unrelated_speechlike_layers_lie():
    """Of layers made apart, about 5 % are over the floor: slow frames make more chance than as many that are alone."""
    floors, sizes, alone = [], [], []
    for seed in range(15):
        chance = np.random.default_rng(seed)
        (x, _, recording), (_, y, _) = draw(chance, 12, 40), draw(chance, 12, 40)
        sizes.append(abs(cka_matrix(cross_of([x, y]))[0, 1]))
        alone.append(abs(cka_matrix(cross_of([chance.permutation(x), y]))[0, 1]))
        floors.append(intervals_and_floor(points([x, y], recording), None, "cka").noise_floor)
    assert np.mean(np.array(sizes) > floors) < 0.25
    assert np.mean(floors) < 3 * np.quantile(sizes, 0.95)
    assert np.mean(floors) > 2 * np.quantile(alone, 0.95)


def test_what_all_rows_share_is_the_floor_of_cosine():
    values = np.random.default_rng(0).normal(size=(2, 500, 100))
    values[:, :, 3] += 10
    found = intervals_and_floor(points(values, np.arange(500) // 100), None, "cosine")
    assert found.noise_floor == pytest.approx(found.matrix[0, 1], abs=0.02)
    assert found.noise_floor == pytest.approx(0.5, abs=0.03)


def test_few_recordings_tell_little_and_one_nothing():
    *columns, recording = draw(np.random.default_rng(1), 2, 100)
    two = intervals_and_floor(points(columns, recording), None, "cka")
    low, high = two.interval(two.matrix)
    assert two.freedom == 1 and high[0, 1] - low[0, 1] > 0.2
    assert intervals_and_floor(points(columns, recording), None, "pwcca").spread is None
    one = intervals_and_floor(points(columns, recording * 0), None, "cka")
    assert one.spread is None and one.interval(one.matrix) == (None, None)


def test_pwcca_has_an_interval_from_two_recordings_a_fold():
    *columns, recording = draw(np.random.default_rng(2), 6, 100)
    found = intervals_and_floor(points(columns, recording), None, "pwcca")
    assert found.freedom == 4 and 0.001 < found.spread[0, 1] < 0.2
    assert found.noise_floor < 0.3 < found.matrix[0, 1]


def test_many_recordings_are_joined():
    *columns, recording = draw(np.random.default_rng(3), 300, 3)
    found = intervals_and_floor(points(columns, recording), None, "cka")
    assert found.freedom == 63 and found.n_recordings == 300


def test_the_same_seed_gives_the_same_numbers():
    *columns, recording = draw(np.random.default_rng(4), 5, 30)
    first, second, other = (intervals_and_floor(points(columns, recording), None, "cka", seed) for seed in (0, 0, 1))
    assert first.noise_floor == second.noise_floor != other.noise_floor
    np.testing.assert_array_equal(first.spread, second.spread)


def test_no_recording_stands_on_both_sides():
    recording = np.repeat(np.arange(5), [40, 10, 25, 30, 15])
    fold = folds(recording)
    assert all(len(set(fold[recording == number])) == 1 for number in range(5))
    assert abs(fold.mean() - 0.5) < 0.1
    assert folds(np.zeros(0)).size == 0


@pytest.mark.parametrize("recording", [np.zeros(100), np.repeat([0, 1], [90, 10])])
def test_one_long_recording_is_cut_with_gaps(recording):
    fold = folds(recording)
    assert fold.tolist() == [0] * 25 + [-1] * 2 + [1] * 23 + [-1] * 2 + [0] * 23 + [-1] * 2 + [1] * 23


def test_what_cannot_be_is_refused():
    *columns, recording = draw(np.random.default_rng(5), 2, 10)
    rows = points(columns, recording)
    with pytest.raises(InputError, match="unknown similarity 'rsa'"):
        intervals_and_floor(rows, None, "rsa")
    with pytest.raises(InputError, match="20 and 10 rows"):
        intervals_and_floor(rows, points([columns[0][:10]], recording[:10]), "cka")
    with pytest.raises(InputError, match="5 and 12 dims"):
        intervals_and_floor(rows, points([columns[0][:, :5]], recording), "cosine")
    with pytest.raises(DataError, match="3 rows are too few"):
        intervals_and_floor(points(np.zeros((1, 3, 4)), np.zeros(3)), None, "cka")
