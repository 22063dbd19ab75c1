"""What a training on sites reads: sites of all recordings, a split without leaks, statistics of the training time."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from core.errors import DataError, InputError
from core.records import from_plain, to_plain
from core.sites.data import SiteDataSettings, open_site_data
from core.sites.grids import GridSource, open_grids
from core.sites.site_input import PatchSettings, SiteInput
from core.sites.split import Columns, SplitPlan, split_columns

RATE = 100.0
SMALL = PatchSettings(grid_height=8, grid_width=16, hop_seconds=0.1, h_freq=30)


def recording(folder, name, values, **said):
    np.save(folder / f"{name}.npy", values)
    (folder / f"{name}.json").write_text(json.dumps({"sampling_rate": RATE, **said}))
    return folder / f"{name}.npy"


def noise(n_channels, seconds=20, seed=0):
    return np.random.default_rng(seed).normal(size=(n_channels, int(seconds * RATE)))


def two_groups(seconds=20):
    """Channels 0 to 2 hold 6 Hz that swells, 3 to 5 hold 20 Hz that does not, under noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    slow, fast = np.sin(2 * np.pi * 6 * time) * (1 + np.sin(time)), np.sin(2 * np.pi * 20 * time)
    return np.stack([slow] * 3 + [fast] * 3) * 3 + noise(6, seconds)


def test_a_grid_is_the_standardised_map(tmp_path):
    path = recording(tmp_path, "a", two_groups(), names=list("abcdef"))
    patches = PatchSettings(grid_height=8, grid_width=16, hop_seconds=0.1, h_freq=30, sites_per_grid=2)
    with open_site_data([path], SiteDataSettings(patches)) as data:
        (train,), (held_out,) = data.stretches("train"), data.stretches("eval")
        assert train.sites == (1, 2, 3, 4, 5, 6)
        grid = data.read(train, 3, np.array([5, 2]))
        assert grid.shape == (8, 16)
        assert grid.dtype == np.float32
        np.testing.assert_array_equal(grid[:4], data.read(train, 3, np.array([2, 5]))[4:])
        # One hop later is one column on, and times say so.
        np.testing.assert_array_equal(data.read(train, 4, np.array([5, 2]))[:, :-1], grid[:, 1:])
        np.testing.assert_allclose(data.times(train, 3)[:2], [0.25 + 0.3, 0.25 + 0.4])
        # Over the training time each site and row has mean 0 and spread 1; over the rest it has not.
        columns = [data.read(train, at, np.arange(1, 7)) for at in range(0, train.n_columns - 16, 16)]
        pooled = np.concatenate(columns, axis=1)
        assert np.abs(pooled.mean(axis=1)).max() < 0.2
        assert np.abs(pooled.std(axis=1) - 1).max() < 0.2
        assert data.times(held_out, 0)[0] - data.times(train, train.n_columns - 16)[-1] >= 2.5
        # Planted truth: two groups.
        correlation = data.signal_correlation
        assert correlation[:3, :3].min() > 0.7 and correlation[3:, 3:].min() > 0.7
        assert np.abs(correlation[:3, 3:]).max() < 0.1
        np.testing.assert_allclose(np.diag(correlation), 1)
    for wrong in (np.array([7, 1]), np.array([0, 1]), np.array([1.0, 2.0])):
        with pytest.raises(InputError), open_site_data([path], SiteDataSettings(patches)) as data:
            data.read(data.stretches("train")[0], 0, wrong)


def test_statistics_and_correlation_do_not_look_at_what_evaluates(tmp_path):
    values = noise(3, 30)
    other = values.copy()
    other[:, -400:] = 50 * np.random.default_rng(5).normal(size=(1, 400))  # all channels alike and loud
    seen = []
    for name, one in (("a", values), ("b", other)):
        with open_site_data([recording(tmp_path, name, one)], SiteDataSettings(SMALL)) as data:
            seen.append((data.site_input.mean, data.site_input.std, data.signal_correlation, data.fingerprint))
    # The floor rests on the whole recording's power, far below anything here.
    for first, second in zip(seen[0][:3], seen[1][:3], strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-9)
    assert seen[0][3] != seen[1][3]


