"""The head in torch: the equations of ``models/gated_linear.py`` with gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from swift_client.models import GatedLinearHead, ResponseWeights, Standardizer
from swift_client.models.gated_linear import GATE_SUM_EPS


class Batch(NamedTuple):
    """N completions with S tokens in all."""

    blocks: Sequence[Tensor]  # (S_i, d) token features as they are stored, S rows in all
    lengths: Tensor  # (N,) tokens of each completion, at least one
    terms: Tensor  # (N, m) response terms


class _Linear(torch.autograd.Function):
    """X w + b, (S, 2), over blocks of rows that need no gradient.

    Each block is cast to the weights' dtype when it is needed, forward and backward, and dropped: it is then read from
    the processor's cache. Casting a whole batch would write it to fresh memory and keep it until the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *blocks: Tensor) -> Tensor:
        ctx.blocks = blocks
        return torch.cat([torch.addmm(bias, block.to(weight.dtype), weight.T) for block in blocks])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        weight = grad.new_zeros(grad.shape[1], ctx.blocks[0].shape[1])
        for part, block in zip(torch.split(grad, [len(block) for block in ctx.blocks]), ctx.blocks, strict=True):
            weight.addmm_(part.T, block.to(grad.dtype))
        return weight, grad.sum(dim=0), *(None for _ in ctx.blocks)


class Network(nn.Module):
    """One Linear(d, 2), gate before reward as in the reference code, and one weight per response term.

    Standardizing is folded into the weights, (x - mean) / scale · w = x · w/scale - mean · w/scale, so the features
    are never copied.
    """

    tokens_mean: Tensor
    tokens_scale: Tensor
    terms_mean: Tensor
    terms_scale: Tensor

    def __init__(
        self, token_standardizer: Standardizer, term_standardizer: Standardizer, *, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.token_linear = nn.Linear(len(token_standardizer.mean), 2, dtype=dtype)
        self.response_weights = nn.Parameter(torch.zeros(len(term_standardizer.mean), dtype=dtype))
        for name, standardizer in (("tokens", token_standardizer), ("terms", term_standardizer)):
            self.register_buffer(f"{name}_mean", torch.as_tensor(standardizer.mean, dtype=dtype))
            self.register_buffer(f"{name}_scale", torch.as_tensor(standardizer.scale, dtype=dtype))
        self.token_standardizer, self._term_standardizer, self._use_gate = token_standardizer, term_standardizer, True

    def zero_weights(self) -> None:
        """Set all gates half open and all rewards to 0, so the score starts as a plain mean."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def disable_gate(self) -> None:
        """Hold all gates half open, now and in training: the score is the plain mean of the rewards."""
        self._use_gate = False
        with torch.no_grad():
            self.token_linear.weight[0], self.token_linear.bias[0] = 0.0, 0.0

    def rescale(self, factor: float, offset: float) -> None:
        """Change all scores to factor · score + offset; the gates stay as they are."""
        with torch.no_grad():
            self.token_linear.weight[1].mul_(factor)
            self.token_linear.bias[1].mul_(factor).add_(offset)
            self.response_weights.mul_(factor)

    def forward(self, batch: Batch) -> Tensor:
        """Return R = Σ g·r / max(Σ g, 1e-8) + response terms, (N,)."""
        dtype = self.token_linear.weight.dtype
        weight = self.token_linear.weight / self.tokens_scale
        bias = self.token_linear.bias - weight @ self.tokens_mean
        fused: Tensor = _Linear.apply(weight, bias, *batch.blocks)  # type: ignore[no-untyped-call]  # torch's
        gates = torch.sigmoid(fused[:, 0] if self._use_gate else torch.zeros_like(fused[:, 0]))
        sums = torch.segment_reduce(
            torch.stack([gates * fused[:, 1], gates], dim=1), "sum", lengths=batch.lengths, axis=0, unsafe=True
        )
        terms = (batch.terms.to(dtype) - self.terms_mean) / self.terms_scale
        return sums[:, 0] / sums[:, 1].clamp(min=GATE_SUM_EPS) + terms @ self.response_weights

    def export(self) -> tuple[GatedLinearHead, ResponseWeights]:
        """Return the weights as numpy arrays, as heads hold them."""
        weight, bias, response = (
            parameter.detach().cpu().double().numpy()
            for parameter in (self.token_linear.weight, self.token_linear.bias, self.response_weights)
        )
        head = GatedLinearHead(gate_weight=weight[0], gate_bias=bias[0], reward_weight=weight[1], reward_bias=bias[1])
        return head, ResponseWeights(
            mean=self._term_standardizer.mean, scale=self._term_standardizer.scale, weight=response
        )


@contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread: sums have one order on every machine, and busy cores do not wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
