"""The trained parts as one diffusers folder, with the profile it is served with."""

import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from diffusers import LTX2ConditionPipeline
from safetensors.torch import load_file

from longtake_stages.profile import PROFILE_FILE, Profile
from training import captions, components
from training.world import PALETTE, SIZE

PROFILE: Final = Profile(
    name="tiny-ltx2",
    description="A tiny LTX-2 of a small world: a coloured circle, square or triangle that moves, grows or bounces",
    width=SIZE,
    height=SIZE,
    max_pixels=128 * 128,
    steps=8,
    guidance=1.0,
    frames_recommended=49,
    max_sequence_length=components.SEQUENCE_LENGTH,
    image_crf=0,
    image_palette=tuple(PALETTE.values()),
    dtype="float32",
)


def assemble(trained: Path, target: Path) -> None:
    """Write the checkpoint of the finished parts in ``trained`` to ``target``, in place of what is there."""
    scratch = target.with_name(f".{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    pipeline(trained).to(dtype=torch.bfloat16).save_pretrained(scratch, safe_serialization=True)
    (scratch / PROFILE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(PROFILE)) + b"\n")
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)


def pipeline(trained: Path) -> Any:
    """The pipeline of the finished parts, float32."""
    text = load_file(trained / "text.safetensors")
    tokenizer = captions.tokenizer()
    text_encoder = components.text_encoder(len(tokenizer))
    _load(text_encoder.model.language_model, _part(text, "language_model."))
    text_encoder.tie_weights()
    vae = components.video_vae()
    _load(vae, load_file(trained / "polished.safetensors"))
    pipeline_class: Any = LTX2ConditionPipeline
    return pipeline_class(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        connectors=_load(components.connectors(), _part(text, "connectors.")),
        transformer=_load(components.transformer(), load_file(trained / "refined.safetensors")),
        scheduler=components.scheduler(),
        vae=vae.eval(),
        audio_vae=_load(components.audio_vae(), load_file(trained / "audio.safetensors")),
        vocoder=components.vocoder().eval(),
    )


def _load(module: Any, weights: dict[str, torch.Tensor]) -> Any:
    module.load_state_dict(weights)
    return module.eval()


def _part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