def test_recordings_join_their_sites_by_name(tmp_path):
    place = [[0, 0.01 * number, 0] for number in range(3)]
    moved = [[0, 0.03, 0], [0, 0.01, 0]]
    first = recording(tmp_path, "a", noise(3), names=["a", "b", "c"], positions=place, kinds=["eeg"] * 3)
    second = recording(tmp_path, "b", noise(2, 40, 1), names=["d", "b"], positions=moved, kinds=["eeg"] * 2)
    twin = recording(tmp_path, "c", noise(3), names=["a", "b", "c"], positions=place, kinds=["eeg"] * 3)
    with open_site_data([first, second, twin], SiteDataSettings(SMALL)) as data:
        assert data.site_input.sites.names == ("a", "b", "c", "d")
        assert {one.recording: one.sites for one in data.stretches("train")} == {"a.npy": (1, 2, 3), "b.npy": (2, 4)}
        assert np.isnan(data.signal_correlation[0, 3]) and np.isfinite(data.signal_correlation[1, 3])
        assert any("counts once" in one for one in data.facts["warnings"])
        assert not any("mm from" in one for one in data.facts["warnings"])
    other = recording(tmp_path, "d", noise(2, 40, 1), names=["a", "b"], positions=moved, kinds=["eeg"] * 2)
    with open_site_data([first, other], SiteDataSettings(SMALL)) as data:
        assert any(one.startswith("d.npy places 1 sites more than 5 mm") for one in data.facts["warnings"])


def test_sites_that_only_evaluate_are_reported(tmp_path):
    paths = [recording(tmp_path, f"r{n}", noise(2, 20, n), names=["a", f"only{n}"]) for n in range(3)]
    plan = SplitPlan(ratio=0.67, by="recording", seed=1)
    with open_site_data(paths, SiteDataSettings(SMALL, split=plan)) as data:
        trains = {one.recording for one in data.stretches("train")}
        evaluates = {one.recording for one in data.stretches("eval")}
        assert len(trains) == 2 and len(evaluates) == 1 and not trains & evaluates
        only = f"only{next(iter(evaluates))[1]}"
        assert data.facts["eval_only_sites"] == [only]
        site = data.site_input.sites.names.index(only) + 1
        assert np.isfinite(data.read(data.stretches("eval")[0], 0, np.array([site]))).all()


def test_a_table_names_places_and_merges(tmp_path):
    values = noise(4)
    path = recording(tmp_path, "a", values, names=["a1", "a2", "b", "c"])
    table = tmp_path / "t.csv"
    table.write_text("name,x,y,z,region,site\na1,0,0,0.1,r,A\na2,0,0,0.12,r,A\nb,,,,,\nc,0,0.1,0,s,\nz,0,0,0,,\n")
    with open_site_data([path], SiteDataSettings(SMALL, sites=str(table))) as data:
        assert data.site_input.sites.names == ("A", "b", "c")
        assert data.site_input.regions == ("r", "", "s")
        np.testing.assert_allclose(data.site_input.sites.positions[0], [0, 0, 0.11])
        assert data.facts["without_position"] == ["b"]
        assert any("have no position: b" in one for one in data.facts["warnings"])
        assert any("channels of the table: z" in one for one in data.facts["warnings"])
        merged = data.site_input.mean[0]
    with open_site_data([path], SiteDataSettings(SMALL)) as data:
        np.testing.assert_allclose(merged, data.site_input.mean[:2].mean(axis=0), rtol=1e-6)


