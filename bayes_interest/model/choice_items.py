"""choice: how sure items and text weights are, with users' states integrated out.

Given the states, each choice tells much of the items; but what one user's taste explains is no
item's effect. So here both are uncertain together: Gauss and Newton's curvature of all choices in
states and items, less what the states can explain, and then less what the text weights can.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_interest.events.history import padded_batches
from bayes_interest.model.choice_bound import flat_choices
from bayes_interest.model.parameters import Globals, Items, Layout, item_terms
from bayes_interest.model.problem import Problem, event_positions
from bayes_interest.model.softmax import Choices, choice_table
from bayes_interest.statespace.random_walk import Transition

MAX_NUMBERS = 1_500
"""Of effects of all items, of text weights, and of states of one user."""
MAX_WORK, USER_WORK = 20_000_000_000, 10_000_000
"""Multiplications, some seconds of them; what a user costs in any case."""
BLOCK_EVENTS, NEWTON_STEPS, TOLERANCE, LEAST_STEP = 2_048, 20, 1e-4, 0.02


def can_integrate(problem: Problem) -> bool:
    """Whether it is a choice without context whose log and model are small enough."""
    layout, lengths = problem.layout, problem.history.lengths.astype(float)
    if layout.emission != "choice" or not layout.residuals or layout.context_layers:
        return False
    size = (layout.state_dim + 1) * max(layout.n_items, layout.embed_dim)
    states = layout.state_dim * lengths
    work = (lengths * size**2 + NEWTON_STEPS * states**3 + USER_WORK).sum()
    return bool(max(size, states.max()) <= MAX_NUMBERS and work <= MAX_WORK)


def integrated_covs(problem: Problem, values: Globals) -> tuple[Tensor, Tensor]:
    """Variances of residual and offset given the text weights, (item, D + 1), and `text_cov`."""
    layout = problem.layout
    values = {name: value.double() for name, value in values.items()}
    features = problem.features.double()
    items = item_terms(layout, values, features)
    size = layout.n_items * (layout.state_dim + 1)
    info = features.new_zeros(size, size)
    for block in padded_batches(problem.history, BLOCK_EVENTS, features.device):
        batch = problem.batch(block).to(torch.float64)
        choices = flat_choices(values, batch, event_positions(block, batch.mask), problem.rows)
        walk, at = batch.walk(layout, values), 0
        for user, length in enumerate(batch.mask.sum(1).tolist()):
            own = choices.part(slice(at, at + length))
            cov = prior_cov(walk, user, length)
            info += user_information(values, items, own, cov)
            at += length
    item_cov, text_cov = _covs(layout, values, features, info)
    return item_cov.to(problem.features), text_cov.to(problem.features)


def prior_cov(walk: Transition, user: int, length: int) -> Tensor:
    """Of one user's states, (step * state_dim, step * state_dim)."""
    decay, variance = walk.decay[user, :length], walk.variance[user, :length]
    row = torch.zeros_like(variance)  # of one step with the steps so far, (step, state_dim)
    rows = []
    for t in range(length):
        row = row * decay[t]
        row[t] = row[t - 1] * decay[t] + variance[t] if t else 1.0
        rows.append(row.clone())
    lower = torch.stack(rows)
    dim, each = variance.shape[1], torch.arange(variance.shape[1])
    out = variance.new_zeros(length, dim, length, dim)
    out[:, each, :, each] = _full(lower)
    return out.reshape(length * dim, length * dim)


def _full(lower: Tensor) -> Tensor:
    """Symmetric matrices (state_dim, step, step) from their rows (step, step, state_dim)."""
    each = lower.movedim(2, 0).tril()
    return each + each.tril(-1).mT


