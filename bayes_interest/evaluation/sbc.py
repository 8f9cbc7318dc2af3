"""Simulation-based calibration: is the truth anywhere in the posterior with equal chance?

Globals, states and outcomes are drawn from the prior, the posterior is found from the outcomes
alone, and the truth is ranked among the posterior's draws. If the posterior is right, ranks are
uniform for every quantity (Cook, Gelman & Rubin 2006; Talts et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import binom
from torch import Tensor

from bayes_interest.config import FitConfig
from bayes_interest.errors import ConfigError, InputError
from bayes_interest.model.batch import Batch
from bayes_interest.model.choice_paths import smoothed_choices
from bayes_interest.model.elbo import Chains, fit_chains
from bayes_interest.model.fit import fit_globals
from bayes_interest.model.generative import Design as WorldDesign
from bayes_interest.model.members import SWEEPS, drawn_points
from bayes_interest.model.parameters import Globals, Layout, item_terms
from bayes_interest.model.problem import Problem
from bayes_interest.model.whitened import chains_at
from bayes_interest.model.worlds import World, draw_world
from bayes_interest.posterior.draws import square_root
from bayes_interest.progress import bar, shown_if

RUN, QUANTITY, RANK, N_DRAWS = "run", "quantity", "rank", "n_draws"
LONG, SHORT = 0, 1
GUIDES = ("smoother", "factorised")
FAMILIES = ("bernoulli", "rating", "choice")
BAND_DRAWS = 2_000
RUN_FIT = FitConfig(max_epochs=25, learning_rate=0.1, progress=False)


@dataclass(frozen=True)
class Design:
    """The worlds: small, so that globals are uncertain and a thousand of them are at hand."""

    emission: str = "bernoulli"
    n_users: int = 20
    n_steps: int = 8
    n_items: int = 10
    state_dim: int = 1
    embed_dim: int = 2
    n_levels: int = 4
    days: float = 60.0
    drift_centre: float = 0.1
    """Centre of the prior of the drift scale, per sqrt day."""

    def __post_init__(self) -> None:
        """Check the family."""
        if self.emission not in FAMILIES:
            names = ", ".join(FAMILIES)
            raise ConfigError(f"emission={self.emission!r}: expected one of {names}")

    @property
    def layout(self) -> Layout:
        """The model. One more item is cold; of a choice it is one more candidate."""
        return Layout(
            self.emission,
            self.state_dim,
            self.embed_dim,
            self.n_items + 1,
            n_levels=self.n_levels,
            log_drift_centre=(float(np.log(self.drift_centre)),) * self.state_dim,
        )

    def world(self, seed: int) -> World:
        """One world: user 0 has all steps, user 1 two events, the others something between."""
        rng = np.random.default_rng(seed)
        lengths = rng.integers(2, self.n_steps + 1, self.n_users)
        lengths[LONG], lengths[SHORT] = self.n_steps, 2
        return draw_world(self.layout, lengths, self.n_items, self.days, seed)


def sbc(
    n_runs: int = 1000,
    design: Design | None = None,
    n_draws: int = 15,
    sweeps: int = SWEEPS,
    guide: str = "smoother",
    seed: int = 0,
    file: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Ranks (0 to `n_draws`) of the truth in its posterior: run, quantity, rank, n_draws.

    Every run has a world of its own, by `seed` and its number. With `file` (CSV) finished runs
    are kept there and not done again. `guide="factorised"` takes draws of the states from a guide
    without correlation along time, which must be found out. Rounding may differ between machines
    and processes, and chains part where it does: then ranks differ, though not what they say.

    Raises:
        InputError: a file of another design or seed.
        ConfigError: an unknown guide, the factorised one for choice, or an impossible number.
    """
    design = design or Design()
    if guide not in GUIDES:
        raise ConfigError(f"guide={guide!r}: expected one of {', '.join(GUIDES)}")
    if guide == "factorised" and design.emission == "choice":
        raise ConfigError("guide='factorised': not for choice; expected smoother")
    if min(n_runs, n_draws, workers) < 1 or sweeps < 0:
        raise ConfigError("expected n_runs, n_draws, workers >= 1 and sweeps >= 0")
    setting = {**asdict(design), N_DRAWS: n_draws, "sweeps": sweeps, "guide": guide, "seed": seed}
    done = _read(file, setting)
    todo = [run for run in range(n_runs) if run not in set(done[RUN])]
    work = partial(ranks_of_run, design, n_draws=n_draws, sweeps=sweeps, guide=guide, seed=seed)
    tables = [done[done[RUN] < n_runs]]
    with shown_if(progress):
        for table in bar(_run(work, todo, workers), total=len(todo), desc="sbc", unit="world"):
            tables.append(table)
            if file is not None:
                _append(Path(file), table, setting)
    found = pd.concat(tables, ignore_index=True)
    return found.sort_values([RUN, QUANTITY], kind="stable", ignore_index=True)


def _run(work: partial[pd.DataFrame], todo: list[int], workers: int) -> Iterator[pd.DataFrame]:
    if workers == 1 or len(todo) < 2:
        yield from map(work, todo)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(work, todo)