def test_places_are_taken_by_themselves_where_meg_sensors_share_them_over_all_recordings(tmp_path):
    first, second = [[0, 0, 0.1]] * 2, [[0, 0.1, 0]] * 2
    meg = {"kinds": ["grad", "mag"] * 2}
    pairs = recording(
        tmp_path, "a", noise(4), names=["M011", "M012", "M021", "M022"], positions=[*first, *second], **meg
    )
    other = recording(
        tmp_path,
        "b",
        noise(4, seed=1),
        names=["M021", "M022", "M031", "M032"],
        positions=[*second, *[[0.1, 0, 0]] * 2],
        **meg,
    )
    # One of a pair was bad: it is the same place all the same, though what is left of it is of another kind.
    half = recording(
        tmp_path,
        "c",
        noise(3, seed=2),
        names=["M012", "M021", "M022"],
        positions=[first[0], *second],
        kinds=["mag", "grad", "mag"],
    )
    lone = recording(
        tmp_path, "d", noise(2), names=["c", "d"], positions=first
    )  # an EEG with one place under two names
    with open_site_data([pairs, other, half], SiteDataSettings(SMALL)) as data:
        assert data.site_input.sites.names == ("M01x", "M02x", "M03x")
        assert {sites for part in ("train", "eval") for sites in (one.sites for one in data.stretches(part))} == {
            (1, 2),
            (2, 3),
        }
    with open_site_data([lone], SiteDataSettings(SMALL)) as data:
        assert data.site_input.sites.names == ("c", "d")


def test_channels_at_one_place_are_one_site_for_the_model_as_well(tmp_path):
    """As the triplets of a helmet; a recording with half of them is read by the names of its channels."""
    places = [[0, 0, 0.1], [0, 0, 0.1], [0, 0.1, 0], [0, 0.1, 0.0005], [0.1, 0, 0]]
    names = ["M011", "M012", "M021", "M022", "single"]
    path = recording(tmp_path, "a", noise(5), names=names, positions=places)
    with open_site_data([path], SiteDataSettings(SMALL, sites="places")) as data:
        site_input = data.site_input
        assert site_input.sites.names == ("M01x", "M02x", "single")
        assert site_input.channels == (("M011", "M012"), ("M021", "M022"), ("single",))
        expected = data.read(data.stretches("train")[0], 0, np.array([2, 3]))
    with open_grids(path, from_plain(SiteInput, to_plain(site_input))) as grids:
        np.testing.assert_array_equal(grids.grid(0.25, np.array([2, 3]))[0], expected)
    half = recording(tmp_path, "b", noise(2), names=["M022", "other"])
    with open_grids(half, site_input) as grids:
        assert grids.sites == (2,)
        assert any("does not know other" in one for one in grids.warnings)
    with pytest.raises(DataError, match="No channel has a position"):
        open_site_data([recording(tmp_path, "c", noise(2))], SiteDataSettings(SMALL, sites="places"))


def test_grids_hold_no_more_sites_than_the_smallest_recording(tmp_path):
    paths = [recording(tmp_path, name, noise(n)) for name, n in (("a", 5), ("b", 3))]
    with open_site_data(paths, SiteDataSettings(PatchSettings(8, 16, 4, h_freq=30))) as data:
        patches = data.site_input.patches
        assert (patches.sites_per_grid, patches.grid_height, patches.rows_per_site) == (3, 6, 2)
        assert any("3 sites at once instead of 4" in one for one in data.facts["warnings"])
        assert data.read(data.stretches("train")[0], 0, np.array([1, 2, 3])).shape == (6, 16)


def test_flat_channels_are_left_out_and_named(tmp_path):
    values = noise(3)
    values[1] = 2.0
    with open_site_data([recording(tmp_path, "a", values)], SiteDataSettings(SMALL)) as data:
        assert data.site_input.sites.names == ("channel 1", "channel 3")
        assert data.facts["recordings"][0]["left_out"] == {"channel 2": "flat"}


