"""Meg2Vec: wav2vec 2.0 with one channel to the last bit; blind to what is masked; clear about what does not fit."""

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from core.errors import InputError
from core.models.masking import MaskRule, compute_mask_indices, sample_negative_indices
from core.models.meg2vec import Meg2VecConfig, Meg2VecForPreTraining, Meg2VecModel, frame_clock
from core.models.sensor_attention import SensorAttention, SensorTensors
from core.sensors import Sensors

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": (16, 16, 16, 16), "conv_kernel": (10, 3, 3, 2), "conv_stride": (5, 2, 2, 2),
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "num_codevectors_per_group": 20,
    # Sums over a vector's lanes have one order where the dimension fills them.
    "codevector_dim": 32, "proj_codevector_dim": 32, "mask_time_prob": 0.065, "layerdrop": 0.0,
    "feat_proj_dropout": 0.1, "feat_quantizer_dropout": 0.1,
}  # fmt: skip
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def config(**changes):
    return Meg2VecConfig(**SIZE | {"in_channels": 5} | changes)


def model(kind=Meg2VecModel, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config(**changes)).eval()


def batch_for(network, shape=(3, 5, 1700), negatives=20):
    """Values, mask and negatives."""
    values = torch.randn(shape, generator=seeded())
    mask = compute_mask_indices((shape[0], frame_clock(network.config).n_frames(shape[-1])), generator=seeded())
    return values, mask, sample_negative_indices(mask, negatives, generator=seeded())


def stock_name(name):
    """transformers' name of one of our weights."""
    return name.replace("meg2vec.", "wav2vec2.", 1) if name.startswith("meg2vec.") else name.removeprefix("head.")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("changes", [{}, STABLE, {"num_codevectors_per_group": 3}])
@pytest.mark.parametrize("shape", [(3, 1, 2500), (5, 1, 1700)])
def test_one_channel_equals_transformers_bit_for_bit(shape, changes, training):
    mine = model(Meg2VecForPreTraining, in_channels=1, **changes).train(training)
    stock = Wav2Vec2ForPreTraining(Wav2Vec2Config(**SIZE | changes)).train(training)
    stock.load_state_dict({stock_name(name): value for name, value in mine.state_dict().items()})
    values, mask, negatives = batch_for(mine, shape)
    outputs = []
    for network, inputs in ((mine, values), (stock, values[:, 0])):
        torch.manual_seed(1)
        outputs.append(network(inputs, mask_time_indices=mask, sampled_negative_indices=negatives))
        outputs[-1].loss.backward()
    for part in ("loss", "contrastive_loss", "diversity_loss", "codevector_perplexity", "projected_states"):
        assert torch.equal(outputs[0][part], outputs[1][part]), part
    theirs = dict(stock.named_parameters())
    for name, parameter in mine.named_parameters():
        wanted = theirs[stock_name(name)].grad
        assert (wanted is None and parameter.grad is None) or torch.equal(parameter.grad, wanted), name


def test_what_is_masked_does_not_reach_the_transformer():
    """In the document's code the mask only chose where the loss counts, and noise was predicted with 81 %."""
    network = model()
    values, mask, _ = batch_for(network, (2, 5, 1700))
    features = []
    hook = network.feature_projection.register_forward_hook(
        lambda _module, _inputs, output: (torch.where(mask[..., None], changed, output[0]), output[1])
    )
    for size in (0.0, 100.0):
        changed = size * torch.randn(2, mask.shape[1], 32, generator=seeded(1))
        features.append(network(values, mask_time_indices=mask).last_hidden_state)
    assert torch.equal(*features)
    with_mask = network(values, mask_time_indices=mask).last_hidden_state
    without = network(values).last_hidden_state
    hook.remove()
    assert not torch.allclose(with_mask, without)


def test_samples_that_only_masked_frames_see_change_nothing():
    """End to end; the first layer's norm looks at each frame alone here, so that no other frame sees them."""
    network = model(**STABLE)
    values, mask, _ = batch_for(network, (1, 5, 1700))
    clock = frame_clock(network.config)
    seen = np.zeros(1700, dtype=bool)
    for frame in torch.nonzero(~mask[0]).flatten().tolist():
        begin, end = clock.samples_of(frame, frame + 1)
        seen[begin:end] = True
    other = values.clone()
    other[..., ~seen] += 50.0
    assert (~seen).mean() > 0.3
    assert not torch.allclose(network(other).last_hidden_state, network(values).last_hidden_state)
    states = [network(inputs, mask_time_indices=mask).last_hidden_state for inputs in (values, other)]
    assert torch.equal(*states)


