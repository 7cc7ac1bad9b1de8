"""Training: CODI from scratch and over a backbone. Only this room knows peft."""
