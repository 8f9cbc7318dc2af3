"""The sections on the model itself and on what it cannot do."""

from __future__ import annotations

from bayes_interest.report.document.asked import Asked
from bayes_interest.report.document.blocks import Block, Drawing, Section, Text
from bayes_interest.report.document.model_graph import covariate_names, graph, words
from bayes_interest.report.document.words import listed, many, number, percent

MEANING = {
    "bernoulli": "the probability that a user engages with an item, given that it is shown",
    "rating": "the probability that a user rates an item {level:g} or higher, given a rating",
    "choice": "the probability that a user's next choice is this item, among all known items",
}


def meaning(asked: Asked) -> str:
    """What an interest probability is, in this model."""
    threshold = asked.posterior.config.positive_threshold
    if asked.emission == "bernoulli" and threshold is not None:
        return (
            f"the probability that a user gives an item a value of {threshold:g} or more, given "
            "that the user meets it"
        )
    levels = asked.posterior.vocabulary.levels
    level = levels[asked.posterior.level] if asked.emission == "rating" else 0.0
    return MEANING[asked.emission].format(level=level)


def model_section(asked: Asked) -> Section:
    """What is assumed, in words and as a graph."""
    layout = asked.posterior.layout
    caption = "Square boxes are data, round ones are learned. Arrows point from cause to effect."
    blocks: list[Block] = [
        Text(
            f"Interest here is {meaning(asked)}. Its mean is shown, and an interval that holds it "
            f"with probability {percent(asked.prob)}; chance in the outcome itself is not mixed in."
        ),
        Text(" ".join(_story(asked))),
        Drawing(graph(layout), words(layout), caption),
    ]
    mapped = asked.posterior.recalibration
    if mapped is not None:
        blocks.append(
            Text(
                f"Probabilities are recalibrated: a map ({mapped.method}), learned from "
                f"{many(len(mapped.evidence), 'later event')}, is part of every answer below."
            )
        )
    return Section("model", "The model", tuple(blocks))


def _story(asked: Asked) -> list[str]:
    posterior, layout = asked.posterior, asked.posterior.layout
    told = [
        f"Every user has a latent interest of {many(layout.state_dim, 'number')} that moves by a "
        "random walk in time: the longer nobody looks, the less is known."
    ]
    if layout.half_life_days:
        told.append(
            f"It falls back to the average with a half-life of {layout.half_life_days:g} days."
        )
    if layout.event_drift:
        told.append("It also moves with every event.")
    if posterior.has_text.any():
        told.append(
            "An item stands where its text says"
            + (", corrected by a residual of its own." if layout.residuals else ".")
        )
    elif layout.residuals:
        told.append("No item has a text; each is known by its events.")
    told.append("The closer an item lies to a user's interest, the more probable it is.")
    if names := covariate_names(layout):
        told.append(f"Beside interest count {listed(names)}.")
    if layout.context_layers:
        told.append(
            f"A network over the last {layout.context_events} events adds what the moment asks for."
        )
    if layout.n_kinds > 1:
        kinds = posterior.vocabulary.kinds
        told.append(
            f"Events are of {len(kinds)} kinds that count differently; probabilities are about "
            f"the kind {kinds[0]}."
        )
    n_members = len(posterior.members)
    told.append(
        f"Intervals also hold what is unknown of the global parameters, by {n_members} draws."
        if n_members
        else "The global parameters are point estimates; what is unknown of them is not in the "
        "intervals."
    )
    return told


def limits_section(asked: Asked) -> Section:
    """What this model, as it is configured, cannot tell."""
    return Section("limits", "Limits", tuple(Text(line) for line in _limits(asked)))


def _limits(asked: Asked) -> list[str]:
    posterior, layout = asked.posterior, asked.posterior.layout
    lines = []
    if not posterior.members:
        drawn = "FitConfig(n_members=16) draws them."
        if layout.emission == "choice":
            drawn = f"With a small log and catalogue {drawn}"
        lines.append(
            "Drift scales, text weights, the mean state and the like are points here, so intervals "
            "are too narrow." + ("" if layout.context_layers else f" {drawn}")
        )
    if layout.kinds.names and not (posterior.members and layout.emission == "choice"):
        lines.append(
            "Weights of circumstances are points: their uncertainty is not in the intervals."
        )
    if layout.emission == "choice":
        lines += [
            "A choice model says which known item comes next, not whether anything comes.",
            "Each dimension of interest is smoothed on its own: correlations between dimensions "
            "at one moment are left out of the intervals.",
        ]
    else:
        lines.append(
            "Interest is what a user would do if the item were shown. It does not say that the "
            "user would come to it unasked."
        )
    if layout.half_life_days is None:
        lines.append(
            "A pure random walk grows without bound: of somebody back after years the model is "
            "less sure than of a newcomer. ModelConfig(half_life_days=...) stops it."
        )
    without = int((~posterior.has_text).sum())
    if without:
        share = percent(without / max(layout.n_items, 1))
        lines.append(
            f"{share} of the items have no text: until they have events, nothing is known of them."
        )
    if not layout.residuals:
        lines.append("Items have no residual: two items with the same text are the same item.")
    if layout.context_layers:
        together = bool((posterior.item_cov == 0.0).flatten(1).all(1).any())
        what = "network and its items are points" if together else "network is a point estimate"
        lines.append(f"The context {what}; its uncertainty is not shown.")
    lines.append(
        "Updates after the fit move users; items only where they are asked to (learn_items). "
        "Pictures over time are drawn with hindsight: never judge the model's foresight by them."
    )
    lines.append(f"Everything random in this report was drawn with seed {number(asked.seed)}.")
    return lines
