"""Training: CODI from nothing and over a backbone. Alone knows peft."""
