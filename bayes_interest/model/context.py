"""Short-term context: a small causal network over a user's previous events.

`c_u(t)` is added to the latent interest in the predictor, `a = x_i . (z_u(t) + c_u(t)) + b_i`. Its
weights are parameters of the model with Normal priors; given them it is a known function of the
past, so the state's posterior stays exact around it.

The network is a transformer (Kang and McAuley 2018, self-attentive sequential recommendation)
with attention to the last `context_events` events, distances in place of positions, and gaps of
time: its output depends on nothing further back than `reach(layout)` events.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, pad

from bayes_interest.model.parameters import CONTEXT_HEADS, Globals, Layout

MINUTES_PER_DAY = 1440.0


@dataclass(frozen=True)
class Tokens:
    """Events as the network reads them, (user, step) each; padding comes last."""

    item: Tensor
    outcome: Tensor  # the family's coding
    kind: Tensor
    elapsed_days: Tensor  # since the user's previous event


def reach(layout: Layout) -> int:
    """How many events back the network can see."""
    return layout.context_layers * (layout.context_events - 1) + 1


def gap_features(days: Tensor) -> Tensor:
    """Of a gap: its logarithm, and how much of an hour, a day and a month is left, (..., 4)."""
    scales = (1.0 / 24.0, 1.0, 30.0)
    parts = [torch.log1p(days * MINUTES_PER_DAY) / 10.0, *(torch.exp(-days / s) for s in scales)]
    return torch.stack(parts, -1)


def encode_events(
    layout: Layout, values: Globals, vectors: Tensor, tokens: Tokens, drop: float = 0.0
) -> Tensor:
    """Hidden state after each event, (user, step, context_dim), given item vectors (item, D).

    `drop` is the share of numbers dropped in training, by torch's generator.
    """
    scale = math.sqrt(layout.state_dim)
    hidden = (vectors[tokens.item] * scale) @ values["context_item"].T
    hidden = hidden + gap_features(tokens.elapsed_days) @ values["context_gap"].T
    if layout.emission != "choice":
        level = tokens.outcome / max(1, layout.n_levels - 1) - 0.5
        hidden = hidden + level[..., None] * (values["context_outcome"] + hidden)
    if layout.n_kinds > 1:
        hidden = hidden + values["context_kind"][tokens.kind]
    hidden = dropped(hidden, drop)
    for layer in range(layout.context_layers):
        part = {name: values[f"context_{name}_{layer}"] for name in LAYER_PARTS}
        seen = _attention(layout, part, _norm(hidden))
        hidden = hidden + dropped(seen @ part["out"].T, drop)
        inner = gelu(_norm(hidden) @ part["up"].T)
        hidden = hidden + dropped(inner @ part["down"].T, drop)
    return hidden


LAYER_PARTS = ("qkv", "distance", "out", "up", "down")


def context_after(values: Globals, hidden: Tensor, elapsed_days: Tensor) -> Tensor:
    """`c_u(t)`, (..., state_dim), this long after the event that left `hidden` (..., H)."""
    waited = gap_features(elapsed_days) @ values["context_wait"].T
    return gelu(_norm(hidden) + waited) @ values["context_head"].T


def context_of_steps(
    layout: Layout, values: Globals, vectors: Tensor, tokens: Tokens, drop: float = 0.0
) -> Tensor:
    """`c_u(t)` of every event from those strictly before it, (user, step, D); first is zero."""
    hidden = encode_events(layout, values, vectors, tokens, drop)
    later = context_after(values, hidden[:, :-1], tokens.elapsed_days[:, 1:])
    return torch.cat((torch.zeros_like(vectors[tokens.item[:, :1]]), later), 1)


def dropped(hidden: Tensor, share: float) -> Tensor:
    """Dropout with one random byte a number: torch's own took a sixth of a step."""
    level = round(256 * share)
    if level == 0:
        return hidden
    words = torch.empty(-(-hidden.numel() // 8), dtype=torch.int64, device=hidden.device)
    # from the whole range, sign and all, so that every byte is uniform
    fate = words.random_(-(2**63), None).view(torch.uint8)[: hidden.numel()]
    kept = (fate >= level).view(hidden.shape).to(hidden)
    return hidden * kept.mul_(256 / (256 - level))


def _norm(hidden: Tensor) -> Tensor:
    return layer_norm(hidden, hidden.shape[-1:])


def _attention(layout: Layout, part: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """Each step attends to itself and the `context_events - 1` steps before it.

    Steps are cut into blocks of that length; a block looks at itself and the one before, so time
    and memory grow with steps times `context_events`.
    """
    n_users, n_steps, width = hidden.shape
    block = min(layout.context_events, n_steps)
    n_blocks = -(-n_steps // block)
    joined = pad(hidden @ part["qkv"].T, (0, 0, 0, n_blocks * block - n_steps))
    shape = (n_users, n_blocks, block, 3, CONTEXT_HEADS, width // CONTEXT_HEADS)
    query, key, value = joined.reshape(shape).permute(3, 0, 1, 4, 2, 5)
    key, value = _with_previous(key), _with_previous(value)  # (user, block, head, 2 block, -)
    distance = torch.arange(block)[:, None] + block - torch.arange(2 * block)
    allowed = (distance >= 0) & (distance < layout.context_events)
    bias = part["distance"][:, distance.clamp(0, layout.context_events - 1)]
    bias = bias.masked_fill(~allowed.to(bias.device), -torch.inf)
    first = bias.clone()
    first[..., :block] = -torch.inf  # before the first block there is nothing
    bias = torch.cat((first[None], bias[None].expand(n_blocks - 1, -1, -1, -1)))
    score = query @ key.mT / math.sqrt(width // CONTEXT_HEADS) + bias
    seen = torch.softmax(score, -1) @ value
    return seen.permute(0, 1, 3, 2, 4).reshape(n_users, n_blocks * block, width)[:, :n_steps]


def _with_previous(blocks: Tensor) -> Tensor:
    """Each block after the one before it, (user, block, head, 2 steps, -)."""
    before = pad(blocks[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
    return torch.cat((before, blocks), 3)
