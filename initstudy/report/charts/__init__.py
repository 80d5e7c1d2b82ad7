"""The charts of a study, as Vega-Lite specifications."""
