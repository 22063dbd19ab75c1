import tempfile
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, OutputError
from core.meg.samples import Samples


def test_what_is_appended_is_read_in_any_range():
    values = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    with tempfile.TemporaryFile() as file:
        samples = Samples(file, 3)
        for block in np.array_split(values, 4, axis=1):
            samples.append(block)
        assert samples.n_times == 100
        np.testing.assert_array_equal(samples.read(13, 77), values[:, 13:77])
        assert Samples(file, 3).n_times == 100
        with pytest.raises(InputError, match="within 0 to 100"):
            samples.read(90, 101)


def test_a_full_disk_is_a_sentence():
    if not Path("/dev/full").exists():
        pytest.skip("No /dev/full here.")
    with (
        pytest.raises(OutputError, match="cannot be kept on disk"),
        Path("/dev/full").open("wb+", buffering=0) as full,
    ):
        Samples(full, 3).append(np.zeros((3, 10)))
