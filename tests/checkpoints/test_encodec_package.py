"""Meta's official EnCodec files: random weights in the package's format, loaded by us and compared with the package."""

import hashlib
import http.server
import os
import pickle
import threading
from functools import partial

import encodec
import pytest
import torch

from core.checkpoints import encodec_package
from core.checkpoints.find import describe_model, find_model, list_models
from core.checkpoints.load import checkpoint_hashes, load_model
from core.errors import CheckpointError
from core.models.encodec import codec_of, encode_segment
from tests.tiny_models import save_tiny

NAMES = ("encodec_24khz", "encodec_48khz")


def checksummed(folder, codec, content):
    """A file as the package names it: with the beginning of its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{codec}-{hashlib.sha256(content).hexdigest()[:8]}.th"
    path.write_bytes(content)
    return path


def saved(weights, folder, codec):
    torch.save(weights, folder / "unnamed")
    path = checksummed(folder, codec, (folder / "unnamed").read_bytes())
    (folder / "unnamed").unlink()
    return path


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """By name: the package's network with random weights, and the file that holds them."""
    made = {}
    for name in NAMES:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = getattr(encodec.EncodecModel, f"encodec_model_{name[-5:]}")(pretrained=False)
            for module in model.modules():
                if isinstance(module, torch.nn.GroupNorm):
                    torch.nn.init.normal_(module.weight, 1, 0.2)
                    torch.nn.init.normal_(module.bias, 0, 0.2)
            for key, weight in model.state_dict().items():
                weight.mul_(2 if key.endswith("weight_g") else 1)  # or the biases drown the sound
            for layer in model.quantizer.vq.layers:  # zeros before k-means
                layer._codebook.embed.normal_(std=0.1)
        made[name] = model.eval(), saved(model.state_dict(), tmp_path_factory.mktemp(name), name)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_both_implementations_are_bit_equal(name, originals):
    original, file = originals[name]
    before = torch.get_rng_state()
    loaded = load_model(file.parent, "mine", from_user=True)
    assert torch.equal(torch.get_rng_state(), before)
    codec = codec_of(loaded.model)
    assert codec == codec_of(original)
    generator = torch.Generator().manual_seed(0)
    sound = 0.1 * torch.randn(1, codec.channels, codec.sampling_rate // 2 + 77, generator=generator)
    for kbps in codec.bandwidths:
        original.set_target_bandwidth(kbps)
        with torch.inference_mode():
            ((codes, _scale),) = original.encode(sound)
            ours = loaded.model.encode(sound, bandwidth=kbps).audio_codes[0]
        assert len(codes[0]) == codec.codebooks[codec.bandwidths.index(kbps)]
        assert len(torch.unique(codes)) > 2
        assert torch.equal(ours, codes)
    with torch.inference_mode():
        outputs = [
            encode_segment(model.encoder, sound, normalise=codec.normalise) for model in (original, loaded.model)
        ]
        heard = [model.decoder(outputs[0]) for model in (original, loaded.model)]
        summed = [model.quantizer.decode(codes.transpose(0, 1)) for model in (original, loaded.model)]
    assert outputs[0].shape[-1] == -(-sound.shape[-1] // 320) and outputs[0].std() > 1e-3
    assert all(torch.equal(*pair) for pair in (outputs, heard, summed))
    original.normalize = False
    assert codec_of(original) != codec_of(loaded.model) or name == "encodec_24khz"
    original.normalize = codec.normalise


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_found_described_and_hashed(name, originals):
    file = originals[name][1]
    found = find_model(str(file.parent))
    assert (found.where, found.folder) == ("folder", file.parent)
    entry = describe_model(found)
    rate, layers = {"encodec_24khz": (24_000, 5), "encodec_48khz": (48_000, 4)}[name]
    assert (entry.architecture, entry.sampling_rate, entry.n_layers, entry.dim) == ("EncodecModel", rate, layers, 128)
    assert entry.layer_names[-1] == "quantised, 24 kbps"
    assert entry.size_mb == round(file.stat().st_size / 1e6, 1)
    weights, config = checkpoint_hashes(found.folder, found.name, from_user=True)
    assert weights == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(config) == 64


def test_the_cache_is_torchs_own(monkeypatch, tmp_path):
    for changes in ({"TORCH_HOME": str(tmp_path)}, {"XDG_CACHE_HOME": str(tmp_path / "x")}, {}):
        with monkeypatch.context() as patch:
            patch.delenv("TORCH_HOME", raising=False)
            patch.delenv("XDG_CACHE_HOME", raising=False)
            for key, value in changes.items():
                patch.setenv(key, value)
            assert str(encodec_package.cache_folder()) == f"{torch.hub.get_dir()}/checkpoints"


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def endpoint(originals, monkeypatch, tmp_path):
    """A server with small stand-ins for the official files under their names, and an empty cache."""
    folder, small = tmp_path / "server", {}
    for name in NAMES:
        small[name] = checksummed(folder, name, name.encode() * 1000).name
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(encodec_package, "OFFICIAL", small)
    monkeypatch.setattr(encodec.model, "ROOT_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)
    yield folder
    server.shutdown()
    server.server_close()


def test_official_names_are_downloaded_once_from_where_the_package_has_them(endpoint):
    listed = {entry.name: entry for entry in list_models(ask_hub=False)}
    assert {listed[name].where for name in NAMES} == {"hub, not reached"}
    for name in NAMES:
        first = find_model(name)
        assert (first.name, first.where, first.from_user) == (name, "hub", False)
        for file in endpoint.iterdir():
            if file.name.startswith(name):
                file.unlink()
        again = find_model(name)
        assert (again.where, again.folder) == ("cached", first.folder)
    assert len(list(first.folder.iterdir())) == 2  # both, and no leftovers
    listed = {entry.name: entry for entry in list_models(ask_hub=False)}
    assert [(listed[name].where, listed[name].sampling_rate) for name in NAMES] == [
        ("cached", 24_000),
        ("cached", 48_000),
    ]
    hashes = {checkpoint_hashes(first.folder, name, from_user=False) for name in NAMES}
    assert len(hashes) == 2  # the name says which, where both lie in one folder


def test_what_comes_with_another_checksum_is_not_kept(endpoint):
    for file in endpoint.iterdir():
        file.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"what came is not encodec_24khz-.*\.th"):
        find_model("encodec_24khz")
    assert list(encodec_package.cache_folder().iterdir()) == []


def test_without_a_network_the_error_says_where_the_file_belongs(endpoint, monkeypatch):
    monkeypatch.setattr(encodec.model, "ROOT_URL", "http://127.0.0.1:1/")
    with pytest.raises(CheckpointError) as caught:
        find_model("encodec_48khz")
    message = str(caught.value)
    for words in ("encodec_48khz cannot be downloaded", encodec_package.OFFICIAL["encodec_48khz"], "Bundled: "):
        assert words in message
    assert str(encodec_package.cache_folder()) in message


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        load_model(folder, "mine", from_user=True)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    for word in words:
        assert word in message


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_damaged_and_dangerous_files_are_refused(originals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = originals["encodec_24khz"][1]
    folder = tmp_path / "short"
    folder.mkdir()
    (folder / file.name).write_bytes(file.read_bytes()[:-1000])
    refused(folder, "SHA-256 begins with", file.stem[-8:], "download it again")
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint_hashes(folder, "mine", from_user=True)
    # From here on the checksums are right: what is inside decides.
    torch.save({"a": Bomb()}, tmp_path / "bomb")
    for number, content in enumerate([pickle.dumps(Bomb()), (tmp_path / "bomb").read_bytes(), b"no pickle at all"]):
        refused(checksummed(tmp_path / f"bomb{number}", "encodec_24khz", content).parent, "other than tensors")
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "none").mkdir()
    refused(saved([torch.zeros(2)], tmp_path / "none", "encodec_24khz").parent, "no mapping of names to tensors")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda weights: weights.pop("encoder.model.13.lstm.bias_hh_l1"), "Missing key(s)"),
        (lambda weights: weights.update(more=torch.zeros(2)), "Unexpected key(s)"),
        (lambda weights: weights.update({"encoder.model.15.conv.conv.bias": torch.zeros(3)}), "size mismatch"),
    ],
)
def test_every_weight_has_to_find_its_place(change, word, originals, tmp_path):
    weights = dict(originals["encodec_24khz"][0].state_dict())
    change(weights)
    refused(saved(weights, tmp_path, "encodec_24khz").parent, "not encodec_24khz's", word)


def test_one_codecs_weights_under_the_others_name_are_refused(originals, tmp_path):
    weights = originals["encodec_48khz"][0].state_dict()
    refused(saved(weights, tmp_path, "encodec_24khz").parent, "not encodec_24khz's")


def test_two_codecs_in_one_folder_need_a_name_and_transformers_files_come_first(tmp_path):
    for name in NAMES:
        checksummed(tmp_path, name, name.encode())
    refused(tmp_path, "several codecs", "folder of its own")
    save_tiny(tmp_path, "hubert")
    assert load_model(tmp_path, "mine", from_user=True).architecture == "HubertModel"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "encodec_24khz.th").write_bytes(b"without a checksum in its name")
    refused(tmp_path / "other", "config.json is missing")
