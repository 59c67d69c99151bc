"""MICA: an H&E bag and a virtual-CODEX bag of one slide -> discrete-time survival, by co-attention. Importing this package imports no
torch.
"""
