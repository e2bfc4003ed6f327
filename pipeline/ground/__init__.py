"""What people look at: plan, evaluate, sample, verify, report, export, downlink, the closing table; and what measures
this machine: calibrate, bench. The directory of a run that is looked at is never written to."""
