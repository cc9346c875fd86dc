"""``python -m training``: train every part, put the checkpoint together and score it. Goes on where it was stopped."""

import argparse
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import torch

from training import captions, card, evaluation
from training.assembly import assemble
from training.audio import train_audio
from training.decoder import train_decoder
from training.denoiser import Embed, refine_denoiser, train_denoiser
from training.encoder import train_encoder
from training.polish import polish_decoder
from training.tails import Pool
from training.text import embed, train_text

_STEPS: Final = {
    "decoder": 2200,
    "encoder": 2400,
    "text": 900,
    "audio": 600,
    "denoiser": 2600,
    "polished": 500,
    "refined": 1000,
}
_LANES: Final = ("pictures", "words")


def pictures(folder: Path, steps: dict[str, int]) -> Any:
    """The video VAE."""
    vae = train_decoder(folder, steps["decoder"])
    train_encoder(folder, steps["encoder"], vae)
    polish_decoder(folder, steps["polished"], vae)
    return vae


def words(folder: Path, steps: dict[str, int]) -> tuple[Any, Any, Any]:
    """Text encoder, connectors, and the denoiser before it is refined."""
    train_audio(folder, steps["audio"])
    text_encoder, connectors = train_text(folder, steps["text"])
    return text_encoder, connectors, train_denoiser(folder, steps["denoiser"], _embedding(text_encoder, connectors))


def _embedding(text_encoder: Any, connectors: Any) -> Embed:
    return functools.partial(embed, text_encoder, connectors, captions.tokenizer())


def train(folder: Path) -> None:
    """Two lanes of one thread each, which use two cores better than two threads do, then what needs both."""
    command = [sys.executable, "-m", "training", str(folder), "--lane"]
    lanes = [subprocess.Popen([*command, lane]) for lane in _LANES]
    codes = [lane.wait() for lane in lanes]
    if any(codes):
        sys.exit(1)
    vae = pictures(folder, _STEPS)
    text_encoder, connectors, denoiser = words(folder, _STEPS)
    pool = Pool(vae, folder)
    refine_denoiser(folder, _STEPS["refined"], _embedding(text_encoder, connectors), denoiser, pool.draw)


def main() -> None:
    """Train, assemble, score, describe."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/training"), help="weights and progress")
    parser.add_argument("--target", type=Path, default=Path("checkpoints/tiny-ltx2"), help="the checkpoint to write")
    parser.add_argument("--lane", choices=_LANES, help="train only this half")
    arguments = parser.parse_args()
    if arguments.lane:
        torch.set_num_threads(1)
        {"pictures": pictures, "words": words}[arguments.lane](arguments.folder, _STEPS)
        return
    train(arguments.folder)
    assemble(arguments.folder, arguments.target)
    scores = arguments.folder / "scores.json"
    evaluation.main([str(arguments.target), "--json", str(scores), "--sheets", str(arguments.folder / "sheets")])
    card.main([str(arguments.target), str(scores), str(arguments.folder), _commit()])


def _commit() -> str:
    """The commit that is checked out; ``+`` where files of the training differ from it."""
    git = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    changed = git(["git", "status", "--porcelain", "--", "training"]).stdout
    return git(["git", "rev-parse", "HEAD"]).stdout.strip() + ("+" if changed else "")


if __name__ == "__main__":
    main()
