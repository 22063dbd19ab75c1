"""What the recipes of the bundled speech encoders share: the speech, the held-out voices, the size, the end of a run.

Encoders that are to be compared differ in nothing but what they were trained to do.
"""

import argparse
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel, Wav2Vec2FeatureExtractor

from core.checkpoints.save import save_checkpoint
from core.recipes import speech_data, speech_evaluation
from core.training import corpus as corpora
from core.training import distill
from core.training.loop import Progress

ENCODER: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "conv_dim": (128,) * 7,
    "conv_kernel": distill.CONV_KERNELS,
    "conv_stride": distill.CONV_STRIDES,
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}
"""Base style (group norm, post-norm blocks), the standard convolution geometry, 4.77 M parameters.

Nothing is dropped: the data are noisy enough for a model of this size, and a layer that is dropped in training would
miss from the hidden states. A recipe that masks puts the mask in itself; what ships never masks.
"""


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What is heard how often.

    Attributes:
        corpus_weights: How much each corpus counts beside its duration.
        speeds: Of the acted speech, which ten actors spoke: with other heights and lengths of the voice they are more.
        held_out_emodb, held_out_librivox, held_out_librispeech_every: Voices that only the validation loss hears.
    """

    corpus_weights: dict[str, float] = field(default_factory=lambda: {"emodb": 8.0, "librispeech": 3.0})
    speeds: tuple[float, ...] = (1.0, 0.88, 1.14)
    held_out_emodb: tuple[str, ...] = ("12",)
    held_out_librivox: tuple[str, ...] = ("Cocotte", "Sonia")
    held_out_librispeech_every: int = 20


def speech_sources(data: Path, work: Path, speech: Speech) -> list[corpora.Source]:
    """The three corpora that may train weights that ship."""
    acted = speech_data.emodb_sources(speech_data.find_archive(data, work, "emodb_2s"))
    return [
        *(replace(source, speed=speed) for speed in speech.speeds for source in acted),
        *speech_data.librispeech_sources(speech_data.find_archive(data, work, "librispeech_train_opus"), "*.opus"),
        *speech_data.librivox_sources(speech_data.find_archive(data, work, "librivox_opus")),
    ]


def held_out_groups(corpus: corpora.Corpus, speech: Speech) -> frozenset[tuple[str, str]]:
    """Whole speakers and readers for the validation loss."""
    readers = sorted({clip.group for clip in corpus.clips if clip.corpus == "librispeech"})
    return frozenset(
        [("emodb", group) for group in speech.held_out_emodb]
        + [("librivox", group) for group in speech.held_out_librivox]
        + [("librispeech", group) for group in readers[:: speech.held_out_librispeech_every]]
    )


@dataclass(frozen=True)
class Material:
    """A corpus, split by whole voices.

    Attributes:
        corpus: All of it.
        speech: How it counts, and what is held out.
    """

    corpus: corpora.Corpus
    speech: Speech

    @cached_property
    def held_out(self) -> frozenset[tuple[str, str]]:
        """``(corpus, group)`` of the voices that train nothing."""
        return held_out_groups(self.corpus, self.speech)

    @property
    def train(self) -> tuple[corpora.Clip, ...]:
        """Clips that train."""
        return corpora.split_groups(self.corpus, self.held_out)[0]

    @property
    def held(self) -> tuple[corpora.Clip, ...]:
        """Clips of the held-out voices, at their own speed only."""
        return corpora.as_recorded(corpora.split_groups(self.corpus, self.held_out)[1])

    def data(self) -> dict[str, Any]:
        """What the corpus is, for training.json."""
        hours: defaultdict[str, float] = defaultdict(float)
        for clip in self.corpus.recordings:
            hours[clip.corpus] += clip.n_samples / corpora.SAMPLING_RATE / 3600
        return {
            "sha256": self.corpus.fingerprint,
            "clips": len(self.corpus.recordings),
            "hours": self.corpus.hours(),
            "speeds": sorted({clip.speed for clip in self.corpus.clips}),
            "hours_by_corpus": dict(hours),
        }

    def split(self) -> dict[str, Any]:
        """Who is held out, for training.json."""
        groups = [f"{name}/{group}" for name, group in sorted(self.held_out)]
        return {"held_out": groups, "held_out_text": f"{len(groups)} whole speakers ({', '.join(groups)})"}


def open_material(data: Path, work: Path, speech: Speech) -> Material:
    """Decode the corpora into ``work``, or open what was decoded before."""
    corpus = corpora.build_corpus(speech_sources(data, work, speech), work / "corpus")
    return Material(corpus, speech)


def clean_crops(seed: int = 0, seconds_per_batch: float = 32.0) -> distill.CropSettings:
    """Crops as they were recorded: no noise, no other speech, no tilted spectrum."""
    return distill.CropSettings(
        seconds_per_batch=seconds_per_batch,
        noise_probability=0.0,
        babble_probability=0.0,
        tilt_probability=0.0,
        seed=seed,
    )


def training_facts(material: Material, progress: Progress) -> dict[str, Any]:
    """What the training.json of every recipe says of a run; each adds its recipe, settings, seed and parameters."""
    return {
        "updates": progress.update,
        "cpu_seconds": round(progress.cpu_seconds),
        "wall_seconds": round(progress.wall_seconds),
        "device": f"CPU, {torch.get_num_threads()} threads, bfloat16 autocast",
        "data": material.data(),
        "split": material.split(),
        "history": progress.history,
    }


def feature_extractor() -> Wav2Vec2FeatureExtractor:
    """How audio is prepared: 16 kHz, zero mean and unit variance over the recording."""
    return Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=corpora.SAMPLING_RATE, padding_value=0.0, do_normalize=True,
        return_attention_mask=False,
    )  # fmt: skip


def without_mask(trained: PreTrainedModel, plain: PreTrainedModel) -> PreTrainedModel:
    """Give ``plain``, which does not mask, the weights of an encoder that was trained with a mask embedding."""
    weights = {name: value for name, value in trained.state_dict().items() if name != "masked_spec_embed"}
    plain.load_state_dict(weights)
    return plain


@dataclass(frozen=True)
class Bundle:
    """A checkpoint that ships.

    Attributes:
        folder: Gets it; its name is the model's.
        encoder: Without any head.
        facts: Of the run, for training.json.
        card: What only a person can say.
    """

    folder: Path
    encoder: PreTrainedModel
    facts: Mapping[str, Any]
    card: Mapping[str, Any]

    def write(self, metrics: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write the folder, with tables of what was measured after those that the facts hold already."""
        tables = [*self.facts.get("metrics", ()), *metrics]
        facts = {**self.facts, "parameters": self.encoder.num_parameters(), "metrics": tables}
        save_checkpoint(self.folder, self.encoder, facts, dict(self.card), feature_extractor())

    def write_measured(self, data: Path, work: Path) -> None:
        """Write the folder, measure what is in it, and write it again with the tables."""
        self.write()
        written = AutoModel.from_pretrained(self.folder, dtype=torch.float32)  # what ships is what is measured
        features = speech_evaluation.standard_features(written, self.folder.name)
        self.write(speech_evaluation.evaluate(features, data, work))


def options(description: str | None, updates: int) -> argparse.ArgumentParser:
    """The command line of every recipe."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=updates)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def read_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and set up threads and the log."""
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    return given