def _read(file: str | Path | None, setting: dict[str, object]) -> pd.DataFrame:
    empty = pd.DataFrame({name: [] for name in (RUN, QUANTITY, RANK, N_DRAWS)}).astype(
        {RUN: int, QUANTITY: object, RANK: int, N_DRAWS: int}
    )
    if file is None or not Path(file).exists():
        return empty
    table = pd.read_csv(file)
    for name, value in setting.items():
        if name not in table or (table[name].astype(str) != str(value)).any():
            raise InputError(f"{file} holds runs with another {name} than {value}: delete it")
    return table[[RUN, QUANTITY, RANK, N_DRAWS]].astype({QUANTITY: object})


def _append(file: Path, table: pd.DataFrame, setting: dict[str, object]) -> None:
    rows = pd.DataFrame(table.to_dict("list") | setting)
    rows.to_csv(file, mode="a", header=not file.exists(), index=False)


def ranks_of_run(
    design: Design, run: int, n_draws: int, sweeps: int, guide: str, seed: int
) -> pd.DataFrame:
    """One world, its posterior, and the ranks."""
    of_world, own = _seeds(run, seed)
    world = design.world(of_world)
    values, states = posterior_draws(world, n_draws, sweeps, guide, own)
    truth = quantities(world.design, world.values, world.states)
    drawn = [
        quantities(
            world.design,
            {name: value[draw].double() for name, value in values.items()},
            states[draw].double(),
        )
        for draw in range(n_draws)
    ]
    rank = {name: sum(one[name] < true for one in drawn) for name, true in truth.items()}
    return pd.DataFrame(
        {RUN: run, QUANTITY: list(rank), RANK: list(rank.values()), N_DRAWS: n_draws}
    )


def _seeds(run: int, seed: int) -> tuple[int, int]:
    """Of a run's world and of its fit."""
    of_world, own = np.random.SeedSequence((seed, run)).generate_state(2).tolist()
    return of_world, own


def prior_places(
    n_runs: int, design: Design | None = None, seed: int = 0, n_others: int = 1000
) -> pd.Series[float]:
    """Mean place (0 to 1) of the runs' truths among those of `n_others` more worlds, by quantity.

    No fit is made: what is off here is chance of the draw, and ranks inherit it where outcomes say
    little.
    """
    design = design or Design()
    worlds = (design.world(_seeds(run, seed)[0]) for run in range(n_runs + n_others))
    found = pd.DataFrame([quantities(one.design, one.values, one.states) for one in worlds])
    places = {}
    for name, column in found.items():
        own, others = column[:n_runs].dropna(), np.sort(column[n_runs:].dropna())
        places[str(name)] = float((np.searchsorted(others, own) / len(others)).mean())
    return pd.Series(places)


def posterior_draws(
    world: World, n_draws: int, sweeps: int, guide: str, seed: int
) -> tuple[Globals, Tensor]:
    """Globals (draw, ...) and the states of users LONG and SHORT, (draw, 2, step, state_dim)."""
    layout, features = world.design.layout, world.design.features.float()
    problem, run = Problem(layout, features, world.history), replace(RUN_FIT, seed=seed)
    start = fit_globals(problem, run).values
    whitened, point = drawn_points(problem, start, n_draws, seed, sweeps)
    own, found = world.design.batch.to(torch.float32).users(slice(0, 2)), whitened.values(point)
    if layout.emission == "choice":
        mean, cov = smoothed_of_choice(layout, features, own, found)
    else:
        mean, cov = smoothed_of_scalar(chains_at(whitened, features, own, point), guide)
    generator = torch.Generator().manual_seed(seed + 1)
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    states = mean + (square_root(cov) @ noise[..., None])[..., 0]
    return found, states.reshape(n_draws, 2, *states.shape[1:])


def smoothed_of_scalar(chains: Chains, guide: str) -> tuple[Tensor, Tensor]:
    """Means (chain, step, D) and covariances of the states."""
    posterior = fit_chains(chains, None, n_steps=100, tolerance=1e-4, full=True)
    cov = posterior.smoothed.cov
    assert cov is not None
    if guide == "factorised":
        cov = factorised_cov(chains, posterior.sites.precision)
    return posterior.smoothed.mean, cov


def smoothed_of_choice(
    layout: Layout, features: Tensor, batch: Batch, values: Globals
) -> tuple[Tensor, Tensor]:
    """The same of the users of a batch at settings of the globals, user after user in each."""
    means, covs = [], []
    for draw in range(len(values["mean"])):
        own = {name: value[draw] for name, value in values.items()}
        items = item_terms(layout, own, features.to(own["mean"]))
        for user in range(len(batch.mask)):
            one = batch.users(slice(user, user + 1))
            base = items.offsets.expand(one.mask.shape[1], -1)
            rho, walk = one.mask[0].to(base), one.walk(layout, own)
            mean, cov, _ = smoothed_choices(base, items.vectors, rho, one.item[0], walk)
            means.append(mean)
            covs.append(cov)
    return torch.stack(means), torch.stack(covs)


