"""Draws from the Pyro program's prior at the events of a log: what was believed before any event.

Who met what and when stays that of the log, and so do the covariates and the context, which are
made of the log's own past.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bayes_interest.events.history import padded_batches
from bayes_interest.model.batch import Batch, EventTensors
from bayes_interest.model.generative import Design
from bayes_interest.model.parameters import Globals
from bayes_interest.model.seeding import seeded
from bayes_interest.model.worlds import prior_globals, prior_paths
from bayes_interest.posterior.posterior import Posterior
from bayes_interest.progress import bar
from bayes_interest.report.path_draws import Asked, Draws, Setting

BLOCK_CELLS = 20_000_000  # of events times items (choice) or state dimensions


def draw_prior(
    posterior: Posterior, asked: Asked, n_draws: int, seed: int
) -> tuple[Draws, list[Globals]]:
    """As `draw_posterior`, given no event; also the globals of every draw."""
    layout = posterior.layout
    out = Draws.empty(asked, n_draws, layout.state_dim)
    drawn: list[Globals] = []
    with seeded(seed, posterior.features.device), torch.no_grad():
        for draw in bar(range(n_draws), desc="prior draws", unit="draw"):
            values = prior_globals(layout, posterior.features.double())
            plain = replace(posterior, values=values, members=(), recalibration=None)
            setting = Setting(plain, asked)
            deviation, outcome = _drawn(setting)
            out.state[draw] = (values["mean"] + deviation).cpu().numpy()
            out.outcome[draw] = outcome.cpu().numpy()
            if len(asked.items):
                interest = setting.interest(deviation, setting.posterior.items)
                out.interest[draw] = interest.cpu().numpy()
            drawn.append(values)
    return out, drawn


def _drawn(setting: Setting) -> tuple[Tensor, Tensor]:
    """Deviations (event, state_dim) and outcomes (event,), by the program."""
    layout, like, history = setting.layout, setting.posterior.features, setting.asked.history
    events = EventTensors.of(history, like.dtype, like.device, None, setting.asked.own)
    deviation = like.new_zeros(len(history), layout.state_dim)
    outcome = like.new_zeros(len(history))
    width = layout.n_items if setting.choice else layout.state_dim
    for block in padded_batches(history, max(1, BLOCK_CELLS // width), like.device):
        offset = block.gather(setting.extra) if setting.choice else None
        design = Design(layout, like, Batch.of(events, block), offset)
        path, found = prior_paths(design, setting.values)
        where = block.event[block.mask]
        deviation[where] = path[block.mask]
        outcome[where] = found[block.mask].to(outcome)
    return deviation, outcome
