"""The model as a graph of boxes and arrows, laid out by hand, drawn from the actual layout."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from bayes_interest.model.parameters import Layout

WIDTH, HEIGHT, LESS = 880, 428, 54
HALF_WIDTH, HALF_HEIGHT = 66.0, 22.0


@dataclass(frozen=True)
class Box:
    """A quantity by the middle of its box; a `seen` one is data."""

    x: float
    y: float
    name: str
    about: str
    seen: bool = False


def boxes_of(layout: Layout) -> dict[str, Box]:
    """The quantities that this model has."""
    dim, names = layout.state_dim, covariate_names(layout)
    boxes = {
        "weights": Box(430, 28, "text weights", f"{dim} × {layout.embed_dim} numbers"),
        "text": Box(262, 102, "item text", "as a vector", seen=True),
        "item": Box(430, 135, "item", f"{dim} numbers, offset"),
        "drift": Box(80, 320, "drift scales", "per sqrt day"),
        "before": Box(262, 320, "interest before", f"{dim} numbers"),
        "now": Box(430, 320, "interest now", f"{dim} numbers"),
        "score": Box(640, 228, "predictor", "in logits"),
        "outcome": Box(800, 228, *OUTCOMES[layout.emission], seen=True),
    }
    if layout.residuals:
        boxes["residual"] = Box(262, 168, "residual", "beside the text")
    if names:
        boxes["covariates"] = Box(640, 110, "circumstances", "of the moment", seen=True)
    if layout.context_layers:
        boxes["context"] = Box(430, 382, "context", f"last {layout.context_events} events")
    if layout.n_kinds > 1:
        boxes["kinds"] = Box(640, 340, "reliability", f"of {layout.n_kinds} kinds")
    return boxes


OUTCOMES = {
    "bernoulli": ("engaged?", "yes or no"),
    "rating": ("rating", "ordered levels"),
    "choice": ("choice", "among all items"),
    "gaussian": ("value", "a number"),
}
ARROWS = (
    ("weights", "item"), ("text", "item"), ("residual", "item"), ("drift", "before"),
    ("before", "now"), ("item", "score"), ("now", "score"), ("context", "score"),
    ("covariates", "score"), ("kinds", "score"), ("score", "outcome"),
)  # fmt: skip


def covariate_names(layout: Layout) -> list[str]:
    """What of the moment shifts the predictor, in words."""
    found = []
    if layout.popularity_days:
        days = ", ".join(f"{days:g}" for days in layout.popularity_days)
        found.append(
            f"how much an item was met lately (fading with half-lives of {days} days) and when last"
        )
    if layout.repeats:
        found.append("how often the user met the item before")
    if layout.succession:
        found.append("what usually follows the user's last items")
    if layout.likeness:
        found.append("how like the texts of the user's last items are")
    if layout.rates:
        found.append("running rates of the user and of the item")
    return found


def graph(layout: Layout) -> str:
    """The drawing as SVG; it takes its colours from the page."""
    boxes = boxes_of(layout)
    arrows = [_arrow(boxes[a], boxes[b]) for a, b in ARROWS if a in boxes and b in boxes]
    height = HEIGHT if layout.context_layers else HEIGHT - LESS
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(words(layout))}">',
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path class="head" d="M0 0L10 5L0 10z"/>'
        "</marker></defs>",
        _plate(180, 66, 332, 146, "each item"),
        _plate(180, 284, 332, 136 if layout.context_layers else 82, "each user, each event"),
        *arrows,
        *(_box(box) for box in boxes.values()),
        "</svg>",
    ]
    return "".join(parts)


def words(layout: Layout) -> str:
    """What the drawing shows."""
    boxes = boxes_of(layout)
    into = [boxes[a].name for a, b in ARROWS if b == "score" and a in boxes]
    return (
        "Graph of the model: interest before and drift scales lead to interest now; text weights, "
        f"item text{' and residual' if layout.residuals else ''} lead to the item; "
        f"{', '.join(into)} lead to the predictor, and that to the {boxes['outcome'].name}."
    )


def _plate(x: float, y: float, width: float, height: float, name: str) -> str:
    return (
        f'<rect class="plate" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
        f'<text class="small corner" x="{x + width - 8}" y="{y + height - 7}">{escape(name)}</text>'
    )


def _box(box: Box) -> str:
    left, top = box.x - HALF_WIDTH, box.y - HALF_HEIGHT
    kind = "box seen" if box.seen else "box"
    return (
        f'<rect class="{kind}" x="{left}" y="{top}" width="{2 * HALF_WIDTH}" '
        f'height="{2 * HALF_HEIGHT}" rx="{4 if box.seen else 20}"/>'
        f'<text x="{box.x}" y="{box.y - 2}">{escape(box.name)}</text>'
        f'<text class="small" x="{box.x}" y="{box.y + 13}">{escape(box.about)}</text>'
    )


def _arrow(source: Box, target: Box) -> str:
    """A straight line from border to border."""
    dx, dy = target.x - source.x, target.y - source.y
    shares = [
        half / abs(step)
        for half, step in ((HALF_WIDTH + 2, dx), (HALF_HEIGHT + 2, dy))
        if step != 0
    ]
    share = min(shares)
    points = [
        source.x + share * dx, source.y + share * dy, target.x - share * dx, target.y - share * dy,
    ]  # fmt: skip
    x1, y1, x2, y2 = (f"{value:.1f}" for value in points)
    return f'<line class="arrow" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#head)"/>'
