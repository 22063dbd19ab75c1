"""Similarities where the truth is known: copies, turns, noise, maps, planted outliers; blocks; what cannot be."""

import numpy as np
import pytest

from core.analysis.moments import CrossMoments
from core.analysis.pairs import folds
from core.analysis.similarity import (
    CosineSums,
    cka_matrix,
    cosine_matrix,
    pwcca_matrix,
    similarity_between,
    similarity_within,
)
from core.errors import DataError, InputError
from core.findings import Points, RowTable


def cross_of(columns, recording=None):
    cross = CrossMoments([column.shape[1] for column in columns], n_folds=2)
    n = len(columns[0])
    cross.add(columns, np.arange(n) * 2 // n if recording is None else folds(recording))
    return cross


def biased_cka(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def points(values, recording, layers=None):
    names = tuple(f"r{number}" for number in range(int(recording.max()) + 1))
    table = RowTable(names, recording.astype(np.int32), np.arange(len(recording)) * 0.02, np.zeros(len(recording)))
    return Points(layers or tuple(range(len(values))), np.asarray(values, dtype=np.float32), table)


def test_a_rotated_scaled_copy_is_the_same():
    chance = np.random.default_rng(0)
    x = chance.normal(size=(300, 64)) * np.arange(1, 65) ** -0.7
    copy = 17 * x @ np.linalg.qr(chance.normal(size=(64, 64)))[0] - 5
    assert cka_matrix(cross_of([x, copy]))[0, 1] == pytest.approx(1.0, abs=1e-9)
    assert pwcca_matrix(cross_of([x, copy]))[0, 1] == pytest.approx(1.0, abs=1e-6)
    # Flattened or row by row, a cosine sees nothing of it.
    assert abs(cosine_matrix([x, copy + 5])[0, 1]) < 0.2


@pytest.mark.parametrize(("n", "dim"), [(50, 768), (200, 768), (1_000, 256), (5_000, 32)])
def test_noise_is_zero_within_its_interval(n, dim):
    chance = np.random.default_rng(n)
    columns = chance.normal(size=(2, n, dim))
    found = similarity_within("noise", points(columns, np.arange(n) * 5 // n), "cka")
    assert found.low[0, 1] <= 0 <= found.high[0, 1]
    assert abs(found.matrix[0, 1]) < 4 / n
    assert found.matrix[0, 1] == pytest.approx(cka_matrix(cross_of(columns))[0, 1], abs=1e-6)
    assert 0 < found.noise_floor < 5 / n


def test_biased_cka_finds_noise_alike():
    x, y = np.random.default_rng(0).normal(size=(2, 50, 768))
    assert biased_cka(x, y) == pytest.approx(0.94, abs=0.01)
    assert abs(cka_matrix(cross_of([x, y]))[0, 1]) < 0.1


def test_a_shared_outlier_dim_deceives_cosine_and_what_cka_makes_of_it():
    """Two layers that share the offset of one dim: cosine .5, CKA 0, since an offset is no variance.

    Where the shared dim varies, with half of all the length, it is half of a layer to CKA as well: variance counts.
    """
    x, y = np.random.default_rng(1).normal(size=(2, 2_000, 100))
    x[:, 7] += 10
    y[:, 7] += 10
    assert cosine_matrix([x, y])[0, 1] == pytest.approx(0.5, abs=0.02)
    assert abs(cka_matrix(cross_of([x, y]))[0, 1]) < 0.01
    swing = 10 * np.random.default_rng(2).normal(size=2_000)
    x[:, 7] = y[:, 7] = swing
    assert cosine_matrix([x, y])[0, 1] > 0.3
    assert cka_matrix(cross_of([x, y]))[0, 1] > 0.95
    # PWCCA weighs directions, not variance alone, and is less deceived.
    assert pwcca_matrix(cross_of([x, y]))[0, 1] < 0.4


@pytest.mark.parametrize("n", [200, 1_000, 5_000])
def test_pwcca_is_zero_on_noise_and_one_on_a_map(n):
    chance = np.random.default_rng(n)
    dim = {200: 768, 1_000: 400, 5_000: 128}[n]
    x = (chance.normal(size=(n, dim)) * np.arange(1, dim + 1) ** -0.75).astype(np.float32)
    turn = np.linalg.qr(chance.normal(size=(dim, dim)))[0]
    got = pwcca_matrix(cross_of([x, x @ turn.astype(np.float32), chance.normal(size=(n, dim))]))
    assert got[0, 1] == pytest.approx(1.0, abs=1e-3)
    assert abs(got[0, 2]) < 0.05
    np.testing.assert_allclose(got, got.T)
    np.testing.assert_allclose(np.diag(got), 1.0, atol=1e-6)


def test_two_models_of_different_dims():
    chance = np.random.default_rng(3)
    x = chance.normal(size=(400, 10))
    columns = [x, x @ chance.normal(size=(10, 10)), np.hstack([x, x]), chance.normal(size=(400, 20))]
    cross = CrossMoments((10, 10, 20, 20), pairs=[(0, 2), (0, 3), (1, 2), (1, 3)])
    cross.add(columns)
    got = cka_matrix(cross, (0, 1), (2, 3))
    assert got.shape == (2, 2)
    assert got[0, 0] == pytest.approx(1.0, abs=1e-9)
    assert got[0, 1] == pytest.approx(0.0, abs=0.02)
    with pytest.raises(InputError, match="10 and 20 dims; use similarity cka"):
        CosineSums((10, 20))


def test_a_layer_that_does_not_vary_is_like_none():
    x = np.random.default_rng(0).normal(size=(60, 8))
    columns = [x, np.full((60, 8), 0.1)]
    for matrix in (cka_matrix(cross_of(columns)), pwcca_matrix(cross_of(columns))):
        np.testing.assert_allclose(matrix, [[1, 0], [0, 0]], atol=1e-9)
    record = similarity_within("m", points(columns, np.arange(60) // 20), "cka")
    assert np.isfinite(record.low).all() and record.matrix[1, 1] == 0


def test_cosine_is_the_mean_over_rows_at_any_blocking():
    x, y = np.random.default_rng(4).normal(size=(2, 700, 9)) + 0.4
    x[3] = 0
    units = [np.divide(rows, np.linalg.norm(rows, axis=1, keepdims=True), where=rows.any(axis=1)[:, None], out=rows * 0)
             for rows in (x, y)]  # fmt: skip
    sums = CosineSums((9, 9))
    for rows in np.split(np.arange(700), [1, 250]):
        sums.add([x[rows], y[rows]])
    assert sums.matrix()[0, 1] == pytest.approx((units[0] * units[1]).sum() / 700, abs=1e-6)


@pytest.mark.parametrize(("matrix", "n"), [(cka_matrix, 3), (pwcca_matrix, 7)])
def test_too_few_rows_are_an_error(matrix, n):
    with pytest.raises(DataError, match=r"too few: .*needs at least 4"):
        matrix(cross_of(list(np.random.default_rng(0).normal(size=(2, n, 5)))))


def test_layers_stay_in_numeric_order_at_24():
    chance = np.random.default_rng(5)
    state = chance.normal(size=(300, 16))
    values = []
    for _ in range(25):
        values.append(state)
        state = state + 0.4 * chance.normal(size=state.shape)
    found = similarity_within("deep", points(values, np.arange(300) // 100), "cka")
    assert found.rows == found.columns == tuple(range(25))
    assert (np.diff(found.matrix[0]) < 0).mean() > 0.9
    assert [layer for cluster in found.clusters for layer in cluster] == list(range(25))


@pytest.mark.parametrize(
    "recording, halves",
    [
        (np.arange(400) // 50, "one half of the recordings and"),
        (np.zeros(400, dtype=int), "one half of the stretches of the recording and"),
        (np.arange(400) // 300, "one half of the stretches of the recordings and"),
    ],
)
def test_pwcca_says_what_it_was_fitted_on(recording, halves):
    values = np.random.default_rng(7).normal(size=(2, 400, 6))
    assert halves in similarity_within("a", points(list(values), recording, (0, 1)), "pwcca").note


@pytest.mark.parametrize("kind", ["cka", "cosine", "pwcca"])
def test_records_say_what_they_are(kind):
    chance = np.random.default_rng(6)
    x = chance.normal(size=(400, 12))
    values = [x, x + chance.normal(size=x.shape)]
    rows = points(values, np.arange(400) // 50, (0, 12))
    found = similarity_within("a", rows, kind)
    assert (found.kind, found.models, found.rows, found.n, found.n_floor) == (kind, ("a", "a"), (0, 12), 400, 400)
    assert "400 rows" in found.note and "8 recordings" in found.note and "Noise floor" in found.note
    assert (found.low <= found.matrix).all() and (found.matrix <= found.high).all()
    given = similarity_within("a", rows, kind, matrix=found.matrix * 0.5, n=9_000)
    assert given.n == 9_000 and "9,000 rows" in given.note
    np.testing.assert_allclose((given.low + given.high) / 2, found.matrix * 0.5, atol=0.2)
    other = points([x], np.arange(400) // 50, (6,))
    between = similarity_between(("a", "b"), (rows, other), kind)
    assert between.matrix.shape == (2, 1) and between.clusters == () and between.columns == (6,)
    assert between.matrix[0, 0] == pytest.approx(1.0, abs=1e-6)
