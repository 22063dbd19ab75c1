"""Tables of sites are read strictly."""

from dataclasses import replace

import numpy as np
import pytest

from core.errors import DataError, InputError
from core.sensors import Sensors
from core.sites.table import read_site_table

NOWHERE = np.full((3, 3), np.nan)
SENSORS = Sensors(("A1", "A2", "B1"), ("ecog",) * 3, NOWHERE, NOWHERE)


def table(tmp_path, text):
    path = tmp_path / "sites.tsv"
    path.write_text(text)
    return path


def test_places_regions_and_channels_of_one_site(tmp_path):
    rows = ("name x y z region site", "a1 0.01 0 0 left A", "A2 0.03 0 0 left A", "B1 n/a n/a n/a n/a n/a")
    text = "\n".join([*(row.replace(" ", "\t") for row in rows), "C9\t0\t0\t0\t\t"])
    read = read_site_table(table(tmp_path, text))
    group = read.group(SENSORS, "r")
    assert group.sites.names == ("A", "B1")
    assert group.channels == ((0, 1), (2,))
    assert group.regions == ("left", "")
    np.testing.assert_allclose(group.sites.positions[0], [0.02, 0, 0])
    assert np.isnan(group.sites.positions[1]).all()
    assert read.unused([SENSORS]) == ("C9",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,x,y,z\nA1,0.1,,0.1\n", "x, y and z"),
        ("name\nA1\nA1\n", "line 3: A1 stands there twice"),
        ("name,colour\nA1,red\n", "colour"),
        ("x,y,z\n0,0,0\n", "expected name"),
        ("name,region\nA1\n", "got 1 cells"),
        ("name,region\n,left\n", "without a name"),
        ("name\n", "holds no rows"),
        ("", "empty file"),
        ("name,region,site\nA1,left,A\nA2,right,A\n", "left and in right"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_site_table(table(tmp_path, text))


@pytest.mark.parametrize(("kind", "metres", "refused"), [("eeg", 1.01, 1), ("audio", 99, 0), ("audio", 101, 100)])
def test_positions_that_can_be_no_metres_are_refused(tmp_path, kind, metres, refused):
    """A head ends within a metre; microphones stand in a room."""
    rows = "".join(f"{name},0,-{metres},0\n" for name in SENSORS.names)
    sensors = replace(SENSORS, kinds=(kind,) * len(SENSORS))
    read = read_site_table(table(tmp_path, f"name,x,y,z\n{rows}"))
    if refused:
        with pytest.raises(DataError, match=f"more than {refused} m away; expected metres.*millimetres"):
            read.group(sensors, "r")
    else:
        assert np.all(read.group(sensors, "r").sites.positions[:, 1] == -metres)


def test_a_table_that_lacks_channels_or_is_not_there(tmp_path):
    with pytest.raises(DataError, match="lacks 2 of 3 channels of r: A2, B1"):
        read_site_table(table(tmp_path, "name\nA1\n")).group(SENSORS, "r")
    with pytest.raises(InputError, match="There is no table"):
        read_site_table(tmp_path / "none.tsv")
