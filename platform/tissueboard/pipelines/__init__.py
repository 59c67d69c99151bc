"""Which steps make a case or a trained model: declared chains of jobs."""
