"""The global parameters: what they are, their priors, and the linear predictor they define.

`a(u, i, t) = rho_kind * ( x_i . (m_0 + y_u(t) + c_u(t)) + b_i + w . s_ui(t) )`
with `x_i = W phi_i + r_i` and `b_i = b + w_b . phi_i + e_i`; `y` starts at N(0, I) and walks,
`s` are the covariates of `events/surroundings.py`, `c` the context of `context.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bayes_interest.emissions.ordered import OrderedEmission, bernoulli_emission, increasing_cuts
from bayes_interest.events.surroundings import Kinds

COVARIATES = "covariate_weight"
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
CONTEXT, CONTEXT_HEADS = "context_", 2


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
    popularity_days: tuple[float, ...] = ()
    repeats: bool = False
    succession: bool = False
    likeness: bool = False
    rates: bool = False
    half_life_days: float | None = None
    log_drift_centre: tuple[float, ...] = ()
    event_drift: bool = False  # interest also moves with every event, not only with time
    context_layers: int = 0  # of the context network; 0 is none
    context_dim: int = 64
    context_events: int = 50  # how far back a layer of it looks

    @property
    def kinds(self) -> Kinds:
        """Which covariates the predictor has."""
        top = float(self.n_levels - 1) if self.emission == "rating" else 1.0
        return Kinds(
            self.popularity_days, self.repeats, self.succession, self.likeness, self.rates, top
        )

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
        if self.kinds.names:
            shapes |= {COVARIATES: (len(self.kinds.names),)}
        if self.context_layers:
            shapes |= self._context_shapes()
        return shapes

    def _context_shapes(self) -> dict[str, tuple[int, ...]]:
        width, dim = self.context_dim, self.state_dim
        shapes: dict[str, tuple[int, ...]] = {
            "context_item": (width, dim),
            "context_gap": (width, 4),
            "context_wait": (width, 4),
            "context_head": (dim, width),
        }
        if self.emission != "choice":
            shapes |= {"context_outcome": (width,)}
        if self.n_kinds > 1:
            shapes |= {"context_kind": (self.n_kinds, width)}
        for layer in range(self.context_layers):
            shapes |= {
                f"context_qkv_{layer}": (3 * width, width),
                f"context_distance_{layer}": (CONTEXT_HEADS, self.context_events),
                f"context_out_{layer}": (width, width),
                f"context_up_{layer}": (2 * width, width),
                f"context_down_{layer}": (width, 2 * width),
            }
        return shapes


Globals = dict[str, Tensor]

PRIOR_SCALES = {
    "weight": 1.0,
    "offset_weight": 1.0,
    "mean": 1.0,
    "intercept": 0.5,
    "bias": 3.0,
    "log_reliability": 0.5,
    COVARIATES: 2.0,
    "log_drift": 1.5,
    "log_residual_scale": 1.0,
    "log_offset_scale": 1.0,
    "raw_cuts": 2.0,
    "log_noise_scale": 1.0,
    "log_event_drift": 1.5,
}
EVENT_DRIFT_RANGE = {"choice": (-3.0, -0.5), "bernoulli": (-5.0, -2.0), "rating": (-5.0, -2.0)}
"""Log sd per event of the slowest and the fastest dimension to start from."""
BY_MOMENTS = ("log_residual_scale", "log_offset_scale")
"""Scales of effects: found from the effects' moments, never by ascent."""
WALKS = ("log_drift", "log_event_drift")
"""Scales of the walk, of each state dimension."""
SCALE_CENTRES = {"log_residual_scale": math.log(0.1), "log_offset_scale": math.log(0.5)}

RAW_CUTS_CENTRE = -0.5


def prior(layout: Layout, name: str, values: Globals, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of the Normal prior of one parameter, given those before it.

    Scales and reliabilities are kept as logarithms, so a Normal here is a LogNormal on them.
    """
    shape = layout.shapes()[name]
    mean = like.new_zeros(shape)
    if name == "log_drift":
        mean = like.new_tensor(layout.log_drift_centre)
    elif name == "log_event_drift":
        mean = torch.linspace(*EVENT_DRIFT_RANGE[layout.emission], shape[0]).to(like)
    elif name in SCALE_CENTRES:
        mean = like.new_tensor(SCALE_CENTRES[name])
    elif name == "raw_cuts":
        mean = like.new_full(shape, RAW_CUTS_CENTRE)
    if name == "residual":
        scale = values["log_residual_scale"].exp().expand(shape)
    elif name == "offset":
        scale = values["log_offset_scale"].exp().expand(shape)
    elif name.startswith(CONTEXT):
        fan_in = shape[-1] if len(shape) > 1 and "distance" not in name else 1
        scale = like.new_full(shape, 1.0 / math.sqrt(fan_in))
    else:
        scale = like.new_full(shape, PRIOR_SCALES[name])
    return mean, scale


def log_prior(layout: Layout, values: Globals) -> Tensor:
    """Log prior density of all parameters (of the logarithms, where so kept), a scalar."""
    centre, scale = flat_prior(layout, values)
    away = (flat_values(layout, values) - centre) / scale
    return -0.5 * (away * away).sum() - (scale.log() + HALF_LOG_TWO_PI).sum()


def flat_prior(layout: Layout, values: Globals) -> tuple[Tensor, Tensor]:
    """Means and scales of the Normal priors of all parameters in one row, (number,) each."""
    each = [prior(layout, name, values, values["mean"]) for name in layout.shapes()]
    centre, scale = ([part.reshape(-1) for part in parts] for parts in zip(*each, strict=True))
    return torch.cat(centre), torch.cat(scale)


def flat_values(layout: Layout, values: Globals) -> Tensor:
    """All parameters in one row, (number,)."""
    return torch.cat([values[name].reshape(-1) for name in layout.shapes()])


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
        mean, scale = prior(layout, name, values, like)
        values[name] = mean.clone()
        if name.startswith(CONTEXT) and name != "context_head":  # so that it starts at nothing
            noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(like)
            values[name] = 0.7 * scale * noise
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


def weighed(covariates: Tensor, weight: Tensor) -> Tensor:
    """`covariates @ weight`, (..., covariate) to (...); its bits do not depend on the place."""
    total = covariates[..., 0] * weight[0]
    for column in range(1, len(weight)):
        total = total + covariates[..., column] * weight[column]
    return total


def layout_dict(layout: Layout) -> dict[str, object]:
    """Fields as plain values, for JSON."""
    return {field.name: getattr(layout, field.name) for field in fields(layout)}
