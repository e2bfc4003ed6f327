"""The running job: launch, loop, governor, clock, notices, ledger."""
