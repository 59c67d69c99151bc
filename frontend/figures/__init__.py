"""One typed description per figure, drawn by more than one hand: plotly on dashboards, SVG on pages."""
