"""Kaplan-Meier curves for the screen, by plotly, with numbers at risk in a panel under the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .survival import Curve, SurvivalFigure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INK, GRID = "#14212c", "#e6ebef"
ROW_PX, PLOT_PX, AXIS_PX = 38, 380, 96


def draw(figure: SurvivalFigure, *, bands: bool = True) -> Figure:
    """A plotly figure; its height grows with the number of groups. bands: draw the intervals."""
    from plotly.subplots import make_subplots

    rows = max(1, len(figure.curves))
    height = PLOT_PX + AXIS_PX + ROW_PX * (rows + 1)
    picture = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.16, row_heights=[PLOT_PX, ROW_PX * (rows + 1)])
    for curve in figure.drawn:
        if bands and curve.band:
            picture.add_trace(_band(curve), row=1, col=1)
        picture.add_trace(_line(curve, figure.unit), row=1, col=1)
        if curve.censored:
            picture.add_trace(_ticks(curve), row=1, col=1)
    for place, curve in enumerate(figure.curves):
        _at_risk(picture, figure, curve, rows - place)
    ticks = list(figure.ticks)
    picture.update_layout(
        height=height,
        margin={"l": 64, "r": 16, "t": 40, "b": 24},
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        paper_bgcolor="#fff",
        plot_bgcolor="#fff",
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    picture.update_yaxes(range=[0, 1.02], tickformat=".0%", gridcolor=GRID, zerolinecolor=INK, title=_title(figure.y_label), row=1, col=1)
    picture.update_xaxes(
        range=[0, figure.x_max * 1.01],
        tickvals=ticks,
        ticktext=[f"{t:.0f}" for t in ticks],
        gridcolor=GRID,
        showticklabels=True,
        title=_title(figure.x_label),
        row=1,
        col=1,
    )
    picture.update_xaxes(visible=False, range=[0, figure.x_max * 1.01], row=2, col=1)
    picture.update_yaxes(visible=False, range=[0.3, rows + 1.2], row=2, col=1)
    picture.add_annotation(
        text="<b>At risk</b>", x=0, y=rows + 0.8, xanchor="left", xshift=-8, showarrow=False, font={"size": 12}, row=2, col=1
    )
    return picture


def _title(text: str) -> dict[str, object]:
    return {"text": text, "font": {"size": 13}}


def _line(curve: Curve, unit: str) -> object:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=list(curve.time),
        y=list(curve.survival),
        mode="lines",
        name=f"{curve.name} (n {curve.n}, {curve.events} events)",
        legendgroup=curve.name,
        line={"shape": "hv", "color": curve.colour, "dash": curve.dash, "width": 2.4},
        hovertemplate=f"%{{y:.1%}} at %{{x:.1f}} {unit}<extra>{curve.name}</extra>",
    )


def _band(curve: Curve) -> object:
    from plotly.graph_objects import Scatter

    from .svg import steps

    end = curve.time[-1]
    upper = steps([(t, hi) for t, _, hi in curve.band] + [(end, curve.band[-1][2])])
    lower = steps([(t, lo) for t, lo, _ in curve.band] + [(end, curve.band[-1][1])])
    around = upper + lower[::-1]
    return Scatter(
        x=[x for x, _ in around],
        y=[y for _, y in around],
        fill="toself",
        fillcolor=curve.colour,
        opacity=0.14,
        line={"width": 0},
        mode="lines",
        legendgroup=curve.name,
        showlegend=False,
        hoverinfo="skip",
    )


def _ticks(curve: Curve) -> object:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[t for t, _ in curve.censored],
        y=[s for _, s in curve.censored],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 8, "color": curve.colour},
        legendgroup=curve.name,
        showlegend=False,
        hoverinfo="skip",
    )


def _at_risk(picture: Figure, figure: SurvivalFigure, curve: Curve, height: int) -> None:
    """Two lines per group: its name, then its numbers in the colour of its curve (never colour alone)."""
    place = {"row": 2, "col": 1, "showarrow": False}
    name = f"{curve.name}: n {curve.n}, too few to draw" if curve.suppressed else curve.name
    picture.add_annotation(text=name, x=0, y=height + 0.2, xanchor="left", xshift=-8, font={"size": 12}, **place)
    for tick, n in zip(figure.ticks, curve.at_risk):
        font = {"size": 12, "color": curve.colour}
        picture.add_annotation(text=str(n), x=tick, y=height - 0.25, xanchor="center", font=font, **place)
