"""Layouts against real helmets, and the map against closed forms."""

import mne
import numpy as np
import pytest

from core.errors import InputError
from core.meg.layouts import LAYOUTS, flat_positions, helmet_centre, info_of, layout, plain_name, sensors_of
from core.sensors import Sensors


def on_a_sphere(ways, centre=(0.01, 0.02, -0.03)):
    """Sensors 12 cm from a centre, looking outwards."""
    ways = np.array(ways, float) / np.linalg.norm(ways, axis=1, keepdims=True)
    names = tuple(map(str, range(len(ways))))
    return Sensors(names, ("mag",) * len(ways), np.array(centre) + 0.12 * ways, ways)


@pytest.mark.parametrize(
    ("name", "count", "mags"), [("neuromag306", 306, 102), ("ctf275", 274, 274), ("ctf151", 151, 151)]
)
def test_layouts_are_whole_helmets_that_look_outwards(name, count, mags):
    sensors = layout(name)
    assert (len(sensors), len(sensors.of_kind("mag")), sensors.system) == (count, mags, name)
    assert sensors.are_located
    np.testing.assert_allclose(np.linalg.norm(sensors.orientations, axis=1), 1, atol=1e-3)
    outwards = sensors.positions - helmet_centre(sensors)
    assert ((outwards * sensors.orientations).sum(1) > 0).all()
    assert 0.08 < np.linalg.norm(outwards, axis=1).min() < np.linalg.norm(outwards, axis=1).max() < 0.15


def test_neuromag306_is_a_real_machine(shared_data):
    """Witness: another file of another machine says the same of each name, to a tenth of a millimetre."""
    path = shared_data("meg_small") / "elekta306" / "triux_bmlhus_erm_raw_sss.fif"
    info = mne.io.read_info(path, verbose="ERROR")
    real = {plain_name(one["ch_name"]): one for one in info["chs"] if one["kind"] == 1}
    sensors = layout("neuromag306")
    assert set(real) == {plain_name(name) for name in sensors.names}
    for index, name in enumerate(sensors.names):
        np.testing.assert_allclose(sensors.positions[index], real[plain_name(name)]["loc"][:3], atol=1e-4)
        np.testing.assert_allclose(sensors.orientations[index], real[plain_name(name)]["loc"][9:], atol=1e-3)
        assert sensors.kinds[index] == ("mag" if real[plain_name(name)]["unit"] == 112 else "grad")


def test_kinds_follow_the_unit(shared_data):
    """MNE gives CTF's axial gradiometers in tesla (unit 112), Neuromag's planar ones in tesla per metre (201)."""
    data = shared_data("meg_small")
    ctf = mne.io.read_raw_ctf(data / "ctf" / "somMDYO-18av.ds", verbose="ERROR").info
    neuromag = mne.io.read_info(data / "elekta306" / "neuromag122_test_file-raw.fif", verbose="ERROR")
    assert set(sensors_of(ctf).kinds) == {"mag"}
    assert set(sensors_of(neuromag).kinds) == {"grad"}
    assert (sensors_of(ctf).system, sensors_of(neuromag).system) == ("ctf151", "neuromag122")


def test_channels_without_a_place_have_none():
    info = mne.create_info(["A", "B"], 100.0, ["mag", "grad"])
    info["chs"][1]["loc"][:] = 0
    sensors = sensors_of(info)
    assert sensors.kinds == ("mag", "grad")
    assert np.isnan(sensors.positions).all()
    assert np.isnan(flat_positions(sensors)).all()


def test_an_info_of_a_layout_has_its_sensors_in_the_order_asked_for():
    names = ["MEG2643", "MEG0111", "MEG0113"]
    made = sensors_of(info_of("neuromag306", names, 250.0))
    whole = layout("neuromag306")
    order = [whole.names.index(name) for name in ("MEG 2643", "MEG 0111", "MEG 0113")]
    assert made.names == tuple(names)
    assert made.kinds == whole.take(order).kinds
    np.testing.assert_array_equal(made.positions, whole.positions[order])
    with pytest.raises(InputError, match="has no MLC11"):
        info_of("neuromag306", ["MLC11"], 250.0)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("MEG 0113", "MEG0113"), ("MEG0113", "MEG0113"), ("MLC11-4504", "MLC11"), ("MEG 001", "MEG001"), ("LF31", "LF31")],
)
def test_names_lose_what_varies_between_files(name, plain):
    assert plain_name(name) == plain


def test_no_two_sensors_of_a_layout_have_one_plain_name():
    for name in LAYOUTS:
        assert len({plain_name(one) for one in layout(name).names}) == len(layout(name))


def test_an_unknown_layout_is_refused():
    with pytest.raises(InputError, match="expected neuromag306, ctf275, ctf151, or native"):
        layout("vectorview")


def test_the_centre_of_a_sphere_is_found():
    ways = np.random.default_rng(0).standard_normal((40, 3))
    np.testing.assert_allclose(helmet_centre(on_a_sphere(ways)), (0.01, 0.02, -0.03), atol=1e-12)


def test_the_map_shows_angles_from_above():
    """Azimuthal equidistant: the top in the middle, right to the right, front to the top, and angles as radii."""
    ways = [(0, 0, 1), (1, 0, 0), (0, 1, 0), (-1, 0, 0), (1, 0, 1), (0, -1, 1)]
    expected = [(0, 0), (1, 0), (0, 1), (-1, 0), (0.5, 0), (0, -0.5)]
    np.testing.assert_allclose(flat_positions(on_a_sphere(ways)), expected, atol=1e-9)
