"""Makes the forms that the peers read from a Switch Transformers checkpoint without sparse layers, which is T5's.

    python dense_t5_forms.py CHECKPOINT_FOLDER TARGET_FOLDER

TARGET_FOLDER/t5 is a checkpoint of `transformers`' T5 (candle reads it too), TARGET_FOLDER/ctranslate2 and
TARGET_FOLDER/ctranslate2_encoder are CTranslate2 models in float32, which are quantised as they are loaded. The encoder is
there a second time since a CTranslate2 translator does not give its states. See export_t5_encoder.py for ONNX.
"""

import json
import logging  # noqa: F401 - before ctranslate2, which has a module of that name
import sys
from pathlib import Path

import torch
from ctranslate2.converters.transformers import T5Loader
from ctranslate2.specs import common_spec, transformer_spec
from safetensors.torch import load_file
from transformers import T5Config, T5ForConditionalGeneration

KEPT = ["vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers"]
KEPT += ["relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon"]
KEPT += ["pad_token_id", "eos_token_id", "decoder_start_token_id", "tie_word_embeddings"]


def t5_model(folder):
    config = json.loads((folder / "config.json").read_text())
    t5 = T5Config(**{name: config[name] for name in KEPT if name in config}, feed_forward_proj="relu")
    model = T5ForConditionalGeneration(t5).eval()
    # Both call it a sub-layer; T5 names what is in it by its activation.
    weights = {
        name.replace(".mlp.", ".DenseReluDense."): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    assert set(missing) <= tied and set(unexpected) <= tied, (missing, unexpected)
    return model


class Loader(T5Loader):
    """T5's loader, for a model that has no tokenizer: a token's text is its id."""

    def vocabulary(self, model):
        return [str(token) for token in range(model.config.vocab_size)]

    def encoder_spec(self, model):
        encoder = transformer_spec.TransformerEncoderSpec(
            model.config.num_layers,
            model.config.num_heads,
            pre_norm=True,
            activation=common_spec.Activation.RELU,
            relative_attention_bias=True,
            rms_norm=True,
        )
        spec = transformer_spec.TransformerEncoderModelSpec(encoder)
        self.set_stack(spec.encoder, model.encoder)
        spec.register_vocabulary(self.vocabulary(model))
        return spec

    def translator_spec(self, model):
        spec = self.get_model_spec(model)
        spec.register_source_vocabulary(self.vocabulary(model))
        spec.register_target_vocabulary(self.vocabulary(model))
        return spec

    def save(self, spec, config, folder):
        spec.config.bos_token = str(config.pad_token_id)
        spec.config.eos_token = str(config.eos_token_id)
        spec.config.unk_token = "2"
        spec.config.layer_norm_epsilon = config.layer_norm_epsilon
        if isinstance(spec, transformer_spec.TransformerSpec):
            spec.config.decoder_start_token = str(config.decoder_start_token_id)
        spec.validate()
        spec.optimize()
        folder.mkdir(parents=True, exist_ok=True)
        spec.save(str(folder))


with torch.inference_mode():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    model = t5_model(source)
    model.save_pretrained(target / "t5")
    loader = Loader()
    loader.save(loader.translator_spec(model), model.config, target / "ctranslate2")
    loader.save(loader.encoder_spec(model), model.config, target / "ctranslate2_encoder")
