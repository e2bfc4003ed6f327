"""How XLA is set up."""

from pipeline.flight.device import xla_flags


def test_a_run_is_deterministic_unless_it_is_told_otherwise() -> None:
    assert "--xla_gpu_deterministic_ops=true" in xla_flags("").split()
    given = "--xla_gpu_deterministic_ops=false --xla_dump_to=/tmp/x"
    flags = xla_flags(given)
    assert flags.startswith(given)
    assert flags.count("deterministic_ops") == 1
    assert xla_flags(flags) == flags
