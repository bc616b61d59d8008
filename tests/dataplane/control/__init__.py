"""Tests of the controller's clients, against a controller that speaks the real protocols over real TLS."""
