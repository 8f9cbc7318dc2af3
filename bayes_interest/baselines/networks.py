"""The networks of the sequence rivals, and their full softmax loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bayes_interest.baselines.timeline import Timeline
from bayes_interest.baselines.training import Projection
from bayes_interest.baselines.windows import Windows

LOGIT_CELLS = 2_000_000  # of a table (target, item)
ID_DROPOUT = 0.1  # share of items known by their text alone in a training batch


class SequenceNetwork(nn.Module):
    """States after so many events, and vectors and offsets of items.

    An item's vector is its projected text plus, for items of train, a vector of its own.

    Args:
        reader: causal network (window, step, hidden_dim) to the same shape.
        projection: of text vectors.
        offset: where the items' offsets start, (item,).
        trained: 1.0 for items with evidence in train, (item,).
        hidden_dim: width of states and item vectors.
        dropout: of inputs and outputs of the reader.
        emission: the family of outcomes.
    """

    trained: Tensor

    def __init__(
        self,
        reader: nn.Module,
        projection: Projection,
        offset: Tensor,
        trained: Tensor,
        hidden_dim: int,
        dropout: float,
        emission: str,
    ) -> None:
        super().__init__()
        self.reader, self.projection, self.emission = reader, projection, emission
        self.text = nn.Linear(projection.text_dim, hidden_dim, bias=False)
        self.own = nn.Parameter(torch.randn(len(offset), hidden_dim) * hidden_dim**-0.5)
        self.offset = nn.Parameter(offset)
        self.register_buffer("trained", trained)
        self.begin = nn.Parameter(torch.randn(hidden_dim) * hidden_dim**-0.5)
        self.outcome = nn.Linear(1, hidden_dim)
        self.level = nn.Linear(hidden_dim, 1)
        self.dropout = nn.Dropout(dropout)

    def items(self, timeline: Timeline) -> Tensor:
        """Vectors of all items of a timeline, new ones last, (item, hidden_dim)."""
        features = torch.as_tensor(self.projection.apply(timeline), device=self.own.device)
        keep = self.trained
        if self.training:
            keep = keep * (torch.rand_like(keep) >= ID_DROPOUT)
        own = self.own * keep[:, None]
        new = len(features) - len(own)
        vectors: Tensor = self.text(features) + functional.pad(own, (0, 0, 0, new))
        return vectors

    def offsets(self, n_items: int) -> Tensor:
        """(item,); new items get the smallest one."""
        least = self.offset.detach().min()
        return torch.cat((self.offset, least.expand(n_items - len(self.offset))))

    def states(self, items: Tensor, windows: Windows) -> Tensor:
        """What the targets are predicted from, (target, hidden_dim)."""
        steps = items[windows.item.to(items.device)]
        if self.emission != "choice":
            steps = steps + self.outcome(windows.outcome.to(items.device)[..., None])
        begin = self.begin.expand(len(steps), 1, -1)
        states = self.reader(self.dropout(torch.cat((begin, steps), 1)))
        at = windows.window.to(items.device), windows.read.to(items.device)
        found: Tensor = self.dropout(states[at])
        return found

    def loss(self, timeline: Timeline, windows: Windows) -> Tensor:
        """Mean log loss of the windows' targets."""
        items = self.items(timeline)
        states = self.states(items, windows)
        offsets, target = self.offsets(len(items)), windows.target.to(items.device)
        if self.emission == "choice":
            loss: Tensor = SoftmaxLoss.apply(states, items, offsets, target)
            return loss
        odds = (states * items[target]).sum(1) + offsets[target] + self.level(states)[:, 0]
        positive = windows.positive.to(items.device)
        return functional.binary_cross_entropy_with_logits(odds, positive)


class Recurrent(nn.Module):
    """GRU or LSTM: the output after each step, (window, step, hidden_dim)."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], hidden_dim: int) -> None:
        super().__init__()
        self.cells = kind(hidden_dim, hidden_dim, batch_first=True)

    def forward(self, steps: Tensor) -> Tensor:
        """Outputs."""
        found: Tensor = self.cells(steps)[0]
        return found


class Attention(nn.Module):
    """A causal transformer with learned positions, (window, step, hidden_dim)."""

    def __init__(
        self, hidden_dim: int, n_heads: int, n_layers: int, dropout: float, max_len: int
    ) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(max_len + 1, hidden_dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            hidden_dim,
            n_heads,
            2 * hidden_dim,
            dropout,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(hidden_dim)
        self.layers = nn.TransformerEncoder(layer, n_layers, norm, enable_nested_tensor=False)

    def forward(self, steps: Tensor) -> Tensor:
        """Outputs; a step sees itself and what came before."""
        n_steps = steps.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n_steps, device=steps.device)
        found: Tensor = self.layers(steps + self.position[:n_steps], mask=mask, is_causal=True)
        return found


class SoftmaxLoss(torch.autograd.Function):
    """Mean of `logsumexp(h . x + b) - (h . x_target + b_target)` over all items, in chunks.

    Gradients are computed on the way, so that no table (target, item) is kept.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, offsets: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar."""
        total = states.new_zeros(())
        grads = torch.empty_like(states), torch.zeros_like(items), torch.zeros_like(offsets)
        size = max(1, LOGIT_CELLS // len(items))
        for at in range(0, len(states), size):
            part = slice(at, at + size)
            logits = torch.addmm(offsets, states[part], items.T)
            top = logits.amax(1, keepdim=True)
            row = torch.arange(len(logits), device=logits.device)
            own = logits[row, target[part]]
            probs = logits.sub_(top).exp_()
            mass = probs.sum(1, keepdim=True)
            total += (mass.log() + top)[:, 0].sub(own).sum()
            probs.div_(mass)
            probs[row, target[part]] -= 1.0
            grads[0][part] = probs @ items
            grads[1].addmm_(probs.T, states[part])
            grads[2].add_(probs.sum(0))
        ctx.save_for_backward(*grads)
        ctx.count = len(states)
        return total / len(states)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Scale what `forward` found."""
        scale = grad_outputs[0] / ctx.count
        states, items, offsets = ctx.saved_tensors
        return states * scale, items * scale, offsets * scale, None
