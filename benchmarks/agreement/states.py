"""States at known globals: the smoother with sites against NUTS on the innovations."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyro
import torch
from torch import Tensor

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
from benchmarks.agreement.compare import Moments, by_step, figures, worst_r_hat
from benchmarks.agreement.nuts import fast_path, sample_states
from benchmarks.agreement.problems import Size, conditioned_problem

SITES, TOGETHER, APART = "sites", "matched", f"{CHOICE_STEPS} draws"
LOGITS = "all, logits"
N_CHAINS = 2


@dataclass(frozen=True)
class States:
    """Normal states: mean (user, step, D) and covariance (user, step, D, D)."""

    mean: Tensor
    cov: Tensor

    def along(self, ways: Tensor) -> Moments:
        """Of their products with some vectors (way, D): (1, user, step, way)."""
        return Moments.exact(self.mean @ ways.T, ((ways @ self.cov) * ways).sum(-1))


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
    drawn, rows = torch.cat(chains).double(), []
    alone, reach = torch.eye(case.size.state_dim).double(), reach_of_items(design, values)
    oracle, of_logits = Moments.of(drawn), Moments.of(drawn @ reach.T)
    for name, ours in our_states(design, values, history).items():
        rows += [{"ours": name, **row} for row in by_step(ours.along(alone), oracle)]
        rows.append({"ours": name, "what": LOGITS, **figures(ours.along(reach), of_logits)})
    r_hat = worst_r_hat(torch.stack(chains))
    return {"rows": rows, "r_hat": r_hat, "seconds": seconds, "n_draws": len(drawn)}


def reach_of_items(design: Design, values: Globals) -> Tensor:
    """What a state adds to each item's predictor per unit, (item, state_dim); of choice, where only
    differences count, less that in the average item.
    """
    vectors = item_terms(design.layout, values, design.features).vectors.double()
    return vectors - vectors.mean(0) if design.layout.emission == "choice" else vectors


def our_states(design: Design, values: Globals, history: History) -> dict[str, States]:
    """The states by each way of setting the sites."""
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
    return {SITES: States(found.mean.double(), found.cov.double())}


def smoothed_states(design: Design, values: Globals) -> States:
    """As `posterior/trajectory.py` smooths a choice."""
    batch, items = design.batch, item_terms(design.layout, values, design.features)
    walk, mean, cov = batch.walk(design.layout, values), [], []
    for user, n_steps in enumerate(batch.mask.sum(1).tolist()):
        own = Transition(walk.decay[user : user + 1], walk.variance[user : user + 1])
        base, kind = items.offsets.expand(n_steps, -1), batch.kind[user]
        rho, chosen = reliability(values, kind), batch.item[user]
        found = smoothed_choices(base, items.vectors, rho, chosen, own)
        mean.append(found[0])
        cov.append(found[1])
    return States(torch.stack(mean), torch.stack(cov))


def choice_states(design: Design, values: Globals, history: History) -> States:
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
    return States(smoothed.mean.double(), torch.diag_embed(smoothed.var).double())
