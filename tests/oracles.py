"""Slow, obvious versions of the fast mathematics: dense Gaussians and textbook recursions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from bayes_interest.events.history import History
from bayes_interest.events.own_past import FADES_DAYS, KEEP, MEMORY
from bayes_interest.events.popularity import WINDOW_HALF_LIVES
from bayes_interest.events.succession import CAUTION, MAX_PAIRS, REACH, SCALE
from bayes_interest.events.surroundings import Kinds
from bayes_interest.model.parameters import CONTEXT_HEADS, Globals, Layout


@dataclass(frozen=True)
class DensePosterior:
    mean: Tensor  # (step, state_dim)
    cov: Tensor  # (step, state_dim, step, state_dim)
    log_evidence: Tensor  # scalar


def walk_covariance(decay: Tensor, variance: Tensor) -> Tensor:
    """Prior covariance of one user's path, (step, state_dim, step, state_dim), by propagation."""
    n_steps, dim = variance.shape
    cov = torch.zeros(n_steps, dim, n_steps, dim, dtype=variance.dtype)
    now = torch.ones(dim, dtype=variance.dtype)
    for t in range(n_steps):
        now = now * decay[t] ** 2 + variance[t]
        cross = now.clone()
        for s in range(t, n_steps):
            cross = cross if s == t else cross * decay[s]
            cov[t, range(dim), s, range(dim)] = cross
            cov[s, range(dim), t, range(dim)] = cross
    return cov


def dense_gaussian_posterior(
    x: Tensor, target: Tensor, noise_var: Tensor, decay: Tensor, variance: Tensor
) -> DensePosterior:
    """One user: Gaussian-process regression on y_t = x_t . z_t + N(0, noise_var_t)."""
    n_steps, dim = x.shape
    prior = walk_covariance(decay, variance).reshape(n_steps * dim, n_steps * dim)
    design = torch.zeros(n_steps, n_steps * dim, dtype=x.dtype)
    for t in range(n_steps):
        design[t, t * dim : (t + 1) * dim] = x[t]
    marginal = design @ prior @ design.T + torch.diag(noise_var)
    gain = torch.linalg.solve(marginal, design @ prior).T
    zeros = torch.zeros(n_steps, dtype=x.dtype)
    evidence = torch.distributions.MultivariateNormal(zeros, marginal).log_prob(target)
    return DensePosterior(
        (gain @ target).reshape(n_steps, dim),
        (prior - gain @ design @ prior).reshape(n_steps, dim, n_steps, dim),
        evidence,
    )


