"""A tiny LTX-2 checkpoint: the very classes of the real one with seeded random weights, a few megabytes.

``python -m longtake_stages.tiny DIR`` writes it. It shows noise, but takes every path that the real checkpoint takes,
in a fraction of a second a clip on a CPU: text that changes the picture, conditions, audio.

Three of the classes have constraints that their configurations do not state: a residual up- or downsampler needs
channel counts that divide exactly (here upsampling is not residual); the audio VAE's statistics are
``base_channels`` long but are applied to packed latents, so ``base_channels == latent_channels * mel_bins / 4``; and
the compression ratios of mixed down-blocks must be stated, because the derived ones are wrong.
"""

import argparse
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2ConditionPipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from longtake_stages.profile import PROFILE_FILE, Profile

PROFILE: Final = Profile(
    name="tiny-ltx2",
    description="The architecture of LTX-2 in a few megabytes, untrained: moving noise with sound",
    width=64,
    height=64,
    max_pixels=512 * 512,
    steps=8,
    guidance=1.0,
    max_sequence_length=64,
    image_crf=0,
    dtype="float32",
    decode_tile=5,
    decode_overlap=2,
)

_TEXT = 48
_VIDEO, _VIDEO_HEADS = 64, 4
_AUDIO, _AUDIO_HEADS = 32, 2
_LATENT_CHANNELS = 16
_SPATIAL, _TEMPORAL = 32, 8
_SAMPLE_RATE, _HOP, _MEL_BINS = 16000, 320, 16
_AUDIO_LATENT_CHANNELS = 4
_AUDIO_PACKED = _AUDIO_LATENT_CHANNELS * _MEL_BINS // 4
_SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}


def build(folder: Path, seed: int = 0) -> None:
    """Write the checkpoint of ``seed`` to ``folder``, whole or not at all; a folder that is there is kept.

    Raises:
        FileExistsError: ``folder`` exists and is no checkpoint.
    """
    if (folder / PROFILE_FILE).is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        pipeline(seed).save_pretrained(scratch, safe_serialization=True)
        (scratch / PROFILE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(PROFILE)))
        scratch.chmod(0o755)
        _rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def pipeline(seed: int = 0) -> Any:
    """The ``LTX2ConditionPipeline`` of ``seed``, in memory. Leaves torch's own random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        pipeline_class: Any = LTX2ConditionPipeline
        return pipeline_class(
            tokenizer=tokenizer,
            text_encoder=_text_encoder(len(tokenizer)),
            connectors=_connectors(),
            transformer=_transformer(),
            scheduler=_new(FlowMatchEulerDiscreteScheduler, use_dynamic_shifting=False, shift=1.0),
            vae=_video_vae(),
            audio_vae=_audio_vae(),
            vocoder=_vocoder(),
        )


def _rename(scratch: Path, folder: Path) -> None:
    try:
        scratch.rename(folder)
    except OSError as error:
        if not (folder / PROFILE_FILE).is_file():  # another process may have built the same meanwhile
            raise FileExistsError(f"{folder} is there and is no checkpoint") from error


def _new(component: Any, **configuration: Any) -> Any:
    """An instance of a class of diffusers or transformers, which declare no types."""
    return component(**configuration)


def _tokenizer() -> Any:
    """One token a byte: every text has tokens, and nothing of anyone's vocabulary is needed."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate((*_SPECIAL.values(), *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=_SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    return _new(
        PreTrainedTokenizerFast,
        tokenizer_object=tokenizer,
        **_SPECIAL,
        padding_side="left",
        model_max_length=PROFILE.max_sequence_length,
    )


def _text_encoder(vocabulary: int) -> Any:
    text = {
        "vocab_size": vocabulary,
        "hidden_size": _TEXT,
        "intermediate_size": 2 * _TEXT,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 24,
        "query_pre_attn_scalar": 24,
        "sliding_window": 64,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 14,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=1,
        image_token_index=3,
        boi_token_index=3,
        eoi_token_index=3,
    )
    return _new(Gemma3ForConditionalGeneration, config=config).eval()


def _connectors() -> Any:
    layers = 3  # the embedding and two layers of the text encoder
    heads = 2
    connectors = _new(
        LTX2TextConnectors,
        caption_channels=_TEXT,
        text_proj_in_factor=layers,
        video_connector_num_attention_heads=heads,
        video_connector_attention_head_dim=_TEXT // heads,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=heads,
        audio_connector_attention_head_dim=_TEXT // heads,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=64,
        rope_theta=20.0,
        rope_double_precision=False,
        rope_type="split",
    )
    return connectors.eval()


