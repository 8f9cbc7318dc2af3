"""States at known globals: the smoother with sites against NUTS on the innovations."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyro
import torch

from bayes_interest.events.history import History
from bayes_interest.model.choice_bound import fit_choice_sites, flat_choices, zero_choice_sites
from bayes_interest.model.choice_paths import smoothed_choices
from bayes_interest.model.elbo import fit_sites
from bayes_interest.model.generative import Design
from bayes_interest.model.parameters import Globals, item_terms, reliability
from bayes_interest.model.problem import Problem
from bayes_interest.posterior.trajectory import CHOICE_SEED, CHOICE_STEPS
from bayes_interest.statespace.diagonal import filter_diagonal, smooth_diagonal
from bayes_interest.statespace.random_walk import Transition
from benchmarks.agreement.compare import Moments, by_step, worst_r_hat
from benchmarks.agreement.nuts import fast_path, sample_states
from benchmarks.agreement.problems import Size, conditioned_problem

SITES, TOGETHER, APART = "sites", "matched", f"{CHOICE_STEPS} draws"
N_CHAINS = 2


@dataclass(frozen=True)
class StatesCase:
    emission: str
    size: Size  # its draws are of each chain

    @property
    def setting(self) -> dict[str, Any]:
        return {"kind": "states", "n_chains": N_CHAINS, **asdict(self)}

    def smaller(self) -> StatesCase:
        """To prove that it runs."""
        size = replace(self.size, n_users=3, n_steps=5, n_draws=20, n_warmup=10)
        return replace(self, size=size)


def run_states(case: StatesCase) -> dict[str, Any]:
    """Rows of the table, and how well the oracle did."""
    with torch.random.fork_rng():
        pyro.set_rng_seed(0)
        design, values, history = conditioned_problem(case.emission, case.size)
        began = time.perf_counter()
        with fast_path(design):
            chains = [sample_states(design, values, case.size)[0] for _ in range(N_CHAINS)]
        seconds = time.perf_counter() - began
    oracle = Moments.of(torch.cat(chains))
    rows = [
        {"ours": name, **row}
        for name, ours in our_states(design, values, history).items()
        for row in by_step(ours, oracle)
    ]
    r_hat = worst_r_hat(torch.stack(chains))
    return {"rows": rows, "r_hat": r_hat, "seconds": seconds, "n_draws": sum(map(len, chains))}


def our_states(design: Design, values: Globals, history: History) -> dict[str, Moments]:
    """Moments of the states (1, user, step, state_dim) by each way of setting the sites."""
    if design.layout.emission == "choice":
        return {
            TOGETHER: smoothed_states(design, values),
            APART: choice_states(design, values, history),
        }
    layout, items = design.layout, item_terms(design.layout, values, design.features)
    found = fit_sites(
        layout, values, items, design.batch, n_steps=200, tolerance=1e-9, full=True
    ).smoothed
    assert found.cov is not None
    return {SITES: Moments.exact(found.mean, found.cov.diagonal(dim1=-2, dim2=-1))}


def smoothed_states(design: Design, values: Globals) -> Moments:
    """As `posterior/trajectory.py` smooths a choice."""
    batch, items = design.batch, item_terms(design.layout, values, design.features)
    walk, mean, var = batch.walk(design.layout, values), [], []
    for user, n_steps in enumerate(batch.mask.sum(1).tolist()):
        own = Transition(walk.decay[user : user + 1], walk.variance[user : user + 1])
        base, kind = items.offsets.expand(n_steps, -1), batch.kind[user]
        rho, chosen = reliability(values, kind), batch.item[user]
        found = smoothed_choices(base, items.vectors, rho, chosen, own)
        mean.append(found[0])
        var.append(found[1].diagonal(dim1=-2, dim2=-1))
    return Moments.exact(torch.stack(mean), torch.stack(var))


def choice_states(design: Design, values: Globals, history: History) -> Moments:
    """As it smooths one among very many items: averaged steps, each at one draw."""
    layout, batch = design.layout, design.batch
    items = item_terms(layout, values, design.features)
    mask = batch.mask
    rows = Problem(layout, design.features, history).rows
    choices = flat_choices(values, batch, torch.arange(int(mask.sum())).numpy(), rows)
    sites = zero_choice_sites(batch, values["mean"])
    generator = torch.Generator().manual_seed(CHOICE_SEED)
    for step in range(CHOICE_STEPS):
        size = 1.0 / max(1, step - 1)
        sites = fit_choice_sites(
            layout, values, items, batch, choices, sites, size, generator
        ).sites
    walk = batch.walk(layout, values)
    smoothed = smooth_diagonal(sites, walk, filter_diagonal(sites, walk))
    return Moments.exact(smoothed.mean, smoothed.var)
