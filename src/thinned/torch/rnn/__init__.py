"""LSTM and GRU with dropout inside."""
