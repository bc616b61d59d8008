"""Clients of the controller: certificates (`identity`) and config (`discovery`)."""
