"""What all tests have in common."""

from hypothesis import HealthCheck, settings

# A machine that does other work as well is no fault of what is tried here.
settings.register_profile("promptedge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("promptedge")
