"""Many models on many devices: flow.py is read first, plan.py is what SWEEP.toml says, ledger.py is what was done."""