def user_information(values: Globals, items: Items, choices: Choices, cov: Tensor) -> Tensor:
    """Precision of all items' (vector, offset) from one user's choices, states integrated out."""
    vectors, rho, n_steps = items.vectors, choices.rho[:, None], len(choices.item)
    state, probs, smoothed = likely_states(values, items, choices, cov)
    total = torch.cat((state + values["mean"], torch.ones_like(state[:, :1])), 1) * rho
    taken = (probs[:, :, None] * total[:, None, :]).reshape(n_steps, -1)
    info = torch.block_diag(*torch.einsum("ti,tk,tl->ikl", probs, total, total)) - taken.T @ taken
    apart = vectors.T - (probs @ vectors)[:, :, None]
    pull = rho[..., None] * probs[:, None, :] * apart  # (step, state_dim, item)
    cross = (pull[..., None] * total[:, None, None, :]).reshape(len(cov), -1)
    found: Tensor = info - cross.T @ smoothed @ cross
    return found


def likely_states(
    values: Globals, items: Items, choices: Choices, cov: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One user's most likely states (step, state_dim), the table there, and their covariance.

    Newton's method; a step that leads down is halved.
    """
    vectors, rho = items.vectors, choices.rho[:, None]
    eye = torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
    state = dual = vectors.new_zeros(len(choices.item), vectors.shape[1])  # state = cov dual
    probs, best = choice_table(values, items, choices, state), -torch.inf
    for _ in range(NEWTON_STEPS):
        expected = probs @ vectors
        second = torch.einsum("ti,ik,il->tkl", probs, vectors, vectors)
        inner = rho[..., None] ** 2 * (second - expected[:, :, None] * expected[:, None, :])
        precision = torch.block_diag(*inner)
        smoothed = torch.linalg.solve(eye + cov @ precision, cov)
        slope = rho * (vectors[choices.item] - expected)
        linear = precision @ state.reshape(-1) + slope.reshape(-1)
        step = (smoothed @ linear).reshape(state.shape) - state
        turn = (linear - precision @ (state + step).reshape(-1)).reshape(state.shape) - dual
        size = 2.0
        while size > LEAST_STEP:
            size *= 0.5
            there, back = state + size * step, dual + size * turn
            probs = choice_table(values, items, choices, there)
            fit = probs.gather(1, choices.item[:, None].long()).log().sum()
            value = float(fit - 0.5 * (there * back).sum())
            if value >= best:
                break
        state, dual, best = there, back, value
        if float((size * step).abs().max()) < TOLERANCE:
            break
    return state, probs, smoothed


def _covs(layout: Layout, values: Globals, features: Tensor, info: Tensor) -> tuple[Tensor, Tensor]:
    """From the precision of all items' (vector, offset)."""
    dim, embed = layout.state_dim, layout.embed_dim
    scale = features.new_empty(layout.n_items, dim + 1)
    scale[:, :-1] = values["log_residual_scale"].exp()
    scale[:, -1] = values["log_offset_scale"].exp()
    flat = scale.reshape(-1)
    eye = torch.eye(len(flat), dtype=info.dtype, device=info.device)
    # inverse of prior + info, and what the effects leave of info: info (1 + prior^-1 info)^-1
    cov = flat[:, None] * torch.linalg.inv(eye + flat[:, None] * info * flat) * flat
    rest = info - info @ cov @ info
    scaled = features / math.sqrt(embed)
    factor = torch.full((dim + 1,), 1.0 / math.sqrt(dim), dtype=info.dtype)
    factor[-1] = 1.0
    rest = rest.reshape(layout.n_items, dim + 1, layout.n_items, dim + 1)
    gram = torch.einsum("ie,ikjl,jf,k,l->kelf", scaled, rest, scaled, factor, factor)
    size = (dim + 1) * embed
    whole = torch.linalg.inv(
        gram.reshape(size, size) + torch.eye(size, dtype=info.dtype, device=info.device)
    ).reshape(dim + 1, embed, dim + 1, embed)
    blocks = torch.stack([whole[k, :, k] for k in range(dim + 1)])
    return cov.diagonal().reshape(scale.shape), torch.stack((blocks[:-1].mean(0), blocks[-1]))