def _transformer() -> Any:
    transformer = _new(
        LTX2VideoTransformer3DModel,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        num_attention_heads=_VIDEO_HEADS,
        attention_head_dim=_VIDEO // _VIDEO_HEADS,
        cross_attention_dim=_VIDEO,
        vae_scale_factors=(_TEMPORAL, _SPATIAL, _SPATIAL),
        base_height=128,
        base_width=128,
        pos_embed_max_pos=2,
        audio_in_channels=_AUDIO_PACKED,
        audio_out_channels=_AUDIO_PACKED,
        audio_num_attention_heads=_AUDIO_HEADS,
        audio_attention_head_dim=_AUDIO // _AUDIO_HEADS,
        audio_cross_attention_dim=_AUDIO,
        audio_scale_factor=4,
        audio_pos_embed_max_pos=2,
        audio_sampling_rate=_SAMPLE_RATE,
        audio_hop_length=_HOP,
        num_layers=2,
        caption_channels=_TEXT,
        rope_theta=4.0,
        rope_double_precision=False,
        rope_type="split",
    )
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "scale_shift_table" in name:  # the gates: near zero no block would have a say
                parameter.normal_(std=1.0)
            elif "attn2.to_out" in name:  # what the prompt adds
                parameter.mul_(8.0)
    return transformer.eval()


def _video_vae() -> Any:
    vae = _new(
        AutoencoderKLLTX2Video,
        latent_channels=_LATENT_CHANNELS,
        block_out_channels=(32, 32, 32),
        down_block_types=("LTX2VideoDownBlock3D",) * 3,
        decoder_block_out_channels=(32, 32, 32),
        layers_per_block=(1, 1, 0, 1),
        decoder_layers_per_block=(1, 1, 1, 0),
        spatio_temporal_scaling=(True,) * 3,
        decoder_spatio_temporal_scaling=(True,) * 3,
        decoder_inject_noise=(False,) * 4,
        downsample_type=("spatiotemporal", "spatiotemporal", "temporal"),
        upsample_type=("temporal", "spatiotemporal", "spatiotemporal"),
        upsample_residual=(False,) * 3,
        upsample_factor=(1, 1, 1),
        patch_size=8,
        encoder_causal=True,
        decoder_causal=False,
        decoder_spatial_padding_mode="zeros",
        spatial_compression_ratio=_SPATIAL,
        temporal_compression_ratio=_TEMPORAL,
    )
    _smooth(vae)
    return vae.eval()


def _smooth(vae: Any) -> None:
    """Start the sub-pixels of each pixel shuffle nearly equal, so that noise comes in soft blocks and compresses."""
    with torch.no_grad():
        for module in vae.decoder.modules():
            if type(module).__name__ == "LTX2VideoUpsampler3d":
                _tie(module.conv.conv.weight, math.prod(module.stride))
        _tie(vae.decoder.conv_out.conv.weight, 8 * 8)


def _tie(weight: torch.Tensor, group: int) -> None:
    shared = weight[::group].repeat_interleave(group, dim=0)
    weight.copy_(0.9 * shared + 0.1 * weight)


def _audio_vae() -> Any:
    audio_vae = _new(
        AutoencoderKLLTX2Audio,
        base_channels=_AUDIO_PACKED,
        output_channels=2,
        ch_mult=(1, 2, 2),
        num_res_blocks=1,
        in_channels=2,
        latent_channels=_AUDIO_LATENT_CHANNELS,
        resolution=32,
        sample_rate=_SAMPLE_RATE,
        mel_hop_length=_HOP,
        mel_bins=_MEL_BINS,
        causality_axis="height",
        mid_block_add_attention=False,
    )
    return audio_vae.eval()


def _vocoder() -> Any:
    vocoder = _new(
        LTX2Vocoder,
        in_channels=2 * _MEL_BINS,
        hidden_channels=32,
        out_channels=2,
        upsample_kernel_sizes=[2 * _HOP],
        upsample_factors=[_HOP],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1]],
        output_sampling_rate=_SAMPLE_RATE,
        act_fn="leaky_relu",
        final_act_fn="tanh",
    )
    return vocoder.eval()


def main() -> None:
    """The command ``python -m longtake_stages.tiny DIR [--seed N]``."""
    parser = argparse.ArgumentParser(prog="python -m longtake_stages.tiny", description="Build the tiny checkpoint.")
    parser.add_argument("folder", type=Path, help="where to write it; kept if it is there")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(arguments.folder, arguments.seed)


if __name__ == "__main__":
    main()