def test_every_state_comes_out():
    network = model(num_hidden_layers=3)
    inputs = []
    network.encoder.layers[0].register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    out = network(torch.randn(2, 5, 900), output_hidden_states=True)
    assert len(out.hidden_states) == 4
    assert torch.equal(out.hidden_states[0], inputs[0])
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
    assert {tuple(state.shape) for state in out.hidden_states} == {(2, 22, 32)}
    assert out.extract_features.shape == (2, 22, 16)


def test_the_documents_window_has_twelve_frames():
    """ "(batch, ~31, 768)" from 500 samples is 12 frames; 31 want 1,260 samples."""
    clock = frame_clock(Meg2VecConfig())
    assert (clock.hop, clock.field, clock.sampling_rate) == (40, 60, 250)
    assert (clock.n_frames(500), clock.n_frames(1259), clock.n_frames(1260)) == (12, 30, 31)
    assert model()(torch.randn(1, 5, 500)).last_hidden_state.shape[1] == 12


def test_the_documents_example_runs_as_corrected():
    """Masks on frames, windows long enough for 31 of them; sizes of the transformer smaller."""
    network = Meg2VecForPreTraining(Meg2VecConfig(**SIZE | {"conv_dim": (256,) * 4}))
    values = torch.randn(8, 306, 1260)
    mask = compute_mask_indices(shape=(8, 31), mask_prob=0.065, mask_length=10)
    negatives = sample_negative_indices(mask, num_negatives=100)
    outputs = network(input_values=values, mask_time_indices=mask, sampled_negative_indices=negatives)
    outputs.loss.backward()
    assert outputs.projected_states.shape == (8, 31, 32)
    assert outputs.loss.isfinite()
    assert outputs.contrastive_loss / outputs.n_masked > 0.5 * np.log(negatives.shape[-1] + 1)


