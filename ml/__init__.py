"""What is computed: models, statistics and geometry. PyTorch, no Django, no database; usable alone in a notebook."""
