"""Years of certificates against a simulated CA and clock."""
