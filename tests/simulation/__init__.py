"""What growth costs, on paper: a simulation fed by measured service times (docs/scale.md)."""