def dense_precision_posterior(
    x: Tensor, linear: Tensor, precision: Tensor, decay: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """One user: mean and covariance as the inverse of the dense block-tridiagonal precision."""
    n_steps, dim = x.shape
    total = torch.zeros(n_steps, dim, n_steps, dim, dtype=x.dtype)
    eye = torch.eye(dim, dtype=x.dtype)
    total[0, :, 0, :] += torch.diag(1.0 / (decay[0] ** 2 + variance[0]).expand(dim))
    for t in range(1, n_steps):
        inverse = torch.diag(1.0 / variance[t])
        total[t, :, t, :] += inverse
        total[t - 1, :, t - 1, :] += decay[t] ** 2 * inverse
        total[t - 1, :, t, :] -= decay[t] * inverse
        total[t, :, t - 1, :] -= decay[t] * inverse
    shift = torch.zeros(n_steps, dim, dtype=x.dtype)
    for t in range(n_steps):
        total[t, :, t, :] += precision[t] * torch.outer(x[t], x[t]) + 0.0 * eye
        shift[t] = linear[t] * x[t]
    flat = total.reshape(n_steps * dim, n_steps * dim)
    cov = torch.linalg.inv(flat)
    return (cov @ shift.reshape(-1)).reshape(n_steps, dim), cov.reshape(n_steps, dim, n_steps, dim)


def textbook_smoother(
    x: Tensor, target: Tensor, noise_var: Tensor, decay: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One user: Kalman filter and Rauch-Tung-Striebel smoother with explicit inverses.

    Returns filtered means and covariances, smoothed means and covariances.
    """
    n_steps, dim = x.shape
    mean, cov = torch.zeros(dim, dtype=x.dtype), torch.eye(dim, dtype=x.dtype)
    filtered, predicted = [], []
    for t in range(n_steps):
        mean, cov = decay[t] * mean, decay[t] ** 2 * cov + torch.diag(variance[t])
        predicted.append((mean, cov))
        spread = x[t] @ cov @ x[t] + noise_var[t]
        gain = cov @ x[t] / spread
        mean = mean + gain * (target[t] - x[t] @ mean)
        cov = cov - torch.outer(gain, gain) * spread
        filtered.append((mean, cov))
    smooth = [filtered[-1]]
    for t in reversed(range(n_steps - 1)):
        back = filtered[t][1] * decay[t + 1] @ torch.linalg.inv(predicted[t + 1][1])
        mean = filtered[t][0] + back @ (smooth[0][0] - predicted[t + 1][0])
        cov = filtered[t][1] + back @ (smooth[0][1] - predicted[t + 1][1]) @ back.T
        smooth.insert(0, (mean, cov))
    return (
        torch.stack([m for m, _ in filtered]),
        torch.stack([c for _, c in filtered]),
        torch.stack([m for m, _ in smooth]),
        torch.stack([c for _, c in smooth]),
    )


def gaussian_kl(mean: Tensor, cov: Tensor, prior_cov: Tensor) -> Tensor:
    """`KL(N(mean, cov) || N(0, prior_cov))`, flat."""
    zeros = torch.zeros_like(mean)
    return torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(mean, cov),
        torch.distributions.MultivariateNormal(zeros, prior_cov),
    )


def slow_popularity(
    item: int, now: float, items: np.ndarray, seconds: np.ndarray, half_lives: tuple[float, ...]
) -> list[float]:
    """Popularity of each half-life (in days), recency and age of one item, event by event."""
    earlier = [
        float(when)
        for other, when in zip(items, seconds, strict=True)
        if other == item and when < now
    ]
    window, hour = WINDOW_HALF_LIVES * max(half_lives) * 86_400.0, 3600.0
    if not earlier or now - max(earlier) > window:
        return [0.0] * (len(half_lives) + 2)
    values = []
    for half_life in half_lives:
        faded = 0.0
        for when in earlier:
            faded += 0.5 ** ((now - when) / 86_400.0 / half_life)
        values.append(math.log1p(faded))
    for when in (max(earlier), min(earlier)):
        values.append(max(0.0, math.log((window + hour) / (now - when + hour))))
    return values


def slow_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Of two vectors; zero where one of them is zero."""
    dot, one, other = 0.0, 0.0, 0.0
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        dot, one, other = dot + a * b, one + a * a, other + b * b
    return dot / math.sqrt(one * other) if one * other > 0.0 else 0.0


def slow_likeness(item: int, own: list[int], texts: np.ndarray) -> list[float]:
    """Cosine with the last of the user's own items, and its faded mean over the recent ones."""
    if not own:
        return [0.0, 0.0]
    total, weights = 0.0, 0.0
    for place, other in enumerate(own[: -MEMORY - 1 : -1]):
        total += KEEP**place * slow_cosine(texts[item], texts[other])
        weights += KEEP**place
    return [slow_cosine(texts[item], texts[own[-1]]), total / weights]


def slow_successions(log: History, source: int, before: float) -> list[tuple[int, float]]:
    """(item, weight) of what followed `source` strictly before a time, the latest of them."""
    pairs = []
    for user in range(log.n_users):
        own = [at for at in np.flatnonzero(log.user_index == user) if log.absorb[at]]
        for i, first in enumerate(own):
            for distance, second in enumerate(own[i + 1 : i + 1 + REACH], 1):
                if log.item_index[first] == source and log.seconds[second] < before:
                    pairs.append((log.seconds[second], distance, second))
    pairs.sort()  # of pairs that end at one time the farther apart count as later
    return [(int(log.item_index[at]), 1.0 / distance) for _, distance, at in pairs[-MAX_PAIRS:]]


def slow_covariates(
    log: History, n_items: int, kinds: Kinds, moment: int, texts: np.ndarray | None = None
) -> np.ndarray:
    """Every covariate of every item at one position of a log, (item, covariate)."""
    now, user = float(log.seconds[moment]), log.user_index[moment]
    items, seconds = log.item_index[log.absorb], log.seconds[log.absorb]
    columns: list[list[float]] = []
    if kinds.half_lives_days:
        rows = [
            slow_popularity(item, now, items, seconds, kinds.half_lives_days)
            for item in range(n_items)
        ]
        columns += [list(column) for column in zip(*rows, strict=True)]
    own = [at for at in range(moment) if log.user_index[at] == user and log.absorb[at]]
    if kinds.repeats:
        for fade in (math.inf, *FADES_DAYS):
            total = [0.0] * n_items
            for at in own:
                total[log.item_index[at]] += math.exp((log.seconds[at] - now) / 86_400.0 / fade)
            columns.append([math.log1p(value) for value in total])
    if kinds.succession:
        total = [0.0] * n_items
        for place, at in enumerate(own[: -REACH - 1 : -1], 1):
            pairs = slow_successions(log, int(log.item_index[at]), now)
            count = sum(weight for _, weight in pairs)
            for item, weight in pairs:
                total[item] += weight / place / (CAUTION + count)
        columns.append([math.log1p(value / SCALE) for value in total])
    if kinds.likeness:
        assert texts is not None
        met = [int(log.item_index[at]) for at in own]
        rows = [slow_likeness(item, met, texts) for item in range(n_items)]
        columns += [list(column) for column in zip(*rows, strict=True)]
    return np.array(columns).reshape(len(kinds.names), n_items).T


def _slow_norm(hidden: Tensor) -> Tensor:
    return (hidden - hidden.mean()) / (hidden.var(correction=0) + 1e-5).sqrt()


def _slow_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


def _slow_gap(days: Tensor) -> Tensor:
    fades = [torch.exp(-24.0 * days), torch.exp(-days), torch.exp(-days / 30.0)]
    return torch.stack([torch.log(1.0 + days * 24.0 * 60.0) / 10.0, *fades])


def slow_context(
    layout: Layout,
    values: Globals,
    vectors: Tensor,
    item: Tensor,
    outcome: Tensor,
    kind: Tensor,
    days: Tensor,
) -> Tensor:
    """`c_u(t)` of each event of one user, (step, state_dim): one event and one head at a time."""
    width, n_steps = layout.context_dim, len(item)
    head_width = width // CONTEXT_HEADS
    hidden = []
    for t in range(n_steps):
        now = values["context_item"] @ vectors[item[t]] * math.sqrt(layout.state_dim)
        now = now + values["context_gap"] @ _slow_gap(days[t])
        if layout.emission != "choice":
            level = outcome[t] / max(1, layout.n_levels - 1) - 0.5
            now = now + level * (values["context_outcome"] + now)
        if layout.n_kinds > 1:
            now = now + values["context_kind"][kind[t]]
        hidden.append(now)
    for layer in range(layout.context_layers):
        qkv = values[f"context_qkv_{layer}"]
        query, key, value = ([part @ _slow_norm(h) for h in hidden] for part in qkv.split(width))
        after = []
        for t, now in enumerate(hidden):
            seen = []
            for head in range(CONTEXT_HEADS):
                part = slice(head * head_width, (head + 1) * head_width)
                back = range(max(0, t - layout.context_events + 1), t + 1)
                score = [
                    query[t][part] @ key[s][part] / math.sqrt(head_width)
                    + values[f"context_distance_{layer}"][head, t - s]
                    for s in back
                ]
                share = torch.softmax(torch.stack(score), 0)
                seen.append(sum(w * value[s][part] for w, s in zip(share, back, strict=True)))
            now = now + values[f"context_out_{layer}"] @ torch.cat(seen)
            inner = _slow_gelu(values[f"context_up_{layer}"] @ _slow_norm(now))
            after.append(now + values[f"context_down_{layer}"] @ inner)
        hidden = after
    out = [torch.zeros_like(values["mean"])]
    for t in range(1, n_steps):
        waited = values["context_wait"] @ _slow_gap(days[t])
        out.append(values["context_head"] @ _slow_gelu(_slow_norm(hidden[t - 1]) + waited))
    return torch.stack(out)


def choice_mode(
    fixed: Tensor, rho: Tensor, vectors: Tensor, chosen: Tensor, cov: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slowly: the most likely states (step, D) of one user's choices, with their dual, the sum of
    log probabilities there, and the curvature (step * D, step * D).

    Logits are `fixed + rho states . vectors`; `cov` (step * D, step * D) is the states' prior.
    """
    n, dim = len(fixed), vectors.shape[1]
    state = fixed.new_zeros(n * dim)
    eye, scale = torch.eye(n * dim, dtype=fixed.dtype), rho[:, None]
    for _ in range(150):  # full steps may lead away
        table = (fixed + scale * (state.reshape(n, dim) @ vectors.T)).log_softmax(1)
        probs = table.exp()
        mean = probs @ vectors
        second = torch.einsum("ti,id,ie->tde", probs, vectors, vectors)
        inner = scale[..., None] ** 2 * (second - mean[:, :, None] * mean[:, None])
        curve = torch.block_diag(*inner)
        linear = (scale * (vectors[chosen] - mean)).reshape(-1) + curve @ state
        dual = linear - curve @ torch.linalg.solve(eye + cov @ curve, cov @ linear)
        state = 0.7 * state + 0.3 * (cov @ dual)
    fit = table[torch.arange(n), chosen][rho > 0.0].sum()
    return state.reshape(n, dim), dual.reshape(n, dim), fit, curve


def matched_choices(
    fixed: Tensor, rho: Tensor, vectors: Tensor, chosen: Tensor, cov: Tensor, n_nodes: int = 16
) -> tuple[Tensor, Tensor]:
    """Slowly: one user's states, mean (step, D) and covariance (step * D, step * D), by expectation
    propagation: one site after the other, its moments on a grid of `n_nodes` per dimension.

    As `choice_mode`: logits are `fixed + rho states . vectors`.
    """
    n, dim = len(fixed), vectors.shape[1]
    line, share = (torch.as_tensor(part) for part in hermegauss(n_nodes))
    grid = torch.cartesian_prod(*[line] * dim).reshape(-1, dim)
    weight = torch.cartesian_prod(*[share] * dim).reshape(-1, dim).prod(1)
    eye = torch.eye(n * dim, dtype=fixed.dtype)
    site, linear = torch.zeros_like(cov), cov.new_zeros(n * dim)
    for _ in range(12):
        for t in range(n):
            if rho[t] == 0.0:
                continue
            own = slice(t * dim, (t + 1) * dim)
            without, rest = site.clone(), linear.clone()
            without[own, own], rest[own] = 0.0, 0.0
            among = torch.linalg.solve(eye + cov @ without, cov)
            near, about = among[own, own], (among @ rest)[own]
            state = about + grid @ torch.linalg.cholesky(near).T
            table = (fixed[t] + rho[t] * (state @ vectors.T)).log_softmax(1)[:, chosen[t]]
            given = weight * table.exp() / (weight @ table.exp())
            mean = given @ state
            inner = torch.linalg.inv((given[:, None] * (state - mean)).T @ (state - mean))
            before = torch.linalg.inv(near)
            site[own, own], linear[own] = inner - before, inner @ mean - before @ about
    joint = torch.linalg.solve(eye + cov @ site, cov)
    return (joint @ linear).reshape(n, dim), joint
