"""Train the packaged model: ``python -m tools.pocket.train --out FOLDER``.

The run is counted in steps, never in minutes, and every draw has a seed: the same arguments on the same machine give
the same batches in the same order. Weights may still differ in the last bits between machines and thread counts.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from swift_client.pocket.questions import FAMILIES, worked_examples
from tools.pocket import checkpoint, evaluate
from tools.pocket.data import Batch, batches, curriculum, encoded, learn_tokenizer
from tools.pocket.export import write_gguf
from tools.pocket.model import PocketModel, Shape
from tools.pocket.stages import STAGES, Stage


def loss_of(model: PocketModel, batch: Batch, device: torch.device) -> Tensor:
    """Mean cross-entropy (nats a token) over the solution's tokens; matrices in bfloat16, the loss in float32."""
    ids, targets = batch.ids.to(device), batch.targets.to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        hidden = model.hidden(ids)[targets >= 0]
        logits = F.linear(hidden, model.embedding.weight)
    return F.cross_entropy(logits.float(), targets[targets >= 0])


def build_optimizers(model: PocketModel, peak: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the blocks, AdamW for the embedding and the norms.

    With Muon (Jordan et al. 2024) the loss of AdamW's step 400 was reached at step 250. Its update is scaled to AdamW's
    size, so that both share one learning rate.
    """
    inner = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embedding" not in name]
    outer = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embedding" in name]
    muon = torch.optim.Muon(inner, lr=peak, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(outer, lr=peak, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


def learning_rate(step: int, stage: Stage) -> float:
    """Linear warm-up, then a cosine from ``stage.peak`` to a fiftieth of it."""
    if step < stage.warmup:
        return stage.peak * (step + 1) / stage.warmup
    part = (step - stage.warmup) / max(1, stage.horizon - stage.warmup)
    return stage.peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))


@torch.no_grad()
def validation_loss(model: PocketModel, tokenizer: Tokenizer, family: str, device: torch.device) -> float:
    """Mean loss over 96 validation questions of ``family``."""
    rows = encoded(tokenizer, worked_examples(96, seed=1, split="validation", families=[family]))
    losses = [
        (loss_of(model, batch, device), int((batch.targets >= 0).sum())) for batch in batches(rows, 8_192, seed=0)
    ]
    return sum(loss.item() * count for loss, count in losses) / sum(count for _, count in losses)


class Training:
    """One run over the stages; keeps the log and writes it after every report."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        torch.manual_seed(0)
        options.out.mkdir(parents=True, exist_ok=True)
        if options.start:
            self.model, self.tokenizer = checkpoint.load(options.start)
            self.model.train()
        else:
            self.model, self.tokenizer = PocketModel(Shape()), learn_tokenizer(0, Shape().vocabulary)
        self.model.to(self.device)
        self.began, self.done, self.seen = time.perf_counter(), 0, 0
        self.log: dict[str, Any] = {
            "stages": [vars(stage) | {"levels": dict(stage.levels)} for stage in STAGES],
            "tokens_a_batch": options.tokens,
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "shape": self.model.shape.to_dict(),
            "machine": options.machine or f"{os.cpu_count()} CPU cores",
            "torch": torch.__version__,
            "points": [],
        }

    def run(self, stage: Stage) -> None:
        """Run one stage to its last step."""
        optimizers = build_optimizers(self.model, stage.peak)
        rows = encoded(self.tokenizer, curriculum(stage), stage.read_families)
        stream = batches(rows, self.options.tokens, seed=stage.seed)
        running = math.nan
        for step in range(stage.steps):
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = learning_rate(step, stage)
            batch = next(stream)
            loss = loss_of(self.model, batch, self.device)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.seen += batch.ids.numel()
            self.done += 1
            value = loss.item()
            running = value if math.isnan(running) else 0.98 * running + 0.02 * value
            last = step + 1 == stage.steps
            if last or self.done % self.options.report == 0:
                self.report(running, keep=last or self.done % self.options.check == 0)

    def report(self, loss: float, *, keep: bool) -> None:
        """Add a point to the log; with ``keep``, write a checkpoint and measure accuracies as well."""
        minutes = round((time.perf_counter() - self.began) / 60, 2)
        point: dict[str, Any] = {"step": self.done, "tokens": self.seen, "minutes": minutes, "loss": round(loss, 4)}
        point["validation"] = {
            family: round(validation_loss(self.model, self.tokenizer, family, self.device), 4) for family in FAMILIES
        }
        if keep:
            folder = self.options.out / f"step-{self.done:06d}"
            checkpoint.save(folder, self.model, self.tokenizer, self.done)
            write_gguf(*checkpoint.load(folder), folder / "model.gguf")
            # In a process of its own: llama.cpp's threads and torch's must not meet in a long run.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                future = process.submit(evaluate.by_level, folder / "model.gguf", self.options.each, n=4)
                point["accuracy"] = future.result()
        self.log["points"].append(point)
        (self.options.out / "log.json").write_text(json.dumps(self.log, indent=1) + "\n")
        print(json.dumps(point), flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and log.json")
    parser.add_argument("--start", type=Path, help="checkpoint that replaces the stages before --stage")
    parser.add_argument("--stage", type=int, default=1, help="first stage to run")
    parser.add_argument("--tokens", type=int, default=4_096, help="padded tokens in a batch")
    parser.add_argument("--report", type=int, default=50, help="steps between losses in the log")
    parser.add_argument("--check", type=int, default=400, help="steps between checkpoints with accuracies")
    parser.add_argument("--each", type=int, default=8, help="questions a level for an accuracy")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--machine", default="", help="description of the machine for the log")
    options = parser.parse_args()
    training = Training(options)
    for stage in STAGES[options.stage - 1 :]:
        training.run(stage)


if __name__ == "__main__":
    main()
