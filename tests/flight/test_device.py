"""How XLA is set up."""

from pipeline.flight.device import xla_flags


def test_a_run_is_deterministic_unless_it_is_told_otherwise() -> None:
    assert "--xla_gpu_deterministic_ops=true" in xla_flags("", "auto").split()
    given = "--xla_gpu_deterministic_ops=false --xla_dump_to=/tmp/x"
    flags = xla_flags(given, "auto")
    assert flags.startswith(given)
    assert flags.count("deterministic_ops") == 1
    assert xla_flags(flags, "auto") == flags


def test_a_cpu_compiles_at_the_second_level_and_a_gpu_as_it_always_does() -> None:
    assert "--xla_backend_optimization_level=2" in xla_flags("", "cpu").split()
    assert "optimization_level" not in xla_flags("", "cuda")
    assert xla_flags("--xla_backend_optimization_level=3", "cpu").count("optimization_level") == 1
