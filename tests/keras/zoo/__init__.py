"""KerasHub's models under adoption: python -m tests.keras.zoo."""
