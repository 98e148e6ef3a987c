"""Denoisers: U-Nets, schedules, the reverse process, losses."""
