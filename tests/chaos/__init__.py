"""Kill real servers at named points and at random moments, start them again, and count what went wrong."""
