"""The global parameters: what they are, their priors, and the linear predictor they define.

`a(u, i, t) = rho_kind * ( x_i . (m_0 + y_u(t)) + b_i + w_pop * pop_i(t) + w_rep * rep_ui(t) )`
with `x_i = W phi_i + r_i` and `b_i = b + w_b . phi_i + e_i`; `y` starts at N(0, I) and walks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bayes_interest.emissions.ordered import OrderedEmission, bernoulli_emission, increasing_cuts

REFERENCE_KIND = 0


@dataclass(frozen=True)
class Layout:
    """Sizes and family: which parameters there are and what shape they have."""

    emission: str  # "bernoulli" | "rating" | "choice" | "gaussian"
    state_dim: int
    embed_dim: int
    n_items: int
    n_kinds: int = 1
    n_levels: int = 2
    residuals: bool = True
    popularity: bool = False
    repeats: bool = False
    half_life_days: float | None = None
    log_drift_centre: tuple[float, ...] = ()
    event_drift: bool = False  # interest also moves with every event, not only with time

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, in the order of the generative program."""
        dim, embed = self.state_dim, self.embed_dim
        shapes: dict[str, tuple[int, ...]] = {
            "log_drift": (dim,),
            "weight": (dim, embed),
            "offset_weight": (embed,),
            "log_offset_scale": (),
            "offset": (self.n_items,),
            "mean": (dim,),
        }
        if self.residuals:
            shapes |= {"log_residual_scale": (), "residual": (self.n_items, dim)}
        if self.event_drift:
            shapes |= {"log_event_drift": (dim,)}
        if self.emission != "choice":
            shapes |= {"intercept": (dim,)}
        if self.emission in ("bernoulli", "gaussian"):
            shapes |= {"bias": ()}
        if self.emission == "rating":
            shapes |= {"raw_cuts": (self.n_levels - 1,)}
        if self.emission == "gaussian":
            shapes |= {"log_noise_scale": ()}
        if self.n_kinds > 1:
            shapes |= {"log_reliability": (self.n_kinds - 1,)}
        if self.popularity:
            shapes |= {"popularity_weight": ()}
        if self.repeats:
            shapes |= {"repeat_weight": ()}
        return shapes


Globals = dict[str, Tensor]

PRIOR_SCALES = {
    "weight": 1.0,
    "offset_weight": 1.0,
    "mean": 1.0,
    "intercept": 0.5,
    "bias": 3.0,
    "log_reliability": 0.5,
    "popularity_weight": 1.0,
    "repeat_weight": 2.0,
    "log_drift": 1.5,
    "log_residual_scale": 1.0,
    "log_offset_scale": 1.0,
    "raw_cuts": 2.0,
    "log_noise_scale": 1.0,
    "log_event_drift": 1.5,
}
EVENT_DRIFT_RANGE = (-3.0, -0.5)
"""Log sd per event of the slowest and the fastest dimension to start from."""
SCALE_CENTRES = {"log_residual_scale": math.log(0.1), "log_offset_scale": math.log(0.5)}


def prior(layout: Layout, name: str, values: Globals, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of the Normal prior of one parameter, given those before it.

    Scales and reliabilities are kept as logarithms, so a Normal here is a LogNormal on them.
    """
    shape = layout.shapes()[name]
    mean = like.new_zeros(shape)
    if name == "log_drift":
        mean = like.new_tensor(layout.log_drift_centre)
    elif name == "log_event_drift":
        mean = torch.linspace(*EVENT_DRIFT_RANGE, shape[0]).to(like)
    elif name in SCALE_CENTRES:
        mean = like.new_tensor(SCALE_CENTRES[name])
    elif name == "raw_cuts":
        mean = like.new_full(shape, -0.5)
    if name == "residual":
        scale = values["log_residual_scale"].exp().expand(shape)
    elif name == "offset":
        scale = values["log_offset_scale"].exp().expand(shape)
    else:
        scale = like.new_full(shape, PRIOR_SCALES[name])
    return mean, scale


def log_prior(layout: Layout, values: Globals) -> Tensor:
    """Log prior density of all parameters (of the logarithms, where so kept), a scalar."""
    like = values["mean"]
    total = like.new_zeros(())
    for name in layout.shapes():
        mean, scale = prior(layout, name, values, like)
        total = total + torch.distributions.Normal(mean, scale).log_prob(values[name]).sum()
    return total


def draw_prior(layout: Layout, generator: torch.Generator, like: Tensor) -> Globals:
    """One draw of every parameter from the prior."""
    values: Globals = {}
    for name, shape in layout.shapes().items():
        mean, scale = prior(layout, name, values, like)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        values[name] = mean + scale * noise.to(like.dtype)
    return values


def initial_globals(layout: Layout, generator: torch.Generator, like: Tensor) -> Globals:
    """Starting point of a fit: prior centres, with small random projections."""
    values: Globals = {}
    for name, shape in layout.shapes().items():
        mean, _ = prior(layout, name, values, like)
        values[name] = mean.clone()
        if name in ("weight", "residual"):
            noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(like)
            values[name] = noise * (0.6 if name == "weight" else 0.03)
    if "intercept" in values:
        values["intercept"][-1] = 0.7
    return values


@dataclass(frozen=True)
class Items:
    """Item side of the predictor for all items."""

    vectors: Tensor  # x_i, (item, state_dim)
    offsets: Tensor  # x_i . m_0 + b_i, (item,)


def item_terms(layout: Layout, values: Globals, features: Tensor) -> Items:
    """Vectors and offsets from standardised text embeddings, features (item, embed_dim)."""
    scaled = features / math.sqrt(layout.embed_dim)
    vectors = scaled @ values["weight"].T / math.sqrt(layout.state_dim)
    if layout.emission != "choice":
        vectors = vectors + values["intercept"]
    if layout.residuals:
        vectors = vectors + values["residual"]
    offsets = scaled @ values["offset_weight"] + values["offset"] + vectors @ values["mean"]
    if "bias" in values:
        offsets = offsets + values["bias"]
    return Items(vectors, offsets)


def reliability(values: Globals, kind_index: Tensor) -> Tensor:
    """`rho_kind` per event; the reference kind has 1."""
    if "log_reliability" not in values:
        return torch.ones_like(kind_index, dtype=values["mean"].dtype)
    zero = values["log_reliability"].new_zeros(1)
    return torch.cat((zero, values["log_reliability"])).exp()[kind_index]


def emission_of(layout: Layout, values: Globals) -> OrderedEmission:
    """The scalar family at these parameters."""
    if layout.emission == "rating":
        return OrderedEmission(increasing_cuts(values["raw_cuts"]))
    if layout.emission == "gaussian":
        from bayes_interest.emissions.gaussian import GaussianEmission

        return GaussianEmission((2.0 * values["log_noise_scale"]).exp())  # type: ignore[return-value]
    return bernoulli_emission(values["mean"])


def layout_dict(layout: Layout) -> dict[str, object]:
    """Fields as plain values, for JSON."""
    return {field.name: getattr(layout, field.name) for field in fields(layout)}
