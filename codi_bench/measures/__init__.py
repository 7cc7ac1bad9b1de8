"""Measures: arrays in, numbers out. They know no model, file or claim."""

from codi_bench.measures.ablation import Criticality, criticality, drops
from codi_bench.measures.grid import ProbeGrid, probe_grid
from codi_bench.measures.probes import GridSummary, InSampleProbes, balanced_sample, grid_summary, in_sample_probes
from codi_bench.measures.sae import ErrorPrediction, Sae, SaeQuality, predict_errors, sae_quality, train_relu_sae
from codi_bench.measures.sae_folder import load_sae
from codi_bench.measures.spread import Spread, spread

__all__ = [
    "Criticality",
    "ErrorPrediction",
    "GridSummary",
    "InSampleProbes",
    "ProbeGrid",
    "Sae",
    "SaeQuality",
    "Spread",
    "balanced_sample",
    "criticality",
    "drops",
    "grid_summary",
    "in_sample_probes",
    "load_sae",
    "predict_errors",
    "probe_grid",
    "sae_quality",
    "spread",
    "train_relu_sae",
]
