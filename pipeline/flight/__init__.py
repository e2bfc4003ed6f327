"""The running job, and the only place with side effects: launch, loop, governor, clock, notices, ledger."""