@pytest.mark.parametrize(
    ("shape", "mask", "words"),
    [
        ((1, 4, 900), None, "4 channels; this model takes 5"),
        ((1, 6, 900), None, "core prepare"),
        ((5, 900), None, r"expected \(batch, channels, time\)"),
        ((1, 5, 59), None, r"59 samples at 250 Hz; one frame needs 60 \(0.24 s\)"),
        ((1, 5, 900), (1, 900), "drawn on frames, not on samples"),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(shape, mask, words):
    with pytest.raises(InputError, match=words):
        model()(torch.randn(shape), mask_time_indices=None if mask is None else torch.ones(mask, dtype=torch.bool))


@pytest.mark.parametrize(
    "wrong",
    [{"layerdrop": 0.1}, {"sensor_input": "both"}, {"in_channels": 0}, {"sampling_rate": 0}, {"virtual_channels": 0}],
)
def test_a_config_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        Meg2VecConfig(**wrong)


def test_the_codebook_is_drawn():
    """The document's was whatever lay in memory: up to 1e29."""
    head = model(Meg2VecForPreTraining).head
    assert 0 <= head.quantizer.codevectors.min() < head.quantizer.codevectors.max() <= 1
    assert head.quantizer.codevectors.std().item() == pytest.approx(12**-0.5, rel=0.1)
    assert head.quantizer.weight_proj.weight.std().item() == pytest.approx(1, rel=0.1)


def test_bf16_stays_near():
    network = model(Meg2VecForPreTraining).train()
    values, mask, negatives = batch_for(network)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(network(values, mask, negatives).contrastive_loss)
    losses[1].backward()
    assert losses[1].dtype == torch.float32
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


def test_temperature_is_set():
    network = model(Meg2VecForPreTraining)
    network.set_gumbel_temperature(0.7)
    assert network.head.quantizer.temperature == 0.7


def accuracy_on_noise(*, leak):
    """Contrastive accuracy and its n on fresh white noise, after a short training on white noise."""
    sizes = {"in_channels": 16, "hidden_size": 64, "conv_dim": (32,) * 4, "num_codevectors_per_group": 32}
    torch.manual_seed(0)
    network = model(Meg2VecForPreTraining, **sizes, codevector_dim=64, proj_codevector_dim=64).train()
    if leak:
        blind = {"mask_time_indices": None}
        network.meg2vec.register_forward_pre_hook(lambda _m, args, given: (args, given | blind), with_kwargs=True)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(30):
        network.set_gumbel_temperature(max(2 * 0.97**step, 0.5))
        out = noise_loss(network, 8, step)
        optimiser.zero_grad()
        (out.loss / out.n_masked).backward()
        optimiser.step()
    with torch.no_grad():
        out = noise_loss(network.eval(), 60, 1000)
    return out.n_correct.item(), out.n_masked.item(), out.chance.item()


def noise_loss(network, n_windows, number):
    mask, negatives = MaskRule(negatives=20).draw(range(100 * number, 100 * number + n_windows), 62)
    return network(torch.randn(n_windows, 16, 2500, generator=seeded(number)), mask, negatives)


def test_white_noise_stays_at_chance():
    """The acceptance test in short; the control shows the transformer its targets, as the document's code does."""
    correct, n_masked, chance = accuracy_on_noise(leak=False)
    assert chance == pytest.approx(1 / 21, abs=0.002)
    deviation = (chance * (1 - chance) / n_masked) ** 0.5
    assert abs(correct / n_masked - chance) < 4 * deviation
    correct, n_masked, _ = accuracy_on_noise(leak=True)
    assert correct / n_masked > 0.3


# ---- positions -----------------------------------------------------------------------------------------------------


def some_sensors(n, seed=0):
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    kinds = tuple(rng.choice(["mag", "grad"], n))
    return Sensors(tuple(f"MEG{i}" for i in range(n)), kinds, 0.1 * directions, directions, "made")


@pytest.fixture(scope="module")
def located():
    return model(sensor_input="positions", virtual_channels=8, sensor_dim=16)


def test_the_order_of_sensors_changes_nothing(located):
    sensors, values = some_sensors(20), torch.randn(1, 20, 900, generator=seeded())
    order = np.random.default_rng(1).permutation(20)
    one = located(values, sensors=SensorTensors.of([sensors])).last_hidden_state
    two = located(values[:, order], sensors=SensorTensors.of([sensors.take(order)])).last_hidden_state
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    misplaced = located(values[:, order], sensors=SensorTensors.of([sensors])).last_hidden_state
    assert (one - misplaced).abs().max() > 0.1  # a control: places do matter


@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan")])
def test_padding_changes_nothing(located, junk):
    few, many = some_sensors(12), some_sensors(20, seed=1)
    values = torch.randn(2, 20, 900, generator=seeded())
    values[0, 12:] = junk
    together = located(values, sensors=SensorTensors.of([few, many])).last_hidden_state
    alone = located(values[:1, :12], sensors=SensorTensors.of([few])).last_hidden_state
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)


def test_weights_are_of_real_sensors_only_and_differ_by_place_orientation_and_kind():
    attention = SensorAttention(config(virtual_channels=8, sensor_dim=16))
    sensors = some_sensors(12)
    tensors = SensorTensors.of([sensors, some_sensors(20)])
    weights = attention.weights(tensors)
    assert weights.shape == (2, 8, 20)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 8))
    assert (weights[0, :, 12:] == 0).all()
    for part in (tensors.positions, tensors.orientations, tensors.kinds):
        before = part[0, 0].clone()
        part[0, 0] = 1 - before
        assert (attention.weights(tensors)[0] - weights[0]).abs().max() > 1e-4
        part[0, 0] = before


def test_sensors_without_places_are_refused(located):
    sensors = some_sensors(5)
    sensors.positions[2] = np.nan
    with pytest.raises(InputError, match="without position"):
        SensorTensors.of([sensors])
    values = torch.randn(1, 5, 900)
    with pytest.raises(InputError, match="expected the sensors of each recording"):
        located(values)
    with pytest.raises(InputError, match="expected no sensors"):
        model()(values, sensors=SensorTensors.of([some_sensors(5)]))
    with pytest.raises(InputError, match="expected the same"):
        located(values, sensors=SensorTensors.of([some_sensors(6)]))
