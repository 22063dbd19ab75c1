"""One function for each thing a user can do; the command line, the app and README's examples all call these."""

from core.checkpoints.find import ModelEntry, list_models
from core.embed.corpus import CorpusSummary
from core.tasks.embedding import embed, embed_many
from core.tasks.layer_files import summarise_layers, write_layers
from core.tasks.layer_rows import LayersRequest
from core.tasks.layerwise import LayersAnalysis, analyse_layers
from core.tasks.result_folder import check_results_target

__all__ = [
    "CorpusSummary",
    "LayersAnalysis",
    "LayersRequest",
    "ModelEntry",
    "analyse_layers",
    "check_results_target",
    "embed",
    "embed_many",
    "list_models",
    "summarise_layers",
    "write_layers",
]
