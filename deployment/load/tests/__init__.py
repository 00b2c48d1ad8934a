"""Tests of `make load`."""
