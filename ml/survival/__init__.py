"""Statistics of time-to-event data that agree with R `survival`, and the family "cox_summary"."""
