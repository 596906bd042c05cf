"""How good are the estimates of the hardware profiles? `make profiles-accuracy` writes docs/profiles.md."""
