"""Run a plan: give its studies to workers, keep the ledger, and say what became of each."""
