"""Floor 3: data modules, training modules, the certification predict loop and its journal."""