def factorised_cov(chains: Chains, precision: Tensor) -> Tensor:
    """Of the best guide without correlation along time: inverse blocks of the joint precision."""
    inverse = 1.0 / chains.walk.variance.clamp_min(1e-6)
    inverse = torch.cat((torch.ones_like(inverse[:, :1]), inverse[:, 1:]), 1)
    later = torch.cat((inverse[:, 1:], torch.zeros_like(inverse[:, :1])), 1)
    outer = chains.terms.x[..., :, None] * chains.terms.x[..., None, :]
    joint = torch.diag_embed(inverse + later) + precision[..., None, None] * outer
    inverted: Tensor = torch.linalg.inv(joint)
    return inverted


def quantities(design: WorldDesign, values: Globals, states: Tensor) -> dict[str, float]:
    """What is ranked. Signs and rotations of the state, which nothing identifies, cancel out.

    States and residuals are measured along the vector of the log's most frequent item. Interest is
    the linear predictor, or of choice the log probability.
    """
    layout, batch, features = design.layout, design.batch, design.features
    items = item_terms(layout, values, features)
    shown = torch.bincount(batch.item[batch.mask], minlength=layout.n_items)
    anchor = items.vectors[int(shown.argmax())]
    along = anchor / anchor.norm()
    length = int(batch.mask[LONG].sum())
    own = batch.item[LONG, :length]
    unseen = [item for item in range(layout.n_items - 1) if not bool((own == item).any())]
    predictor, nobody = states @ items.vectors.T + items.offsets, items.offsets
    last, cold = -1, "cold item"
    if layout.emission == "choice":
        predictor, nobody = torch.log_softmax(predictor, -1), torch.log_softmax(nobody, -1)
        last, cold = int(shown.argmin()), "rarest item"
    drift = values["log_drift"].sort().values
    found = {f"drift scale {i + 1}": float(scale) for i, scale in enumerate(drift)}
    found |= {
        "residual scale": float(values["log_residual_scale"]),
        "offset scale": float(values["log_offset_scale"]),
        "residual, warm item": float(values["residual"][int(shown.argmax())] @ along),
        f"residual, {cold}": float(values["residual"][last] @ along),
        "state, first step": float(states[LONG, 0] @ along),
        "state, middle step": float(states[LONG, length // 2] @ along),
        "state, last step": float(states[LONG, length - 1] @ along),
        "state, two events": float(states[SHORT, 1] @ along),
        "interest, warm": float(predictor[LONG, length - 1, own[-1]]),
        f"interest, {cold}": float(predictor[LONG, length - 1, last]),
        "interest, two events": float(predictor[SHORT, 1, int(shown.argmax())]),
        "interest, new user": float(nobody[int(shown.argmax())]),
    }
    if unseen:
        found["interest, unseen item"] = float(predictor[LONG, length - 1, unseen[0]])
    return found


def sbc_table(ranks: pd.DataFrame, prob: float = 0.99, seed: int = 0) -> pd.DataFrame:
    """Per quantity: n, how far the ranks' distribution is from uniform, the band, and the verdict.

    The statistic is the least two-sided binomial probability that the number of ranks below any
    value is so far off; the band holds it with chance `prob` at all values at once (Sailynoja,
    Burkner & Vehtari 2022). `excess` is the largest difference of the distribution functions.
    """
    rows = []
    for name, part in ranks.groupby(QUANTITY, sort=False):
        n_draws, rank = int(part[N_DRAWS].iloc[0]), part[RANK].to_numpy()
        limit = band_level(len(rank), n_draws, prob, seed)
        least = least_probability(rank[None], n_draws)[0]
        below = np.searchsorted(np.sort(rank), np.arange(n_draws), side="right") / len(rank)
        gap = below - np.arange(1, n_draws + 1) / (n_draws + 1)
        rows.append(
            {
                QUANTITY: name,
                "n": len(rank),
                "excess": float(gap[np.abs(gap).argmax()]),
                "mean": float((rank + 0.5).mean() / (n_draws + 1)),
                "spread": float(rank.std() / np.sqrt(((n_draws + 1) ** 2 - 1) / 12.0)),
                "level": least,
                "limit": limit,
                "inside": bool(least >= limit),
            }
        )
    return pd.DataFrame(rows)


def least_probability(rank: np.ndarray, n_draws: int) -> np.ndarray:
    """Over all values, the least two-sided probability of the counts below, (sample,)."""
    n = rank.shape[1]
    counts = np.stack([np.bincount(row, minlength=n_draws + 1) for row in rank])
    below = counts.cumsum(1)[:, :-1]
    chance = np.arange(1, n_draws + 1) / (n_draws + 1)
    tails = np.minimum(binom.cdf(below, n, chance), binom.sf(below - 1, n, chance))
    least: np.ndarray = 2.0 * tails.min(1)
    return least


def band_level(n: int, n_draws: int, prob: float, seed: int = 0) -> float:
    """What `least_probability` of uniform ranks exceeds with chance `prob`, by simulation."""
    rng = np.random.default_rng(seed)
    uniform = rng.integers(0, n_draws + 1, (BAND_DRAWS, n))
    return float(np.quantile(least_probability(uniform, n_draws), 1.0 - prob))