@pytest.mark.parametrize(
    ("values", "settings", "error", "words"),
    [
        (noise(1), SiteDataSettings(SMALL), DataError, "at least two"),
        (noise(3, 4), SiteDataSettings(SMALL), DataError, r"lasts 4\.0 s; .* needs 6\.1 s"),
        (noise(3), SiteDataSettings(PatchSettings(8, 16, h_freq=60)), InputError, "h_freq"),
        (noise(3), SiteDataSettings(PatchSettings(8, 16, h_freq=60), 200.0), DataError, "nothing above 50 Hz"),
        (noise(3), SiteDataSettings(SMALL, split=SplitPlan(by="recording")), InputError, "at least 2"),
        (np.ones((3, 2000)), SiteDataSettings(SMALL), DataError, "All 3 channels"),
        (np.full((3, 2000), np.nan), SiteDataSettings(SMALL), DataError, "NaN"),
    ],
)
def test_data_that_cannot_be_used(tmp_path, values, settings, error, words):
    with pytest.raises(error, match=words):
        open_site_data([recording(tmp_path, "a", values)], settings)


def test_bad_stretches_hold_no_grid(tmp_path):
    import mne

    values = noise(2, 40) * 1e-5
    values[:, 1000:1100] = 1.0  # at 10 to 11 s
    raw = mne.io.RawArray(values, mne.create_info(["Fz", "Cz"], RATE, "eeg", verbose="ERROR"), verbose="ERROR")
    raw.set_annotations(mne.Annotations([10.0], [1.0], ["bad jump"]))
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    with open_site_data([tmp_path / "a_raw.fif"], SiteDataSettings(SMALL)) as data:
        first, second = data.stretches("train")
        assert data.times(first, first.n_columns - 16)[-1] + 0.25 <= 10.0
        assert data.times(second, 0)[0] - 0.25 >= 11.0
        assert np.abs(data.read(second, 0, np.array([1, 2]))).max() < 8


def test_the_split_is_apart_for_every_length():
    patches = PatchSettings(grid_height=8, grid_width=16, window_seconds=0.5, hop_seconds=0.1)
    for n in range(60, 200, 7):
        train, held_out = split_columns(["r"], [[(0, n)]], patches, SplitPlan(0.8, gap_seconds=1.3))
        assert (held_out.start - (train.stop - 1)) * 0.1 - 0.5 >= 1.3 - 1e-9
        assert (train.start, held_out.stop) == (0, n)
        assert held_out.stop - held_out.start >= 16 and train.stop - train.start >= 16
    assert split_columns(["r"], [[(0, 20)]], patches, SplitPlan(1.0)) == (Columns(0, "train", 0, 20),)


def test_grids_of_another_recording_follow_the_model(tmp_path):
    path = recording(tmp_path, "a", noise(3), names=["C3", "Cz", "C4"])
    with open_site_data([path], SiteDataSettings(SMALL)) as data:
        train = data.stretches("train")[0]
        expected, site_input = data.read(train, 5, np.array([1, 3])), data.site_input
    with open_grids(path, site_input) as grids:
        grid, times = grids.grid(0.25 + 0.5, np.array([1, 3]))
        np.testing.assert_array_equal(grid, expected)
        np.testing.assert_allclose(times[0], 0.75)
        with pytest.raises(InputError, match="expected 0 to"):
            grids.grid(19, np.array([1]))
    other = recording(tmp_path, "b", noise(2, 5), names=["c4.", "Oz"])
    with open_grids(other, site_input, GridSource()) as grids:
        assert grids.sites == (3,)
        assert any("does not know Oz" in one for one in grids.warnings)
        with pytest.raises(InputError, match="does not hold"):
            grids.grid(0, np.array([1]))
    with pytest.raises(DataError, match="none of the model's"):
        open_grids(recording(tmp_path, "c", noise(2), names=["x", "y"]), site_input)
    with pytest.raises(DataError, match=r"lasts 1\.0 s"):
        open_grids(recording(tmp_path, "d", noise(2, 1), names=["C3", "C4"]), site_input)


