import platform
import socket

from kinetrack.tracking.host import SystemMonitor, host_facts


def test_facts_say_what_a_result_depends_on() -> None:
    facts = host_facts()
    assert facts["host.system"].startswith(platform.system())
    assert int(facts["host.cores"]) >= 1
    assert int(facts["host.memory_gb"]) >= 1
    assert facts["version.python"] == platform.python_version()
    assert {f"version.{name}" for name in ("torch", "numpy", "av", "dvc", "mlflow")} <= set(facts)
    assert all(facts.values())


def test_facts_do_not_name_the_machine() -> None:
    assert socket.gethostname() not in str(host_facts())


def test_sample_is_of_the_time_since_the_last_one() -> None:
    monitor = SystemMonitor()
    monitor.sample()
    sum(number * number for number in range(300_000))
    metrics = monitor.sample()
    assert metrics["system/cpu_utilization_percentage"] > 0
    assert all(key.startswith("system/") for key in metrics)
    assert all(isinstance(value, float) for value in metrics.values())
