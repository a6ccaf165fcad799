"""Training beyond one closed form: schedules simulated pass by pass."""

from ridgepoint.training.schedule import ORDERS, Pass, Span, TimeLine, simulate

__all__ = ["ORDERS", "Pass", "Span", "TimeLine", "simulate"]