def test_the_real_eeg(shared_data):
    path = shared_data("meg_small") / "eeg" / "test_edf_overlapping_annotations.edf"
    settings = SiteDataSettings(PatchSettings(sites_per_grid=16), montage="standard_1005")
    with open_site_data([path], settings) as data:
        places = data.site_input.sites.positions
        assert len(places) == 64
        assert sum(one.n_columns for one in data.stretches("eval")) >= 128
        pairs = np.triu_indices(64, 1)
        distance = np.linalg.norm(places[:, None] - places[None], axis=2)
        # The anchor of this file: how signals from 1 to 40 Hz go with nearness.
        assert spearmanr(data.signal_correlation[pairs], -distance[pairs]).statistic == pytest.approx(0.79, abs=0.02)
        assert data.read(data.stretches("train")[0], 0, np.arange(1, 17)).shape == (128, 128)


def test_real_contacts_with_the_regions_of_a_table(shared_data, tmp_path):
    folder = shared_data("meg_small") / "ecog"
    lines = (folder / "electrodes_labels.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    table = tmp_path / "contacts.csv"
    cells = (f"{name},{x},{y},{z},{labels.split('|')[-1]}" for name, _, x, y, z, labels in rows)
    table.write_text("\n".join(["name,x,y,z,region", *cells]))
    patches = PatchSettings(16, 4, 4, 10, 60, window_seconds=0.1, hop_seconds=0.05)
    settings = SiteDataSettings(patches, split=SplitPlan(gap_seconds=0), sites=str(table))
    with open_site_data([folder / "sample_ecog_ieeg.fif"], settings) as data:
        sites = data.site_input.sites
        assert (len(sites), sites.kinds.count("seeg")) == (394, 74)
        assert data.site_input.regions[sites.names.index("G1")] == "ctx-rh-rostralmiddlefrontal"
        np.testing.assert_allclose(sites.positions[sites.names.index("G1")], [0.03582, 0.04675, 0.01955])


def test_the_real_meg(shared_data):
    path = shared_data("meg_small") / "elekta306" / "141027_cropped_90Hz_raw.fif"
    settings = SiteDataSettings(PatchSettings(8, 16, 2, hop_seconds=0.1), split=SplitPlan(gap_seconds=1))
    with open_site_data([path], settings) as data:  # what there is by itself: the triplets of a helmet
        assert len(data.site_input.sites) == 102
    with open_site_data([path], replace(settings, sites="channels")) as data:
        grid = data.read(data.stretches("train")[0], 0, np.array([1, 306]))
        assert grid.shape == (8, 16)
        # Magnetometers in tesla and gradiometers in tesla per metre are on one scale now.
        assert 0.2 < grid[:4].std() < 3
        assert 0.2 < grid[4:].std() < 3
        assert data.facts["kinds"] == {"mag": 102, "grad": 204}


def test_sound_of_two_microphones(tmp_path):
    import soundfile

    time = np.arange(8 * 8000) / 8000
    left = np.sin(2 * np.pi * 1500 * time) * (np.abs(time - 1.0) < 0.1)
    values = 1e-3 * np.random.default_rng(0).normal(size=(len(time), 2))
    values[:, 0] += left
    soundfile.write(tmp_path / "two.wav", values, 8000)
    patches = PatchSettings(32, 16, 1, 100, 3900, window_seconds=0.05, hop_seconds=0.05)
    settings = SiteDataSettings(patches, split=SplitPlan(gap_seconds=0.5))
    with open_site_data([tmp_path / "two.wav"], settings) as data:
        train = data.stretches("train")[0]
        first = data.read(train, 10, np.array([1]))
        row, column = np.unravel_index(first.argmax(), first.shape)
        assert abs(data.times(train, 10)[column] - 1.0) < 0.13
        assert abs(patches.frequencies[row] - 1500) < 150
        assert data.facts["without_position"] == ["channel 1", "channel 2"]
