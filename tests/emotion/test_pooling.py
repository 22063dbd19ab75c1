"""Pooling: the document's formulas, padding that changes no bit, and blocks that give what the whole gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.emotion.pooling import PARTS, LearnedAttention, Pool, pool
from core.errors import DataError, InputError

METHODS = tuple(PARTS)


def frames(*shape, seed=0, offset=0.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) + np.float32(offset))


def by_the_document(embeddings, method):
    """Its code, word for word."""
    if method == "mean":
        return embeddings.mean(dim=-1)
    if method == "max":
        return embeddings.max(dim=-1)[0]
    if method == "attention":
        attention_weights = torch.softmax(embeddings.mean(dim=1, keepdim=True), dim=-1)
        return (embeddings * attention_weights).sum(dim=-1)
    if method == "std":
        return embeddings.std(dim=-1)
    if method == "multi":
        global_mean = embeddings.mean(dim=-1)
        global_max = embeddings.max(dim=-1)[0]
        global_std = embeddings.std(dim=-1)
        return torch.cat([global_mean, global_max, global_std], dim=1)
    return torch.cat([embeddings.mean(dim=-1), embeddings.std(dim=-1)], dim=1)


@pytest.mark.parametrize("method", METHODS)
def test_without_padding_it_is_the_documents(method):
    embeddings = frames(3, 16, 40)
    assert torch.allclose(pool(embeddings, method), by_the_document(embeddings, method), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    dim=st.integers(1, 40),
    more=st.integers(0, 70),
    padding=st.sampled_from([0.0, 7.0, -1e30, float("nan"), float("inf")]),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("method", [*METHODS, "learned"])
def test_padding_changes_no_bit(method, lengths, dim, more, padding, seed):
    clips = [frames(1, dim, length, seed=seed + number) for number, length in enumerate(lengths)]
    batch = torch.full((len(clips), dim, max(lengths) + more), padding)
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[-1]] = clip[0]
    learned = LearnedAttention(dim)
    learned.query.data = frames(dim, seed=seed)
    pooled = (lambda x, n=None: learned(x, n)) if method == "learned" else (lambda x, n=None: pool(x, method, n))
    together = pooled(batch, torch.tensor(lengths))
    alone = torch.cat([pooled(clip) for clip in clips])
    assert torch.isfinite(together).all()
    assert torch.equal(together, alone)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_flow_into_real_frames_only(method):
    batch = frames(2, 4, 9).requires_grad_()
    pool(batch, method, [5, 1]).square().sum().backward()
    assert torch.isfinite(batch.grad).all()
    assert (batch.grad[0, :, 5:] == 0).all() and (batch.grad[1, :, 1:] == 0).all()
    assert batch.grad[0, :, :5].abs().sum() > 0


def test_learned_attention_begins_as_the_mean_and_learns_where_to_look():
    batch, attention = frames(64, 4, 30), LearnedAttention(4)
    assert torch.allclose(attention(batch), batch.mean(dim=-1), atol=1e-6)
    wanted = torch.stack([clip[:, clip[2].argmax()] for clip in batch])
    optimiser = torch.optim.Adam(attention.parameters(), lr=0.2)
    losses = []
    for _ in range(60):
        loss = (attention(batch) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert attention.query.argmax() == 2


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 300), max_size=4),
    n_frames=st.integers(1, 300),
    offset=st.sampled_from([0.0, -3.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("method", METHODS)
def test_blocks_give_what_float64_gives_on_the_whole(method, cuts, n_frames, offset, seed):
    values = frames(2, n_frames, 5, seed=seed, offset=offset).numpy()
    streamed = Pool()
    for block in np.split(values, sorted(min(cut, n_frames) for cut in cuts), axis=1):
        streamed.add(block)
    assert streamed.n_frames == n_frames
    expected = pool(torch.from_numpy(values.astype(np.float64)).transpose(1, 2), method).numpy()
    assert streamed.result(method).shape == (2, 5 * len(PARTS[method]))
    assert np.abs(streamed.result(method) - expected).max() < 2e-6 * max(1, abs(offset) / 100)


@pytest.mark.parametrize("method", METHODS)
def test_one_frame_and_constant_frames_give_numbers(method):
    one = frames(1, 3, 1)
    pooled = pool(one, method)
    assert torch.equal(pooled[:, :3] if method != "std" else one[..., 0], one[..., 0])
    assert torch.isfinite(pooled).all()
    streamed = Pool()
    streamed.add(np.full((1, 700, 3), 1234.567, np.float32))
    assert np.isfinite(streamed.result(method)).all()
    if "std" in PARTS[method]:
        assert (pooled[:, -3:] == 0).all()
        assert (streamed.result(method)[:, -3:] == 0).all()


def test_what_cannot_be_pooled_is_said():
    for bad in (frames(3, 4), frames(1, 4, 0), frames(0, 4, 3)):
        with pytest.raises(InputError, match="dim, frames"):
            pool(bad)
    for lengths in ([3], [3, 0], [3, 9], [2.5, 3]):
        with pytest.raises(InputError, match="2 whole numbers from 1 to 8"):
            pool(frames(2, 4, 8), "mean", lengths)
    with pytest.raises(InputError, match="mean, max, std"):
        pool(frames(1, 4, 3), "median")
    with pytest.raises(InputError, match="LearnedAttention"):
        Pool().result("learned")
    with pytest.raises(InputError, match="no frame"):
        Pool().result("mean")
    streamed = Pool()
    streamed.add(np.zeros((2, 3, 4), np.float32))
    for shape in ((2, 3), (2, 3, 5), (1, 3, 4)):
        with pytest.raises(InputError, match="of one size"):
            streamed.add(np.zeros(shape, np.float32))
    with pytest.raises(DataError, match="layer 1"):
        streamed.add(np.stack([np.zeros((3, 4)), np.full((3, 4), np.nan)]).astype(np.float32))
