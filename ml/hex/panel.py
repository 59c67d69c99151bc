"""The 40 markers of HEX in the order of the released label tables (channel 1 first)."""

_NAMES = (
    "DAPI|CD8|Pan-Cytokeratin|CD3e|CD163|CD20|CD4|FAP|CD138|CD11c|CD66b|aSMA|CD68|Ki67|CD31|Collagen IV|Granzyme B|MMP9|PD-1|CD44|"
    "PD-L1|E-cadherin|LAG3|Mac2/Galectin-3|FOXP3|CD14|EpCAM|CD21|CD45|MPO|TCF-1|ICOS|Bcl-2|HLA-E|CD45RO|VISTA|HIF1A|CD39|CD40|HLA-DR"
)
HEX_PANEL: tuple[str, ...] = tuple(_NAMES.split("|"))
