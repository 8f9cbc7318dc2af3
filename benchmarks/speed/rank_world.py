"""A model of any size without a fit: globals drawn, users filtered through a drawn log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from bayes_interest.config import ModelConfig
from bayes_interest.events.history import History, make_history
from bayes_interest.events.id_map import IdMap
from bayes_interest.model.filtering import Belief
from bayes_interest.model.fit import item_posterior_cov
from bayes_interest.model.parameters import COVARIATES, Globals, Layout, item_terms
from bayes_interest.model.prepare import Standardizer, Vocabulary
from bayes_interest.model.text_posterior import text_posterior_cov, with_text_variance
from bayes_interest.posterior.online import absorb, restarted
from bayes_interest.posterior.posterior import FitSummary, Posterior

EMBED, DAY = 64, 86_400.0
RESIDUAL, OFFSET, DRIFT = 0.15, 0.7, 0.03
CURVATURE = 0.2  # of an outcome that is neither rare nor sure
CHUNK = 4096


def big_posterior(
    n_users: int, n_items: int, dim: int, events_per_user: int = 50, *, rates: bool = True,
    bias: float = 0.0, seed: int = 0,
) -> Posterior:  # fmt: skip
    """A bernoulli posterior of this size, full covariances, one setting of the globals.

    Popular items have more events (Zipf), a tenth has none. `bias` is the mean logit.
    """
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    layout = Layout("bernoulli", dim, EMBED, n_items, rates=rates,
                    log_drift_centre=(float(np.log(DRIFT)),) * dim)  # fmt: skip
    features = torch.randn(n_items, EMBED, generator=generator)
    values = _globals(layout, features, generator, bias)
    truth = torch.randn(n_users, dim, generator=generator)
    history = _log(layout, values, features, truth, events_per_user, rng)
    precision = _precision(history, values["mean"] + truth, n_items)
    text_cov = text_posterior_cov(layout, values, precision, features)
    item_cov = item_posterior_cov(layout, values, precision)
    item_cov = with_text_variance(layout, values, item_cov, features, text_cov)
    shell = Posterior(
        config=ModelConfig(emission="bernoulli", state_dim=dim, rates=rates),
        layout=layout,
        vocabulary=Vocabulary(
            IdMap(np.arange(n_users)), IdMap(np.arange(n_items)), ("event",), (0.0, 1.0)
        ),
        standardizer=Standardizer(np.zeros(EMBED), np.ones(EMBED), np.eye(EMBED)),
        features=features,
        has_text=np.ones(n_items, dtype=bool),
        values=values,
        item_cov=item_cov.contiguous(),
        text_cov=text_cov,
        cold_shift=0.0,
        belief=Belief.prior(1, values, diagonal=False),
        last_seconds=np.full(n_users, np.nan),
        history=history,
        summary=FitSummary("", (), 0, False, 0.0, ()),
        encoder_spec=None,
    )
    return absorb(restarted(shell), history)


def _globals(
    layout: Layout, features: torch.Tensor, generator: torch.Generator, bias: float
) -> Globals:
    dim, n_items = layout.state_dim, layout.n_items

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    values = {
        "log_drift": torch.full((dim,), float(np.log(DRIFT))),
        "weight": noise(dim, EMBED),
        "offset_weight": 0.5 * noise(EMBED),
        "log_offset_scale": torch.tensor(float(np.log(OFFSET))),
        "offset": OFFSET * noise(n_items),
        "mean": 0.3 * noise(dim),
        "log_residual_scale": torch.tensor(float(np.log(RESIDUAL))),
        "residual": RESIDUAL * noise(n_items, dim),
        "intercept": torch.zeros(dim),
        "bias": torch.tensor(bias),
    }
    values["intercept"][-1] = 0.7
    if layout.rates:
        values[COVARIATES] = torch.tensor([0.3, 0.5, 0.8, 0.1, 1.0])
    return values


def _log(
    layout: Layout,
    values: Globals,
    features: torch.Tensor,
    truth: torch.Tensor,
    per_user: int,
    rng: np.random.Generator,
) -> History:
    """Half a year of events; who meets what goes by popularity, what follows by interest."""
    n_users, n_items = len(truth), layout.n_items
    warm = rng.permutation(n_items)[: n_items - n_items // 10]
    share = 1.0 / np.arange(10, len(warm) + 10) ** 0.8
    user = np.repeat(np.arange(n_users), per_user)
    item = rng.choice(warm, len(user), p=share / share.sum())
    seconds = np.round(rng.uniform(0.0, 180.0 * DAY, len(user)))
    known = item_terms(layout, values, features)
    logit = (known.vectors[item] * truth[user]).sum(1) + known.offsets[item]
    outcome = (rng.random(len(user)) < torch.sigmoid(logit).numpy()).astype(float)
    return make_history(user, item, seconds, outcome, np.zeros_like(user), n_users)


def _precision(history: History, states: torch.Tensor, n_items: int) -> torch.Tensor:
    """What the events say of residual and offset, (item, D + 1, D + 1)."""
    dim = states.shape[1] + 1
    out = torch.zeros(n_items, dim * dim)
    extended = torch.cat((states, torch.ones(len(states), 1)), 1)
    for begin in range(0, len(history), CHUNK):
        one = extended[history.user_index[begin : begin + CHUNK]]
        outer = CURVATURE * (one[:, :, None] * one[:, None, :]).flatten(1)
        out.index_add_(0, torch.as_tensor(history.item_index[begin : begin + CHUNK]), outer)
    return out.reshape(n_items, dim, dim)


def with_rates_off(posterior: Posterior) -> Posterior:
    """The same without running rates."""
    values = {name: part for name, part in posterior.values.items() if name != COVARIATES}
    config = replace(posterior.config, rates=False)
    layout = replace(posterior.layout, rates=False)
    return replace(posterior, config=config, layout=layout, values=values)
