"""One function for each thing a user can do; the command line, the app and README's examples all call these."""

from core.checkpoints.find import ModelEntry, list_models
from core.checkpoints.heads import HeadEntry, list_heads
from core.embed.corpus import CorpusSummary
from core.emotion.corpora import read_corpus
from core.emotion.corpora.classes import read_mapping
from core.scoring import INTENDED_USE
from core.tasks.embedding import embed, embed_many
from core.tasks.emotion import (
    Classified,
    ClassifySettings,
    EmotionEmbeddings,
    EmotionRequest,
    TrainedHead,
    classify_emotion,
    embed_emotion,
    emotion_as_text,
    evaluate_emotion,
    features_cache,
    predictions_as_json,
    predictions_as_text,
    read_card,
    read_emotion,
    summarise_emotion,
    timeline_rows,
    train_emotion,
    write_emotion,
)
from core.tasks.layer_files import summarise_layers, write_layers
from core.tasks.layer_rows import LayersRequest
from core.tasks.layerwise import LayersAnalysis, analyse_layers
from core.tasks.meg.choices import describe_window, find_meg, meg_layouts
from core.tasks.meg.describing import describe_meg
from core.tasks.meg.preparing import prepare_meg
from core.tasks.meg.pretraining import pretrain_meg, read_pretrain_settings, with_data
from core.tasks.meg.probe_text import probe_as_text
from core.tasks.meg.probing import probe_meg
from core.tasks.meg.requests import (
    PrepareRequest,
    PrepareSummary,
    PretrainRequest,
    PretrainResult,
    PretrainSettings,
    ProbeFindings,
    ProbeRequest,
    SimulateRequest,
    Simulation,
)
from core.tasks.meg.simulation import simulate_meg
from core.tasks.meg.words import prepared_as_text
from core.tasks.pretrain_run import checkpoint_in, trained_checkpoint
from core.tasks.result_folder import check_results_target
from core.tasks.sites.comparing import compare_sites, summarise_comparison
from core.tasks.sites.describing import describe_sites, find_sites, list_montages
from core.tasks.sites.requests import (
    CompareFindings,
    CompareRequest,
    SimilarityRequest,
    SiteDescription,
    SiteSettings,
    SiteSimilarity,
    SiteTrainRequest,
    SiteUploads,
)
from core.tasks.sites.similarity import site_similarity, summarise_sites
from core.tasks.sites.training import read_site_settings, train_sites

__all__ = [
    "INTENDED_USE",
    "Classified",
    "ClassifySettings",
    "CompareFindings",
    "CompareRequest",
    "CorpusSummary",
    "EmotionEmbeddings",
    "EmotionRequest",
    "HeadEntry",
    "LayersAnalysis",
    "LayersRequest",
    "ModelEntry",
    "PrepareRequest",
    "PrepareSummary",
    "PretrainRequest",
    "PretrainResult",
    "PretrainSettings",
    "ProbeFindings",
    "ProbeRequest",
    "SimilarityRequest",
    "SimulateRequest",
    "Simulation",
    "SiteDescription",
    "SiteSettings",
    "SiteSimilarity",
    "SiteTrainRequest",
    "SiteUploads",
    "TrainedHead",
    "analyse_layers",
    "check_results_target",
    "checkpoint_in",
    "classify_emotion",
    "compare_sites",
    "describe_meg",
    "describe_sites",
    "describe_window",
    "embed",
    "embed_emotion",
    "embed_many",
    "emotion_as_text",
    "evaluate_emotion",
    "features_cache",
    "find_meg",
    "find_sites",
    "list_heads",
    "list_models",
    "list_montages",
    "meg_layouts",
    "predictions_as_json",
    "predictions_as_text",
    "prepare_meg",
    "prepared_as_text",
    "pretrain_meg",
    "probe_as_text",
    "probe_meg",
    "read_card",
    "read_corpus",
    "read_emotion",
    "read_mapping",
    "read_pretrain_settings",
    "read_site_settings",
    "simulate_meg",
    "site_similarity",
    "summarise_comparison",
    "summarise_emotion",
    "summarise_layers",
    "summarise_sites",
    "timeline_rows",
    "train_emotion",
    "train_sites",
    "trained_checkpoint",
    "with_data",
    "write_emotion",
    "write_layers",
]
