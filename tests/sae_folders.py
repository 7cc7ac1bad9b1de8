"""SAE folders as SAELens 6 writes them."""

from __future__ import annotations

import json

from safetensors.torch import save_file

from codi_bench.measures.sae_folder import CONFIG, WEIGHTS


def write_sae(sae, folder, **settings):
    """What `SAE.save_model` leaves of an SAE; settings: what its configuration says otherwise."""
    features, d = sae.encoder_weight.shape
    config = {"d_in": d, "d_sae": features, "dtype": "float32", "normalize_activations": "none"}
    if sae.k is None:
        config |= {"architecture": "standard", "apply_b_dec_to_input": False}
    else:
        config |= {"architecture": "topk", "apply_b_dec_to_input": True, "k": sae.k, "rescale_acts_by_decoder_norm": False}
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config | settings))
    weights = {"W_enc": sae.encoder_weight.T, "b_enc": sae.encoder_bias, "W_dec": sae.decoder_weight.T, "b_dec": sae.decoder_bias}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / WEIGHTS)
    return folder
